"""numba's compiler with a cache on disk that does no harm: damaged code is compiled again, a full disk ends nothing."""

from __future__ import annotations

import hashlib
import pickle
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

from vitdyn._scratch import scratch_folder

_SEAL = b"vitdyn sha256 "
_DIGEST = 32

_said: set[str] = set()


def compiled(*, needs_folder: bool = True, **options: Any) -> Callable[[Any], Any]:
    """Return what compiles a function to code that releases the interpreter's lock and is kept on disk.

    Where no folder can be written that could hold it, raises ``RuntimeError``; or, without ``needs_folder``, each
    process compiles it for itself, as befits what takes a second.
    """

    def compile_function(function: Any) -> Any:
        made = numba.njit(nogil=True, **options)(function)
        try:
            made._cache = _cache_of(function)  # numba has no way to say which cache a function shall have
        except RuntimeError:
            if needs_folder:
                raise
        return made

    return compile_function


def _cache_of(function: Any) -> _Cautious:
    """Return a function's cache: where numba would have it, in a temporary folder where it can write nowhere else."""
    try:
        return _Cautious(function)
    except RuntimeError:
        if not (folder := scratch_folder()):
            raise
    settings: Any = numba.config
    named, settings.CACHE_DIR = settings.CACHE_DIR, str(folder / "numba")
    try:
        return _Cautious(function)
    finally:
        settings.CACHE_DIR = named  # for other packages' functions it is as it was


class _Cautious(FunctionCache):
    """A cache whose failures cost time and nothing else: those of numba's own end whoever calls the function."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file.__class__ = _Summed
        # numba compares the function's own file alone: code that calls what has changed beside it would be kept
        beside = [
            (path.name, path.stat()) for path in Path(function.__code__.co_filename).parent.glob("*.py")
        ]
        stamps = sorted((name, about.st_mtime, about.st_size) for name, about in beside)
        self._cache_file._source_stamp = stamps

    def load_overload(self, *given: Any) -> Any:
        """Return kept code, None where there is none or it is damaged."""
        try:
            found = super().load_overload(*given)
            if found is None:
                _announce()
            return found
        except Exception as error:  # whatever unpickling what is no pickle can raise
            _say_once(
                f"compiled code in {self.cache_path} is damaged and is compiled again ({_words(error)})"
            )
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, *given: Any) -> None:
        """Keep code if the disk lets us."""
        try:
            super().save_overload(*given)
        except Exception as error:
            _say_once(
                f"compiled code cannot be kept in {self.cache_path} ({_words(error)}) and is compiled again by every "
                "process: make room, or name another folder in NUMBA_CACHE_DIR"
            )


class _Summed(IndexDataCacheFile):
    """Files that end in a checksum, which unpickling passes over: a flipped bit of machine code raises no error."""

    def _dump(self, obj: Any) -> bytes:
        data = super()._dump(obj)
        return data + _SEAL + hashlib.sha256(data).digest()

    def _load_index(self) -> Any:
        with suppress(FileNotFoundError), Path(self._index_path).open("rb") as file:
            pickle.load(file)  # numba's version; what follows is what ``_dump`` made
            _require_whole(file.read())
        return super()._load_index()

    def _load_data(self, name: str) -> Any:
        _require_whole(Path(self._data_path(name)).read_bytes())
        return super()._load_data(name)


def _announce() -> None:
    """Tell whoever waits at a terminal, once, what takes so long."""
    if sys.stderr.isatty() and "compiling" not in _said:
        _said.add("compiling")
        print("vitdyn: compiling for this machine, some ten seconds, once", file=sys.stderr)


def _require_whole(data: bytes) -> None:
    """Raise where data do not fit their checksum; those without one were kept by numba's own cache."""
    contents, seal = data[: -len(_SEAL) - _DIGEST], data[-len(_SEAL) - _DIGEST :]
    if seal.startswith(_SEAL) and seal[len(_SEAL) :] != hashlib.sha256(contents).digest():
        raise ValueError("it does not fit its checksum")


def _say_once(words: str) -> None:
    """Warn once of each folder and kind of trouble, though every function meets it."""
    if words.partition(" (")[0] not in _said:
        _said.add(words.partition(" (")[0])
        warnings.warn(words, RuntimeWarning, stacklevel=2)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
