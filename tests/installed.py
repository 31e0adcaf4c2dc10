"""Build vitdyn, install the wheel where nothing else is, and use it as a stranger does.

The wheel that the sdist gives must be the one that the tree gives. It is installed with constraints.txt and without
extras, and used from an empty folder: neither the package nor HOME can be written. Commands must leave what they
promise and say nothing on standard error but how far they are. Run: ``make installed``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
AS_ANYONE = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
"""Lets permissions bind root, too."""

SWEEP = """
name = "limits"
[training]
kind = "MeanField"
sizes.from_exponents = {patches = 1e8, kappa_c = 0.9, kappa_s = 0.3}
[axes]
"sizes.kappa_s" = [0.2, 0.3]
"""

COMMANDS = {
    "list": "",
    "run mae --patches 16 --steps 5 --seeds 2 --out results": "results/mae-*.pdf",
    "check --claims MAE-PHASE-ONE --quick": "results/mae-flow-*.nc",
    "sweep limits.toml --out limits": "limits/cells/*/*.nc",
    "collect limits": "",
    "figures --redraw": "figures/01_data.pdf",
}
"""What is run, and what it leaves in the folder. Figure 1 has no runs; figure 2 has none kept, and ends the last."""

PROGRESS = re.compile(r"(\S+: )?\d+ of \d+ .*")
ENDED = re.compile(r"02_masked_reconstruction.py: redraw = .*")


def done(*command: str | Path, **where: object) -> str:
    """Run a command that must succeed; return what it says on standard error."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **where)
    if ended.returncode and not ENDED.search(ended.stderr):
        raise SystemExit(f"{' '.join(map(str, command))}\n{ended.stdout}{ended.stderr}")
    return ended.stderr


def built(folder: Path) -> Path:
    """Build sdist and wheels; return the wheel that the sdist gives, after it is found to be the tree's."""
    done(sys.executable, "-m", "build", "--outdir", folder / "sdist", ROOT)
    done(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "tree", ROOT)
    (wheel,), (other,) = ((folder / name).glob("*.whl") for name in ("sdist", "tree"))
    contents, expected = (
        {each.filename: each.CRC for each in zipfile.ZipFile(path).infolist()} for path in (wheel, other)
    )
    if differing := {name for name, _ in contents.items() ^ expected.items()}:
        raise SystemExit(f"sdist and tree give wheels that differ: {', '.join(sorted(differing))}")
    return wheel


def installed(wheel: Path, venv: Path) -> Path:
    """Install a wheel and what it needs into a new environment; return the package's folder, with its bytecode."""
    done(sys.executable, "-m", "venv", venv)
    python, limits = venv / "bin" / "python", ROOT / "constraints.txt"
    done(python, "-m", "pip", "install", "--no-compile", "-c", limits, wheel)
    package = Path(sysconfig.get_path("purelib", vars={"base": str(venv)})) / "vitdyn"
    done(python, "-m", "compileall", "-q", package)
    return package


def close(*folders: Path) -> None:
    """Take from everybody the right to write to folders and what is in them."""
    for folder in folders:
        for each in (folder, *folder.rglob("*")):
            each.chmod(each.stat().st_mode & ~0o222)
        if not subprocess.run([*AS_ANYONE, "touch", folder / "open"], capture_output=True).returncode:
            raise SystemExit(f"{folder} can still be written: permissions do not bind this user")


def main() -> None:
    """Build, install and use."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        home, work, temporary = (folder / name for name in ("home", "work", "temporary"))
        for each in (home, work, temporary):
            each.mkdir()
        package = installed(built(folder), folder / "venv")
        close(package, home)
        (work / "limits.toml").write_text(SWEEP)
        bare = {
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "PATH": f"{folder / 'venv' / 'bin'}:{os.defpath}",
        }
        for command, left in COMMANDS.items():
            said = done(*AS_ANYONE, "vitdyn", *command.split(), cwd=work, env=bare).splitlines()
            if noise := [line for line in said if not (PROGRESS.fullmatch(line) or ENDED.fullmatch(line))]:
                raise SystemExit("\n".join([f"vitdyn {command} says", *noise]))
            if left and not list(work.glob(left)):
                raise SystemExit(f"vitdyn {command} leaves no {left}")
            print(f"vitdyn {command}")


if __name__ == "__main__":
    main()
