"""matplotlib's own files where HOME cannot be written: it would warn in every process, and look for fonts in each."""

from __future__ import annotations

import os
from pathlib import Path

from vitdyn._scratch import scratch_folder

_PLACES = {"XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache"}
"""Where matplotlib keeps settings and its list of fonts: variables that name it, and what stands for them in HOME."""


def _can_be_made(folder: Path) -> bool:
    """Return whether a folder can be written, or made where it is not there."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def give_matplotlib_a_folder() -> None:
    """Name a temporary folder in MPLCONFIGDIR where matplotlib has none, unless the user names one."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  (Path.home() raises where there is none)
    folders = [Path(os.environ.get(name) or home / usual, "matplotlib") for name, usual in _PLACES.items()]
    if "MPLCONFIGDIR" in os.environ or all(map(_can_be_made, folders)):
        return
    if scratch := scratch_folder():
        os.environ["MPLCONFIGDIR"] = str(scratch / "matplotlib")


give_matplotlib_a_folder()
