"""``vitdyn list | figures | env``: what there is, all figures, this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from vitdyn._errors import invalid_value
from vitdyn._version import version_of
from vitdyn.cli import catalogue


@dataclass(frozen=True, kw_only=True)
class List:
    """List what there is: objectives by family, models, distributions, optimizers, metrics, claims."""

    def __call__(self) -> int:
        """Print the lists."""
        objectives = catalogue.objectives()
        families = dict.fromkeys(each.family for each in objectives)
        sections = {
            f"objectives: {family}": [each for each in objectives if each.family == family]
            for family in families
        } | {
            "models": catalogue.models(),
            "distributions of the latents": catalogue.distributions(),
            "optimizers": catalogue.optimizers(),
            "metrics": catalogue.metrics(),
            "claims": catalogue.claims(),
        }
        for title, entries in sections.items():
            print(title)
            for each in entries:
                print(f"  {each.name:<19} {each.text}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Regenerate the figures from simulations, by running every script of the sims folder in order."""

    sims: Path | None = None
    """Folder of the scripts; those that came with vitdyn where it is left out."""
    out: Path = Path("figures")
    """Folder for PDF, PNG and the drawn numbers."""
    results: Path = Path("results")
    """Folder where runs are kept."""
    quick: bool = False
    """The small version of each figure, which is the default of most."""
    redraw: bool = False
    """Draw from kept runs; never simulate."""
    anew: bool = False
    """Make kept results and checkpoints again that cannot be used."""
    workers: int | None = None
    """How many processes train small Vision Transformers side by side; one to a core where it is left out."""

    def __call__(self) -> int:
        """Run the scripts one by one."""
        folder = self.sims or _own_scripts()
        scripts = sorted(folder.glob("[0-9]*.py"))
        if not scripts:
            raise invalid_value(
                "sims", str(folder), "holds no scripts: leave it out for those that came with vitdyn"
            )
        asked = {"--quick": self.quick, "--redraw": self.redraw, "--anew": self.anew}
        flags = [flag for flag, wanted in asked.items() if wanted]
        flags += [] if self.workers is None else ["--workers", str(self.workers)]
        places = ["--out", str(self.out), "--results", str(self.results)]
        for script in scripts:
            print(f"== {script}", flush=True)
            status = _run(script, [*flags, *places])
            if status:
                return status
        return 0


def _own_scripts() -> Path:
    """Return the folder of vitdyn's own scripts: a wheel has it inside the package, a clone beside it."""
    package = Path(__file__).parents[1]
    inside = package / "_sims"
    return inside if inside.is_dir() else package.parent / "sims"


def _run(script: Path, arguments: list[str]) -> int:
    """Run a script in this process, which has loaded its libraries, as a process of its own; return how it ended."""
    import runpy

    # A script reads its options where a process of its own would.
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
    """Say what this machine and installation are: versions, system, cores, GPUs."""

    probe: bool = False
    """Load torch too, which takes seconds: the device, kernels and threads that a run takes here."""

    def __call__(self) -> int:
        """Print the facts."""
        import os
        import platform

        packages = ("vitdyn", "torch", "numpy", "numba", "scipy", "xarray", "matplotlib")
        facts = {
            "python": platform.python_version(),
            **{name: version_of(name) for name in packages},
            "system": platform.platform(),
            "cores": str(os.cpu_count()),
            "GPUs": ", ".join(_gpus()) or "none that NVIDIA's driver knows",
            **(_probed() if self.probe else {"device": "vitdyn env --probe asks torch, which takes seconds"}),
        }
        for name, value in facts.items():
            print(f"{name:<11} {value}")
        return 0


def _gpus() -> list[str]:
    """Return the models of the GPUs that NVIDIA's driver knows, on Linux."""
    texts = (path.read_text() for path in Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = (line.partition(":") for text in texts for line in text.splitlines())
    return [value.strip() for field, _, value in lines if field == "Model"]


def _probed() -> dict[str, str]:
    """Return what torch and the kernels say of this machine."""
    import torch

    from vitdyn.dynamics.resources import pick_device
    from vitdyn.kernels.plan import backend_name

    device = pick_device()
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU (no CUDA device)",
        "engine": backend_name(device.type),
        "threads": str(torch.get_num_threads()),
    }
