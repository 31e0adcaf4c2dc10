"""Try vitdyn with the oldest and the newest versions that pyproject.toml allows, under every Python at hand.

Each pair gets a folder of its own under ``--venvs``: uv resolves and installs, the wheel is put in, ``SMOKE`` is run
against it. Ends with a table and, where anything fails, with status 1. Run: ``make versions``, or for some of it
``python tests/versions.py --pythons 3.12 --versions oldest``. Wheels alone are taken, so that the oldest version is the
oldest of which a wheel for that Python exists.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest"}

EXTRAS = ("derivations", "sweep", "vits", "web")
"""What users install; tools for development are taken as they come."""

TOOLS = ("beartype", "hypothesis", "import-linter", "psutil", "pytest", "pyyaml")

SMOKE = ("test_front_door.py", "test_compiler.py", "test_trajectory.py", "metrics/test_spectra.py")
"""Every example of the front door, and what knows numba, netCDF and xarray best; some two minutes with ``COMMAND``."""

COMMAND = "run mae --patches 16 --steps 5 --seeds 2 --out"


def pythons() -> dict[str, Path]:
    """Return the interpreters on PATH and in pyenv's folder that vitdyn allows, one for each minor version."""
    least = tuple(map(int, re.findall(r"\d+", PROJECT["requires-python"])))
    folders = [Path(each) for each in os.environ.get("PATH", "").split(os.pathsep) if each]
    folders += Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin")
    found: dict[str, Path] = {}
    programs = (each for folder in folders for each in sorted(folder.glob("python3.*")))
    for program in (each for each in programs if re.fullmatch(r"python3\.\d+", each.name)):
        asked = [program, "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
        said = subprocess.run(
            asked, capture_output=True, text=True
        ).stdout.strip()  # pyenv's shims may say nothing
        if re.fullmatch(r"3\.\d+", said) and tuple(map(int, said.split("."))) >= least:
            found.setdefault(said, program)
    return dict(sorted(found.items(), key=lambda item: int(item[0][2:])))


def tried(python: Path, versions: str, folder: Path) -> str:
    """Install and test in a folder; return how it ended, in a few words."""
    inside = folder / "bin" / "python"
    pip = ["uv", "pip", "install", "--quiet", "--python", inside]
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    wanted = [
        "--resolution",
        RESOLUTIONS[versions],
        "--only-binary",
        ":all:",
        "-r",
        "pyproject.toml",
        *extras,
    ]
    tests = [f"tests/{name}" for name in SMOKE]
    command = [folder / "bin" / "vitdyn", *COMMAND.split(), folder / "results"]
    steps = {
        "no environment": ["uv", "venv", "--quiet", "--clear", "--python", python, folder],
        "does not resolve or install": [*pip, *wanted],
        "tools do not install": [*pip, *TOOLS],
        "no wheel": [*pip, "--no-deps", "--reinstall-package", PROJECT["name"], "."],
        "the command line fails": command,
        "tests fail": [inside, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", *tests],
    }
    # one thread, and only what stands in the environment: not the clone's own package
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    for trouble, step in steps.items():
        if subprocess.run(step, cwd=ROOT, env=environment).returncode:
            return trouble
    return "passes"


def main() -> int:
    """Try what was asked for and print the table."""
    here = pythons()
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--pythons", nargs="+", choices=here, default=list(here))
    options.add_argument("--versions", nargs="+", choices=RESOLUTIONS, default=list(RESOLUTIONS))
    options.add_argument("--venvs", type=Path, default=ROOT / ".venvs")
    asked = options.parse_args()
    if not shutil.which("uv"):
        raise SystemExit("uv is not installed, which resolves to the oldest versions: pip install uv")
    rows = []
    for python, versions in product(asked.pythons, asked.versions):
        print(f"== Python {python}, {versions}", flush=True)
        ended = tried(here[python], versions, asked.venvs / f"{python}-{versions}")
        rows.append(f"Python {python:<6} {versions:<7} {ended}")
    print(*rows, sep="\n")
    return 0 if all(row.endswith("passes") for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
