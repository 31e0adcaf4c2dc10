"""Where to keep what can be made again, when neither the package nor HOME can be written."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def scratch_folder() -> Path | None:
    """Return a folder of this user's own in the system's temporary one, None where there can be none.

    Compiled code that is kept there will be run: a folder that another user made, or can write, is not taken.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"vitdyn-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()  # of a link itself: it may lead anywhere
    except OSError:
        return None
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return folder if is_own else None
