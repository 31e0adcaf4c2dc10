"""The command line as a user meets it: what it prints, what it writes, how it refuses."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
import xarray

from vitdyn import cli
from vitdyn.claims import CLAIMS, INCONCLUSIVE, REFUTED, SUPPORTED, Verdict
from vitdyn.claims.check import Verdicts
from vitdyn.cli import catalogue
from vitdyn.data import DISTRIBUTIONS
from vitdyn.dynamics import OPTIMIZERS
from vitdyn.experiments import ResultStore
from vitdyn.objectives import OBJECTIVES
from vitdyn.pages.formula import formulas_in
from vitdyn.trajectory import Trajectory

SMALL = [
    "--patches",
    "32",
    "--kappa-c",
    "0.7",
    "--kappa-s",
    "0.4",
    "--seeds",
    "2",
    "--steps",
    "3",
    "--frames",
    "3",
]


def error_of(arguments, capsys):
    status = cli.main(arguments)
    # where a compiler comes first, a line of progress may go before
    lines = [line for line in capsys.readouterr().err.strip().splitlines() if "seed-steps (" not in line]
    assert len(lines) == 1, "one line"
    return status, lines[0]


CONTRAST = [
    "--temperature",
    "0.5",
    "--views",
    "complementary",
    "--optimizer",
    "adam",
    "--distribution",
    "constant",
]


@pytest.mark.parametrize(
    ("objective", "options"),
    [("mae", ["--distribution", "truncated-normal"]), ("cl", CONTRAST), ("mixture", [])],
    ids=["mae", "cl", "mixture"],
)
def test_run_writes_a_result_and_a_picture(objective, options, tmp_path, capsys):
    assert cli.main(["run", objective, *SMALL, *options, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "Δ = " in printed
    assert "about" in printed
    assert "of 2 seeds" in printed
    (result,) = tmp_path.glob("*.nc")
    with xarray.open_dataset(result, engine="netcdf4") as stored:
        assert stored.sizes["seed"] == 2
        assert stored["step"].values[-1] == 3
        training = json.loads(stored.attrs["experiment"])["training"]
    distributions = {"mae": "TruncatedNormal", "cl": "Constant", "mixture": "Uniform"}
    assert training["generator"]["latents"]["kind"] == distributions[objective]
    if objective == "cl":
        assert training["objective"]["temperature"] == 0.5
        assert training["objective"]["views"] == "complementary"
        assert training["optimizer"]["kind"] == "Adam"
    (picture,) = tmp_path.glob("*.png")
    assert picture.stat().st_size > 10_000
    assert not list(tmp_path.glob("*checkpoint*"))


@pytest.mark.parametrize("objective", ["mae", "cl", "mixture"])
def test_flow_writes_a_result_and_a_picture(objective, tmp_path, capsys):
    arguments = ["flow", objective, "--patches", "1e9", "--until", "0.9", "--out", str(tmp_path)]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "P = 1e+09" in printed
    assert ("contrastive training" in printed) == (objective == "cl")
    (result,) = tmp_path.glob("*.nc")
    with xarray.open_dataset(result, engine="netcdf4") as stored:
        assert float(stored["time"][-1]) > 0
    (picture,) = tmp_path.glob("*.png")
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize("objective", ["mae", "cl"])
def test_reduce_says_its_cost_and_writes_a_result_and_a_picture(objective, tmp_path, capsys):
    arguments = [
        "reduce",
        objective,
        "--patches",
        "64",
        "--steps",
        "3",
        "--seeds",
        "2",
        "--out",
        str(tmp_path),
    ]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "order parameters for" in printed and "2 seeds x 3 steps: about" in printed
    (result,) = tmp_path.glob("*.nc")
    with xarray.open_dataset(result, engine="netcdf4") as stored:
        assert stored.sizes["seed"] == 2 and stored["step"].values[-1] == 3
    (picture,) = tmp_path.glob("*.png")
    assert picture.stat().st_size > 10_000


def test_exponents_outside_the_theory_are_refused_unless_asked_for(tmp_path, capsys):
    arguments = ["flow", "mae", "--patches", "1e6", "--kappa-s", "0.55", "--out", str(tmp_path)]
    status, message = error_of(arguments, capsys)
    assert status == 2
    assert "kappa_s" in message
    assert "0.5" in message
    assert cli.main([*arguments, "--outside"]) == 0


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["flow", "mae", "--patches", "3"], "patches"),
        (["flow", "mixture", "--weight", "1.5"], "weight"),
        (["flow", "mae", "--low", "0", "--high", "0"], "high"),
        (["flow", "mae", "--until", "1"], "until"),
        (["flow", "cl", "--clusters", "0"], "clusters"),
        (["reduce", "mae", "--queries", "some"], "queries"),
        (["reduce", "cl", "--batch-size", "1"], "batch_size"),
    ],
)
def test_bad_flows_are_refused_in_one_line_that_names_the_field(arguments, field, tmp_path, capsys):
    status, message = error_of([*arguments, "--out", str(tmp_path)], capsys)
    assert status == 2
    assert field in message
    assert not list(tmp_path.iterdir())


def test_a_flow_that_stalls_says_so_and_leaves_no_result(tmp_path, capsys):
    """Contrast with one cluster cannot collapse: negatives of the own cluster hold it back."""
    exponents = ["--kappa-c", "0.6", "--kappa-s", "0.3", "--nodes", "8"]
    arguments = ["flow", "cl", "--clusters", "2", *exponents, "--out", str(tmp_path)]
    status, message = error_of(arguments, capsys)
    assert status == 1
    assert "the flow" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "field", "remedy"),
    [
        (["--kappa-c", "0.3"], "kappa_c = 0.3", "[0.5005, 1]"),
        (["--kappa-s", "0.7"], "kappa_s = 0.7", "[0.001, 0.5]"),
        (["--patches", "3", "--kappa-c", "0.6"], "patches = 3", "are enough"),
        (["--mask-ratio", "0"], "mask_ratio = 0.0", "(0, 1)"),
        (["--mask-ratio", "0.0001"], "mask_ratio = 0.0001", "masks 0 of 256"),
        (["--mask-ratio", "0.9999"], "mask_ratio = 0.9999", "masks 256 of 256"),
        (["--low", "-1"], "Uniform.low = -1.0", "[0, "),
        (["--low", "2"], "Uniform.high = 1.5", "[2, "),
        (["--distribution", "cauchy"], "distribution = 'cauchy'", "uniform"),
        (["--seeds", "0"], "seeds = 0", "1 or more"),
        (["--seeds", "-2"], "seeds = -2", "1 or more"),
        (["--steps", "-1"], "steps = -1", "0 or more"),
        (["--batch-size", "0"], "batch_size = 0", "1 or more"),
        (["--clusters", "0"], "clusters = 0", "1 or more"),
        (["--frames", "1"], "Schedule.frames = 1", "2 or more"),
        (["--optimizer", "newton"], "optimizer = 'newton'", "gradient, momentum, adam"),
        (["--learning-rate", "-1"], "GradientDescent.learning_rate = -1.0", "[0, "),
        (["--precision", "float16"], "precision = 'float16'", "float32, float64"),
        (["--dataset-size", "8"], "dataset_size = 8", "32 samples"),
        (["--device", "tpu"], "device = 'tpu'", "auto, cpu, cuda"),
    ],
)
def test_a_wrong_option_is_refused_on_one_line_with_status_2(options, field, remedy, capsys, tmp_path):
    status, message = error_of(["run", "mae", "--out", str(tmp_path / "out"), *options], capsys)
    assert status == 2
    assert field in message
    assert remedy in message
    assert not (tmp_path / "out").exists(), "nothing starts on bad input"


def test_unknown_names_are_refused(capsys):
    assert error_of(["train"], capsys) == (
        2, "vitdyn: command = 'train': must be one of " + ", ".join(cli.COMMANDS)
    )  # fmt: skip
    assert error_of(["run", "maes"], capsys) == (
        2,
        f"vitdyn: objective = 'maes': must be one of {', '.join(OBJECTIVES)}",
    )
    assert error_of(["check", "--claims", "P=NP"], capsys)[0] == 2


def test_cuda_is_refused_where_there_is_none(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for command in (["run", "mae"], ["check", "--quick"]):
        status, message = error_of([*command, "--device", "cuda"], capsys)
        assert status == 2
        assert "'cpu' or 'auto'" in message


def test_a_folder_that_cannot_be_written_is_refused_before_the_run(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    status, message = error_of(["run", "mae", "--out", str(tmp_path / "file" / "out")], capsys)
    assert status == 2
    assert "name another folder" in message


@pytest.mark.parametrize("broken", ["truncated", "of another schema"])
def test_check_refuses_a_result_file_it_cannot_trust(broken, capsys, tmp_path):
    (case, *_) = CLAIMS[0].cases("quick")
    path = ResultStore(tmp_path).path(case.runs[0])
    Trajectory(xarray.Dataset({"x": ("frame", list(range(5000)))})).save(path)
    if broken == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    status, message = error_of(["check", "--quick", "--results", str(tmp_path)], capsys)
    assert status == 2
    assert str(path)[-20:] in message


def test_a_diverging_run_names_step_and_seed(capsys, tmp_path):
    absurd = ["--learning-rate", "1e12", "--weight-decay", "1e6", "--steps", "9"]
    status, message = error_of(["run", "cl", *SMALL, *absurd, "--out", str(tmp_path)], capsys)
    assert status == 1
    assert "step" in message
    assert "seed" in message


def verdict(status, expected=SUPPORTED, **changes):
    made = Verdict(claim="C", case="e", symbol="x", predicted_low=0.5, predicted_high=float("inf"), measured=0.9,
                   low=0.8, high=1.0, count=3, status=status, expected=expected, basis="mean field",
                   interval_of="the integrator")  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("verdicts", "status", "told"),
    [
        ([verdict(SUPPORTED), verdict(REFUTED, REFUTED)], 0, "1 supported, 0 refuted, 0 inconclusive"),
        ([verdict(REFUTED)], 1, "0 supported, 1 refuted, 0 inconclusive"),
        ([verdict(INCONCLUSIVE), verdict(REFUTED, REFUTED)], 3, "0 supported, 0 refuted, 1 inconclusive"),
        ([verdict(SUPPORTED), verdict(INCONCLUSIVE), verdict(REFUTED, REFUTED)], 3, "1 supported"),
        ([verdict(SUPPORTED), verdict(INCONCLUSIVE, REFUTED)], 1, "0 of 1 controls refuted"),
        ([verdict(SUPPORTED), verdict(SUPPORTED, REFUTED)], 1, "0 of 1 controls refuted"),
    ],
)
def test_check_prints_a_table_and_exits_with_one_on_a_refutation_and_three_if_it_shows_nothing(
    verdicts, status, told, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr("vitdyn.claims.check", lambda claims, runner, scale, seed: Verdicts(verdicts))
    assert cli.main(["check", "--quick", "--json", str(tmp_path / "report.json")]) == status
    printed = capsys.readouterr().out
    assert "x > 0.5" in printed
    assert "0.9000  [0.8000, 1.0000]" in printed
    assert told in printed
    assert "mean field" in printed and "the integrator" in printed
    assert ("MUST BE REFUTED" in printed) == (
        verdicts[-1].expected == REFUTED and verdicts[-1].status != REFUTED
    )
    stored = json.loads((tmp_path / "report.json").read_text())
    assert [entry["status"] for entry in stored] == [entry.status for entry in verdicts]
    assert [(entry["predicted_low"], entry["predicted_high"]) for entry in stored] == [(0.5, None)] * len(
        verdicts
    )


def test_json_holds_no_number_that_json_lacks(monkeypatch, tmp_path):
    empty = verdict(INCONCLUSIVE, measured=float("nan"), low=float("-inf"), reason="stalls")
    monkeypatch.setattr("vitdyn.claims.check", lambda claims, runner, scale, seed: (empty,))
    assert cli.main(["check", "--json", str(tmp_path / "report.json")]) == 3

    def refuse(constant):
        raise AssertionError(constant)

    (entry,) = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert (entry["measured"], entry["low"], entry["reason"]) == (None, None, "stalls")


def test_check_writes_a_page_that_needs_no_other_file(monkeypatch, tmp_path, capsys):
    def fake(claims, runner, scale, seed):
        return tuple(
            verdict(status, expected, claim=claim.id, case=f"{claim.id}<{expected}>")
            for claim in claims
            for status, expected in ((SUPPORTED, SUPPORTED), (REFUTED, REFUTED))
        )

    monkeypatch.setattr("vitdyn.claims.check", fake)
    page = tmp_path / "deep" / "page.html"
    assert cli.main(["check", "--quick", "--html", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    words = unescape(re.sub(r"<[^<>]+>", "", text))
    for claim in CLAIMS:
        for sentence in (claim.id, claim.statement, claim.source, claim.assumed, claim.surrogate):
            assert all(part in words for part in formulas_in(sentence) if isinstance(part, str))
        assert f'<section id="{claim.id}">' in text
        assert f"{claim.id}<REFUTED>" in words
    assert f"{len(CLAIMS)} supported, 0 refuted, 0 inconclusive" in text
    sources = re.findall(r'(?:src|href)="([^"]{5})', text)
    assert sources.count("data:") == len(CLAIMS)
    assert {"data:", "https"} >= {
        source for source in sources if not source.startswith("#")
    }  # works that can be read
    assert not re.search(r"@import|url\((?!data:)|<script|<link|srcset", text)
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_a_page_that_cannot_be_written_is_refused_before_the_runs(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("vitdyn.claims.check", lambda *given, **options: pytest.fail("it ran"))
    for option in ("--html", "--json"):
        status, message = error_of(["check", option, str(tmp_path / "file" / "page")], capsys)
        assert status == 2
        assert "name another folder" in message
        status, message = error_of(["check", option, str(tmp_path)], capsys)
        assert status == 2
        assert "folder" in message and "name" in message
    for given, remedy in (
        (["--html", str(tmp_path / "page"), "--docs", str(tmp_path)], "make docs"),
        (["--docs", "x"], "--html"),
    ):
        status, message = error_of(["check", *given], capsys)
        assert (status, remedy in message) == (2, True)
    both = [part for option in ("--html", "--json") for part in (option, str(tmp_path / "one"))]
    status, message = error_of(["check", *both], capsys)
    assert (status, "name another" in message) == (2, True)


def test_help_tells_every_exit_status_of_check(capsys):
    with pytest.raises(SystemExit):
        cli.main(["check", "--help"])
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "exit status is 0 if every case supports" in told and "3 if nothing speaks against" in told


@pytest.mark.parametrize("broken", ["replace", "write"])
def test_a_page_is_written_whole_or_not_at_all(broken, monkeypatch, capsys, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("the old page")
    monkeypatch.setattr("vitdyn.claims.check", lambda claims, runner, scale, seed: ())
    method = {"replace": "replace", "write": "write_text"}[broken]

    def fail(*given, **options):
        raise OSError("the disk is full")

    monkeypatch.setattr(f"pathlib.Path.{method}", fail)
    status, message = error_of(["check", "--html", str(page)], capsys)
    assert status == 2 and "cannot be written (the disk is full): make room" in message
    assert page.read_text() == "the old page"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_check_chooses_claims_and_scale(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        "vitdyn.claims.check",
        lambda claims, runner, scale, seed: asked.append(([c.id for c in claims], scale)) or (),
    )
    assert cli.main(["check", "--claims", "CL-GLOBAL", "--results", str(tmp_path)]) == 3
    assert cli.main(["check", "--quick", "--results", str(tmp_path)]) == 3
    assert asked == [(["CL-GLOBAL"], "full"), ([claim.id for claim in CLAIMS], "quick")]


def test_list_and_env_say_what_there_is(capsys):
    assert cli.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(word in listed for word in ("mae", "cl", "uniform", "adam", "MAE-AREA", "CL-GLOBAL"))
    assert cli.main(["env"]) == 0
    facts = capsys.readouterr().out
    assert all(word in facts for word in ("torch", "cores", "GPUs", "--probe"))
    assert cli.main(["env", "--probe"]) == 0
    facts = capsys.readouterr().out
    assert all(word in facts for word in ("device", "engine", "threads"))


def test_figures_runs_each_script_in_order_and_stops_at_a_failure(tmp_path, capfd):
    for name, body in (
        ("1_a.py", "import sys; print('first', __name__, *sys.argv[1:])"),
        ("2_b.py", "raise SystemExit(3)"),
        ("3_c.py", "print('third')"),
    ):
        (tmp_path / name).write_text(body)
    before = sys.argv
    asked = ["--out", "o", "--results", "r", "--quick", "--workers", "1"]
    assert cli.main(["figures", "--sims", str(tmp_path), *asked]) == 3
    printed = capfd.readouterr().out
    assert "first __main__ --quick --workers 1 --out o --results r\n" in printed
    assert "third" not in printed
    (tmp_path / "1_a.py").write_text("raise SystemExit('1_a.py: no')")
    assert cli.main(["figures", "--sims", str(tmp_path)]) == 1
    assert capfd.readouterr().err == "1_a.py: no\n"
    assert sys.argv is before
    assert cli.main(["figures", "--sims", str(tmp_path / "none")]) == 2
    assert "leave it out" in capfd.readouterr().err


def test_figures_finds_its_scripts_from_anywhere(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitdyn.cli.info._run", lambda script, arguments: 0)
    assert cli.main(["figures"]) == 0
    shown = [Path(line.removeprefix("== ")) for line in capfd.readouterr().out.splitlines()]
    assert len(shown) >= 30 and all(script.is_file() for script in shown)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["run", "--help"],
        ["run", "cl", "--help"],
        ["flow", "mae", "--help"],
        ["check", "--help"],
    ],
)
def test_help_is_there(arguments, capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(arguments)
    assert leaving.value.code == 0
    assert "usage: vitdyn" in capsys.readouterr().out


def test_an_interrupt_leaves_a_message_and_status_130(monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("vitdyn.experiments.run", interrupt)
    status, message = error_of(["run", "mae"], capsys)
    assert status == 130
    assert "goes on" in message


def test_what_commands_load():
    """Names and help take no torch: to import it is nine tenths of such a command's time."""
    script = """if True:
        import sys
        from vitdyn import cli
        def told(*arguments):
            try:
                cli.main(list(arguments))
            except SystemExit:
                pass
        for arguments in (["list"], ["env"], ["--help"], ["run", "mae", "--help"], ["flow", "cl", "--help"],
                          ["reduce", "mae", "--help"], ["sweep", "--help"], ["collect", "--help"],
                          ["check", "--help"], ["inspect", "--help"],
                          ["figures", "--help"], ["run", "maes"]):
            told(*arguments)
        heavy = ("torch", "scipy", "numba", "matplotlib", "xarray")
        print([name for name in heavy if name in sys.modules])
        import vitdyn.data, vitdyn.dynamics, vitdyn.objectives, vitdyn.theory
        heavy = ("matplotlib", "xarray", "sympy", "scipy.integrate", "distributed", "triton")
        print([name for name in heavy if name in sys.modules])
        import vitdyn.claims  # which draw nothing and derive nothing
        print([name for name in ("matplotlib", "vitdyn.theory.derivations") if name in sys.modules])
    """
    interpreted = {**os.environ, "TRITON_INTERPRET": "0"}
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=interpreted
    )
    assert found.stdout.splitlines()[-3:] == ["[]"] * 3


def test_the_catalogue_tells_what_is_there():
    assert catalogue.objectives() == tuple(
        catalogue.Entry.of(kind, name) for name, kind in OBJECTIVES.items()
    )
    assert [each.load() for each in catalogue.objectives()] == list(OBJECTIVES.values())
    for told, table in ((catalogue.distributions(), DISTRIBUTIONS), (catalogue.optimizers(), OPTIMIZERS)):
        assert [(each.name, each.text) for each in told] == [
            (name, catalogue.first_line(kind.__doc__)) for name, kind in table.items()
        ]
    assert [(each.name, each.text) for each in catalogue.claims()] == [
        (claim.id, claim.statement) for claim in CLAIMS
    ]
