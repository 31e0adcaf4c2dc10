"""Commands and scripts where people run them: any encoding, no terminal, full disks, interrupts. Exact."""

import importlib
import io
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitdyn import _progress as progress_module
from vitdyn import cli
from vitdyn._extras import from_extra
from vitdyn._progress import Lines, duration, progress
from vitdyn._terminal import ending
from vitdyn.plotting import script
from vitdyn.vits import image_sets

ROOT = Path(__file__).parents[1]
TINY = ["run", "mae", "--patches", "16", "--kappa-c", "0.7", "--seeds", "1", "--steps", "2", "--frames", "3"]


def environment(**changes):
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))
    }
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **changes}


def vitdyn(*arguments, **changes):
    command = [sys.executable, "-m", "vitdyn", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=environment(**changes), check=False, timeout=300)


@pytest.mark.parametrize(
    ("encoding", "settings"),
    [
        ("latin-1", {"PYTHONIOENCODING": "latin-1:strict"}),
        ("ascii", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
)
def test_lists_are_printed_in_any_encoding(encoding, settings):
    listed = vitdyn("list", **settings)
    assert (listed.returncode, listed.stderr) == (0, b"")
    assert "kappa" in listed.stdout.decode(encoding)


def test_help_is_printed_in_ascii():
    helped = vitdyn("run", "mae", "--help", PYTHONIOENCODING="ascii")
    assert (helped.returncode, helped.stderr) == (0, b"")
    assert b"kappa_c in [0.5005, 1]" in helped.stdout


def test_a_run_trains_where_the_output_is_no_unicode_and_says_how_far_it_is(tmp_path):
    done = vitdyn(*TINY, "--out", tmp_path, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0
    printed = done.stdout.decode("cp1252")
    assert "kappa_c = " in printed
    assert "Delta = " in printed
    assert len(list(tmp_path.glob("*.nc"))) == 1
    assert done.stderr.decode().startswith("2 of 2 seed-steps (100 %), ")


def test_a_file_name_that_is_no_unicode_is_printed_escaped(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    refused = vitdyn("figures", "--sims", folder)
    assert refused.returncode == 2
    assert rb"caf\udce9" in refused.stderr
    assert refused.stderr.count(b"\n") == 1
    printed = subprocess.run(
        [sys.executable, "-c", "from vitdyn._terminal import ending; import sys;"
         "ending(lambda: print(sys.argv[1]), 'x')", folder],
        capture_output=True, env=environment(), check=True,
    )  # fmt: skip
    assert printed.stdout.endswith(rb"caf\udce9" + b"\n")


def test_what_an_encoding_lacks_is_transliterated_or_escaped(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    assert ending(lambda: print("κ_s Δ − 1 × λ* ≤ é 猫 ╭─╮"), "x") == 0
    assert raw.getvalue() == rb"kappa_s Delta - 1 x lambda* <= \xe9 \u732b +-+" + b"\n"


def test_a_full_disk_behind_the_output_is_one_line():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-m", "vitdyn", "list"], stdout=full, stderr=subprocess.PIPE,
                              env=environment(), check=False, timeout=120)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "vitdyn: No space left on device: free some space, or name another folder, and run this again"
    ]


def test_a_reader_that_has_left_ends_the_command_in_silence():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "vitdyn", "list"], stdout=writing, stderr=subprocess.PIPE,
                          env=environment(), check=False, timeout=120)  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def fails(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (OSError(28, "No space left on device", "a/b.png"), 1, "x: 'a/b.png': No space left on device: free some"),
        (OSError(13, "Permission denied", b"a\xff"), 1, "x: 'a\\udcff': Permission denied"),
        (MemoryError("Unable to allocate 74.5 GiB"), 1, "x: out of memory (Unable to allocate 74.5 GiB): take fewer"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 1, "x: out of memory"),
        (ValueError("patches = 3:\n too few"), 2, "x: patches = 3: too few"),
        (ZeroDivisionError("diverged"), 1, "x: diverged"),
        (KeyboardInterrupt(), 130, "x: interrupted"),
    ],
)  # fmt: skip
def test_whatever_ends_a_command_early_is_one_line(error, status, words, capsys):
    assert ending(fails(error), "x") == status
    said = capsys.readouterr().err
    assert said.startswith(words)
    assert said.count("\n") == 1


def test_faults_of_ours_keep_their_traceback():
    for error in (RuntimeError("a bug"), ModuleNotFoundError("No module named 'vitdym'"), KeyError("x")):
        with pytest.raises(type(error)):
            ending(fails(error), "x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "mae", "--patches", "abc"], "patches = 'abc': must be a whole number, in digits: see"),
        (["run", "mae", "--steps", "1e30"], "steps = '1e30': must be a whole number, in digits: see"),
        (
            ["run", "cl", "--kappa-c", "much"],
            "kappa_c = 'much': must be a number: see 'vitdyn run cl --help'",
        ),
        (["run", "mae", "--seeds", "9" * 5000], "Error parsing --seeds: Exceeds the limit (4300 digits)"),
        (["run", "mae", "--bogus", "3"], "Unrecognized options: --bogus, 3: see 'vitdyn run mae --help'"),
        (["flow", "mae", "--nodes"], "Missing value for argument '--nodes'"),
        (["flow", "mae", "--nodes", "2.5"], "nodes = '2.5': must be a whole number, in digits"),
        (["check", "--quick", "yes"], "Unrecognized options: yes: see 'vitdyn check --help'"),
        (["check", "--seed", "none"], "seed = 'none': must be a whole number"),
        (["inspect"], "Missing from vitdyn inspect: --images"),
        (["inspect", "a.pth", "--images", ".", "--grid", "3"], "Error parsing --grid"),
        (["figures", "--quick", "--sims"], "Missing value for argument '--sims'"),
        (["--quick"], "Unrecognized or misplaced options: --quick"),
    ],
)
def test_options_of_a_wrong_type_are_refused_in_one_line(arguments, said, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"vitdyn: {said}")
    assert error.count("\n") == 1
    assert "--help'" in error


