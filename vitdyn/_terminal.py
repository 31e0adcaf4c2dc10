"""What a command owes the terminal it runs in: text that any encoding takes, and one line however it ends."""

from __future__ import annotations

import codecs
import errno
import os
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vitdyn._errors import is_out_of_memory
from vitdyn._signals import TERMINATED, Terminated, interrupted_by_sigterm

_PLAIN = {"−": "-", "–": "-", "—": "-", "×": "x", "·": "*", "±": "+-", "≈": "~", "≤": "<=", "≥": ">=", "→": "->",
          "←": "<-", "²": "^2", "√": "sqrt", "∞": "inf", "ₛ": "_s", "Σ": "Sum"}  # fmt: skip
"""What stands for a character that an output cannot show; Greek letters are named, the rest is escaped."""

_BOX = str.maketrans(
    dict.fromkeys("─━╌", "-") | dict.fromkeys("│┃", "|") | dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼", "+")
)


def speak_plainly() -> None:
    """Let standard output and error take every character, whatever their encoding.

    What it lacks is transliterated (κ: "kappa") or escaped; so are the bytes of a file name that is no UTF-8. Without
    this a Greek letter in a table would end a run that has nothing to do with letters.
    """
    codecs.register_error("vitdyn.plainly", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where a caller put a stream of its own
            stream.reconfigure(errors="vitdyn.plainly")


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = "".join(_plain(letter) for letter in error.object[error.start : error.end])
    return text, error.end


def _plain(letter: str) -> str:
    known = _PLAIN.get(letter) or letter.translate(_BOX)
    if known.isascii():
        return known
    greek = unicodedata.name(letter, "").replace("LAMDA", "LAMBDA").split()
    if greek[:1] == ["GREEK"] and len(greek) == 4:  # GREEK SMALL LETTER KAPPA
        return greek[3].capitalize() if greek[1] == "CAPITAL" else greek[3].lower()
    return letter.encode("ascii", "backslashreplace").decode()


def ending(work: Callable[[], int | None], program: str, *, goes_on: str = "") -> int:
    """Carry out a command; return its exit status, after one line on standard error where it cannot go on.

    0 done (or the status that ``work`` returns), 1 diverged or out of memory, 2 bad input, a missing package, or a
    place where nothing can be written (a full disk, too), 130 interrupted (Ctrl-C), 141 nobody reads the output any
    more, 143 terminated (SIGTERM). Other errors are faults of ours and keep their traceback. ``goes_on`` says what an
    interrupt leaves.
    """
    try:
        speak_plainly()
        with interrupted_by_sigterm(), _warnings_in_one_line(program):
            status = work() or 0
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except KeyboardInterrupt as end:
        status, words = (TERMINATED, "terminated") if isinstance(end, Terminated) else (130, "interrupted")
        words += f"; {goes_on}" if goes_on else ""
    except BrokenPipeError:
        _close_output()
        return 141
    except (ValueError, ArithmeticError, ImportError, OSError, MemoryError, RuntimeError) as error:
        told = _told(error)
        if told is None:
            raise
        status, words = told
    print(f"{program}: {words}", file=sys.stderr, flush=True)
    return status


@contextmanager
def _warnings_in_one_line(program: str) -> Iterator[None]:
    """Print a warning as a command says things, without the place in the code that raised it."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *given: f"{program}: {' '.join(str(message).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def _told(error: Exception) -> tuple[int, str] | None:
    """Return the exit status and the one line for an error that is no fault of vitdyn's, None for one that is."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and not isinstance(error, ValueError):
        if error.errno == errno.ENOSPC:
            _close_output()
        return 1, _told_of_system(error)
    if is_out_of_memory(error):
        return 1, f"out of memory ({text or 'no details'}): take fewer patches, samples or seeds"
    if isinstance(error, ValueError):
        return 2, text
    if isinstance(error, ArithmeticError):
        return 1, text
    return (2, text) if isinstance(error, ImportError) and "pip install" in text else None


def _told_of_system(error: OSError) -> str:
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    where = f"{os.fsdecode(error.filename)!r}: " if error.filename is not None else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return where + (
        f"{reason}: free some space, or name another folder, and run this again" if full else reason
    )


def _close_output() -> None:
    """Send what is still buffered nowhere: the interpreter would fail on it again when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            if stream is not None and stream is sys.stdout:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
