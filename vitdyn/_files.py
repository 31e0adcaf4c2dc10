"""Files that are whole or not there: written beside their place and moved to it, with a checksum at their end.

A checksum is one line after the contents, which readers of netCDF4 and of zip archives pass over. It is compared before
anything parses the contents: a parser that meets a flipped bit may return other numbers, hang, or end the process.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

from vitdyn._errors import invalid_value

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # no POSIX: nobody can tell a live writer's scratch file from a dead one's
    flock = None  # type: ignore[assignment]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)

_SEAL = b"\nvitdyn sha256 %s\n"
_SEAL_BYTES = len(_SEAL % (b"0" * 64))
_SCRATCH = re.compile(r"\..+\.[0-9a-f]{16}\.vitdyn")


class DamagedFileError(Exception):
    """A file whose contents are not what was written; says in a few words what is wrong with it."""


def write_sealed(target: Path, write: Callable[[Any], object]) -> None:
    """Write a file whole or not at all: ``write`` fills an object that has ``write``, then comes the checksum."""
    with writable_beside(target) as scratch, scratch.open("wb") as file:
        summed = _Summed(file)
        write(summed)
        file.write(_SEAL % summed.digest.hexdigest().encode())


def read_sealed(path: Path) -> bytes:
    """Return what ``write_sealed`` wrote.

    Raises ``FileNotFoundError``, and ``DamagedFileError`` where contents do not fit the checksum or cannot be read.
    """
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFileError(f"cannot be read: {error.strerror}") from error
    contents, seal = stored[:-_SEAL_BYTES], stored[-_SEAL_BYTES:]
    if not seal.startswith(_SEAL[: _SEAL.index(b"%")]):
        raise DamagedFileError("no checksum at its end: cut short, or not written by this version of vitdyn")
    if seal != _SEAL % hashlib.sha256(contents).hexdigest().encode():
        raise DamagedFileError("damaged: its contents do not fit its checksum")
    return contents


class _Summed:
    """Passes on what is written, and sums it: reading the file again for its checksum would double the time."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, part: Any) -> int:
        """Write and sum a part."""
        self.digest.update(part)
        return self.file.write(part)

    def flush(self) -> None:
        """Write what is buffered."""
        self.file.flush()


@contextmanager
def writable_beside(target: Path) -> Iterator[Path]:
    """Lend a scratch path in the target's folder; it replaces the target on success and vanishes on failure.

    Raises ``ValueError`` where the folder cannot be made or written, the disk is full, or ``target`` is a folder.
    """
    handle, scratch = _scratch(target)
    try:
        yield scratch
        scratch.replace(target)  # in the same folder, so that the move is one step and never a copy
    except Exception as error:
        refused = _disk_error(error)
        if refused is None:
            raise
        raise _refusal(target, refused) from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        os.close(handle)


def require_writable(target: Path) -> None:
    """Raise ``ValueError`` unless a file could be written at ``target``.

    Its folder is made, and cleared of scratch files that killed processes left behind.
    """
    handle, scratch = _scratch(target)
    scratch.unlink()
    os.close(handle)
    _clear(target.parent)


def _scratch(target: Path) -> tuple[int, Path]:
    """Make a scratch file, locked while its handle is open: other processes thus see that its writer lives."""
    try:
        if target.is_dir():
            raise invalid_value(
                "out", str(target), "is a folder, where a file is to be written: name another"
            )
        if target.is_symlink() and not target.exists():
            words = "is a link to a file that is not there: remove it, or name another"
            raise invalid_value("out", str(target), words)
        target.parent.mkdir(parents=True, exist_ok=True)
        while True:
            path = target.with_name(f".{target.name[:40]}.{token_hex(8)}.vitdyn")
            # with the permissions that the umask leaves; some disks refuse to change them afterwards
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            if _locked(handle, wait=True):
                return handle, path
            # another process cleared the folder between the two calls, and took the file for left behind
            os.close(handle)
    except OSError as error:
        raise _refusal(target, error) from error


def _locked(handle: int, *, wait: bool) -> bool:
    """Lock an open scratch file, if its disk can; return whether the file is still there and no other process's."""
    if flock is None:
        return wait
    try:
        flock(handle, LOCK_EX if wait else LOCK_EX | LOCK_NB)
    except OSError:  # held by another process; or a disk without locks, where nothing is ever cleared
        return wait
    return os.fstat(handle).st_nlink > 0


def _clear(folder: Path) -> None:
    """Remove the scratch files of processes that are no more."""
    for path in folder.glob(".*.vitdyn"):
        if not _SCRATCH.fullmatch(path.name):
            continue
        with suppress(OSError):  # it is gone, or another user's
            handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _locked(handle, wait=False):
                    path.unlink()
            finally:
                os.close(handle)


def is_disk_error(error: BaseException) -> bool:
    """Return whether an error is of a disk or a folder that takes no file, not of what was to be written."""
    return _disk_error(error.__cause__) is not None or isinstance(error, OSError)


def _disk_error(error: BaseException | None) -> OSError | None:
    """Return what the system said, also where a library that closes its half of a file then fails in its own way."""
    if isinstance(error, OSError):
        return error
    while error is not None:
        error = error.__cause__ or error.__context__
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
    return None


def _refusal(target: Path, error: OSError) -> ValueError:
    reason = error.strerror or " ".join(str(error).split())
    return invalid_value(
        "out", str(target), f"cannot be written ({reason}): make room, or name another folder"
    )