def test_a_scripts_options_are_refused_in_one_line_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["02.py", "--first", "x"])
    with pytest.raises(SystemExit) as leaving:
        script.run_script(lambda options: None, script.FigureOptions, "")
    assert leaving.value.code == 2
    assert capsys.readouterr().err.startswith("02.py: Unrecognized")


def test_an_interrupted_script_leaves_one_line(tmp_path):
    """The scripts' own work is replaced: what counts is the door that all of them go through."""
    (tmp_path / "slow.py").write_text(
        "import time\nfrom vitdyn.plotting import FigureOptions, run_script\n"
        "def main(options):\n    print('begun', flush=True)\n    time.sleep(60)\n"
        "run_script(main, FigureOptions, 'slow')\n"
    )
    begun = subprocess.Popen([sys.executable, tmp_path / "slow.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment())  # fmt: skip
    assert begun.stdout.readline() == b"begun\n"
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 130
    assert said.decode() == "slow.py: interrupted; the same command goes on from the last checkpoint\n"


def without(monkeypatch, library):
    """Let imports of a library fail, as where it is not installed."""

    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == library:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refuse(), *sys.meta_path])


@pytest.mark.parametrize(
    ("missing", "name", "extra"),
    [
        ("skimage", "04_photograph", "photographs"),
        ("skimage", "09_photograph_gaps", "photographs"),
        ("sklearn", "17_real_images", "vits"),
    ],
)
def test_a_figure_without_its_extra_names_it(missing, name, extra, tmp_path, monkeypatch, capsys):
    without(monkeypatch, missing)
    for cached in (image_sets._digits, image_sets._crops, image_sets.grey_picture):
        cached.cache_clear()  # of tests before this one: what is read already needs no library
    script = ROOT / "sims" / f"{name}.py"
    monkeypatch.setattr(
        sys, "argv", [str(script), "--results", str(tmp_path), "--out", str(tmp_path), "--quick"]
    )
    with pytest.raises(SystemExit) as leaving:
        runpy.run_path(str(script), run_name="__main__")
    assert leaving.value.code == 2
    said = capsys.readouterr().err
    assert said == f"{name}.py: {missing} is not installed: pip install 'vitdyn[{extra}]'\n"


def test_derivations_without_sympy_name_their_extra(monkeypatch):
    without(monkeypatch, "sympy")
    for name in [name for name in sys.modules if name.startswith("vitdyn.theory.derivations")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        ModuleNotFoundError, match=r"sympy is not installed: pip install 'vitdyn\[derivations\]'"
    ):
        importlib.import_module("vitdyn.theory.derivations.start")
    with pytest.raises(ModuleNotFoundError, match="no_such is not installed"), from_extra("vits"):
        import no_such  # noqa: F401


def test_a_source_tree_that_was_not_installed_runs(tmp_path):
    """Without the metadata of an installation the version is unknown, and nothing else changes."""
    script = (
        "import importlib.metadata as m, sys; found = m.version\n"
        "def version(name):\n    if name == 'vitdyn': raise m.PackageNotFoundError(name)\n    return found(name)\n"
        "m.version = version\nfrom vitdyn.cli import main; sys.exit(main())"
    )
    for arguments in (["env"], ["flow", "mae", "--patches", "1e6", "--until", "0.6", "--out", tmp_path]):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True,
                              env=environment(), check=False, timeout=120)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert arguments != ["env"] or "0+unknown" in done.stdout


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_is_printed_now_and_then_and_at_the_end(clock, capsys):
    with progress(True, 1000, "step", "train") as shown:
        assert isinstance(shown, Lines)
        shown.update(500)  # done before an interruption: no measure of the pace
        for _ in range(500):
            clock[0] += 1
            shown.update(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train: 510 of 1000 steps (51 %), 10 s, about 8 min left"
    assert lines[-1] == "train: 1000 of 1000 steps (100 %), 8 min"
    assert len(lines) == 1 + (500 - 11) // 30 + 1


def test_work_that_fails_prints_no_last_line_and_silence_is_silent(clock, capsys):
    with pytest.raises(ValueError, match="no"), progress(True, 3, "step"):
        raise ValueError("no")
    with progress(False, 3, "step") as shown:
        shown.update(2)
    assert shown.n == 2
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress(True, 3, "step") as shown:
        shown.update(3)
    assert "3/3" in sys.stderr.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (5, "5 s"),
        (99.4, "99 s"),
        (600, "10 min"),
        (7200, "2.0 h"),
        (86400 * 30, "30 days"),
        (3.2e16, "1.01e+09 years"),
    ],
)
def test_lengths_of_time_are_said_in_the_unit_that_fits(seconds, words):
    assert duration(seconds) == words
