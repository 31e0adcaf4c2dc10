"""``vitdyn list | figures | env``: what there is, all figures, this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from vitdyn._errors import wrong
from vitdyn.cli.objective import first_line


@dataclass(frozen=True, kw_only=True)
class List:
    """List what there is: objectives, laws, rules of descent, claims."""

    def __call__(self) -> int:
        """Print the lists."""
        from vitdyn.claims import CLAIMS
        from vitdyn.data import LAWS
        from vitdyn.dynamics import DESCENTS
        from vitdyn.objectives import OBJECTIVES

        sections = {
            "objectives": {kind.name: f"({kind.family}) {first_line(kind)}" for kind in OBJECTIVES},
            "laws of the latents": {name: first_line(kind) for name, kind in LAWS.items()},
            "rules of descent": {name: first_line(kind) for name, kind in DESCENTS.items()},
            "claims": {claim.id: claim.statement for claim in CLAIMS},
        }
        for title, entries in sections.items():
            print(title)
            for name, text in entries.items():
                print(f"  {name:<17} {text}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Regenerate the figures from simulations, by running every script of the sims folder in order."""

    sims: Path = Path("sims")
    """Folder of the scripts (they live in the repository, not in the installed package)."""
    out: Path = Path("figures")
    """Folder for PDF, PNG and the drawn numbers."""
    results: Path = Path("results")
    """Folder where runs are kept."""
    quick: bool = False
    """The small version of each figure, which is the default too."""
    redraw: bool = False
    """Draw from kept runs; never simulate."""
    anew: bool = False
    """Make kept results and checkpoints again that cannot be used."""

    def __call__(self) -> int:
        """Run the scripts one by one."""
        scripts = sorted(self.sims.glob("[0-9]*.py"))
        if not scripts:
            raise wrong("sims", str(self.sims), "holds no scripts: run this in a clone of the repository")
        asked = {"--quick": self.quick, "--redraw": self.redraw, "--anew": self.anew}
        flags = [flag for flag, wanted in asked.items() if wanted]
        places = ["--out", str(self.out), "--results", str(self.results)]
        for script in scripts:
            print(f"== {script}", flush=True)
            status = _run(script, [*flags, *places])
            if status:
                return status
        return 0


def _run(script: Path, arguments: list[str]) -> int:
    """Run a script in this process, which has loaded its libraries, as a process of its own; return how it ended."""
    import runpy

    before, sys.argv = sys.argv, [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    finally:
        sys.argv = before
    return 0


@dataclass(frozen=True, kw_only=True)
class Env:
    """Say what this machine and installation are: versions, device, what computes attention, threads."""

    def __call__(self) -> int:
        """Print the facts."""
        import platform

        import torch

        from vitdyn._version import version_of
        from vitdyn.attention import engine_name
        from vitdyn.dynamics import pick_device

        device = pick_device()
        facts = {
            "vitdyn": version_of("vitdyn"),
            "python": platform.python_version(),
            **{name: version_of(name) for name in ("torch", "numpy", "scipy", "xarray", "matplotlib")},
            "system": platform.platform(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU (no CUDA device)",
            "engine": engine_name(device.type),
            "threads": str(torch.get_num_threads()),
        }
        for name, value in facts.items():
            print(f"{name:<11} {value}")
        return 0
