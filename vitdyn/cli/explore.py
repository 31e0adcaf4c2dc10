"""``vitdyn explore``: a sweep as one page of phase diagrams, trajectories and verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True)
class Explore:
    """Write a page that shows the results of a sweep: phase diagrams, the trajectories behind each cell, verdicts.

    One file of HTML that needs no server and no network: open it from disk, or send it. Needs the extra "web".
    """

    folder: tyro.conf.Positional[Path]
    """Folder of a sweep, where ``vitdyn sweep`` put its results."""
    out: Path = Path("explorer.html")
    """File of the page."""
    verdicts: Path | None = None
    """Also show the verdicts in this file, which ``vitdyn check --json`` wrote; left out, those of the folder's
    verdicts.json, if there is one."""

    def __call__(self) -> int:
        """Write the page; say what it had no room for."""
        from vitdyn._files import require_writable
        from vitdyn.experiments import collect
        from vitdyn.pages.explore import read_verdicts, write_explorer

        require_writable(self.out)
        found = self.verdicts or self.folder / "verdicts.json"
        verdicts = read_verdicts(found) if self.verdicts or found.is_file() else []
        path, left_out = write_explorer(self.out, collect(self.folder), verdicts=verdicts, progress=True)
        print(f"page     {path}  ({path.stat().st_size / 1e6:.1f} MB)")
        if left_out:
            print(f"to keep the page small {'; '.join(left_out)}")
        return 0
