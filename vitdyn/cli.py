"""The command line: ``vitdyn list | run | check | figures | env``.

Training dynamics of self-supervised Vision Transformers: theory as running, checked simulation.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, make_dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import tyro

from vitdyn._errors import require_choice, wrong
from vitdyn._tables import text_table


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Trains one model per seed and writes a result file and a picture; an interrupted run goes on when repeated."""

    patches: int = 256
    """P, the number of positions."""
    kappa_c: float = 0.9
    """κ_c in [0.5005, 1]: the global area has P^κ_c patches."""
    kappa_s: float = 0.4
    """κ_s in [0.001, 0.5]: a local area has P^κ_s patches."""
    clusters: int = 2
    """K, clusters of images, each with its own partition. Contrast needs two or more to collapse."""
    law: str = "uniform"
    """Law of the latents: uniform, two-point, truncated-normal, beta or constant."""
    low: float = 1.0
    """L, the least latent (the value itself for the constant law)."""
    high: float = 1.5
    """U, the largest latent."""
    seeds: int = 8
    """Number of seeds; seeds 0, 1, ... run."""
    steps: int = 400
    """Steps of descent."""
    samples: int = 32
    """Samples of a batch, per seed."""
    data_set_size: int | None = None
    """Size of a fixed data set; fresh samples at every step where it is left out."""
    descent: str = "gradient"
    """Rule of descent: gradient, momentum or adam."""
    learning_rate: float | None = None
    """η; left out, the objective's own choice for gradient descent (divided by 10 for momentum, 0.05 for adam)."""
    content_queries: bool = False
    """Let queries carry content too (Ψ and Ξ are trained)."""
    frames: int = 48
    """How many moments are recorded, evenly in the logarithm of the step."""
    precision: str = "float32"
    """float32 or float64."""
    device: str = "auto"
    """auto, cpu or cuda; auto takes CUDA where there is one."""
    out: Path = Path("results")
    """Folder for the result file and the picture."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Check the claims of the theory: a table of claim, prediction, measurement with interval, verdict.

    Every claim has controls, cases in which it must be refuted. The exit status is 1 if a claim is refuted
    or a control is not. Runs that are found in the results folder are not repeated.
    """

    quick: bool = False
    """The small version of each case (eight seeds in place of 32 for the limits of training)."""
    claims: tuple[str, ...] = ()
    """Ids of the claims to check; all where none is named."""
    seed: int = 0
    """Root seed: another one gives every simulation other random streams."""
    results: Path = Path("results")
    """Folder where runs are kept."""
    json: Path | None = None
    """Also write the verdicts to this file; null stands for an interval without an end, or for no number."""
    html: Path | None = None
    """Also write a page on every claim to this file: statement, figure, numbers, verdict. It needs no other file."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __call__(self) -> int:
        """Print the table; return the exit status."""
        from vitdyn.claims import CLAIMS, check, passes
        from vitdyn.dynamics import pick_device
        from vitdyn.experiments import ResultStore
        from vitdyn.trajectory import require_writable, writable_beside

        for name in self.claims:
            require_choice("claims", name, [claim.id for claim in CLAIMS])
        pick_device(self.device)
        for path in (self.json, self.html):
            if path:
                require_writable(path)
        chosen = [claim for claim in CLAIMS if not self.claims or claim.id in self.claims]
        store = ResultStore(self.results, device=self.device, progress=True)
        verdicts = check(chosen, store, scale="quick" if self.quick else "full", seed=self.seed)
        print(_verdict_table(verdicts))
        if self.json:
            with writable_beside(self.json) as scratch:
                scratch.write_text(_verdicts_as_json(verdicts))
        if self.html:
            from vitdyn.plotting import write_claim_page

            print(f"page     {write_claim_page(self.html, chosen, verdicts)}")
        return 0 if passes(verdicts) else 1


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
            "objectives": {kind.name: f"({kind.family}) {_first_line(kind)}" for kind in OBJECTIVES},
            "laws of the latents": {name: _first_line(kind) for name, kind in LAWS.items()},
            "rules of descent": {name: _first_line(kind) for name, kind in DESCENTS.items()},
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
    """The smallest version of each figure."""
    redraw: bool = False
    """Draw from kept runs; never simulate."""

    def __call__(self) -> int:
        """Run the scripts one by one."""
        import subprocess

        scripts = sorted(self.sims.glob("[0-9]*.py"))
        if not scripts:
            raise wrong("sims", str(self.sims), "holds no scripts: run this in a clone of the repository")
        flags = [flag for flag, wanted in (("--quick", self.quick), ("--redraw", self.redraw)) if wanted]
        places = ["--out", str(self.out), "--results", str(self.results)]
        for script in scripts:
            print(f"== {script}", flush=True)
            status = subprocess.run([sys.executable, str(script), *flags, *places], check=False).returncode
            if status:
                return status
        return 0


@dataclass(frozen=True, kw_only=True)
class Env:
    """Say what this machine and installation are: versions, device, threads."""

    def __call__(self) -> int:
        """Print the facts."""
        import platform
        from importlib.metadata import version

        import torch

        from vitdyn.dynamics import pick_device

        device = pick_device()
        facts = {
            "vitdyn": version("vitdyn"),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "scipy", "xarray", "matplotlib")},
            "system": platform.platform(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU (no CUDA device)",
            "threads": str(torch.get_num_threads()),
        }
        for name, value in facts.items():
            print(f"{name:<11} {value}")
        return 0


def run_experiment(objective: Any, options: RunOptions) -> int:
    """Carry out ``vitdyn run``."""
    from vitdyn.data import PatchGenerator, PatchLayout
    from vitdyn.dynamics import Schedule, Training, pick_device
    from vitdyn.experiments import Experiment, run
    from vitdyn.experiments.cost import estimate_seconds
    from vitdyn.observables import learned_regime
    from vitdyn.plotting import save_figure, summary_page
    from vitdyn.trajectory import require_writable

    layout = PatchLayout.from_exponents(
        options.patches, options.kappa_c, options.kappa_s, clusters=options.clusters
    )
    training = Training(
        generator=PatchGenerator(layout=layout, latents=_law(options)),
        objective=objective,
        descent=_descent(options, objective.default_learning_rate(layout)),
        steps=options.steps,
        samples=options.samples,
        seeds=options.seeds,
        schedule=Schedule(frames=options.frames),
        data_set_size=options.data_set_size,
        content_queries=options.content_queries,
        precision=options.precision,
    )
    experiment = Experiment(name=objective.name, training=training)
    path = options.out / f"{experiment.name}-{experiment.key}.nc"
    pick_device(options.device)
    require_writable(path)
    print(layout.describe())
    expected = estimate_seconds(experiment, device=options.device)
    print(f"{options.seeds} seeds x {options.steps} steps: about {_duration(expected)}")
    trajectory = run(experiment, out=path, device=options.device, progress=True)
    picture = save_figure(summary_page(trajectory), path.with_suffix(""))
    regimes = Counter(learned_regime(trajectory))
    print(
        "learned  "
        + ", ".join(f"{name}: {count} of {options.seeds} seeds" for name, count in regimes.items())
    )
    print(f"result   {path}\npicture  {picture}")
    return 0


def _law(options: RunOptions) -> Any:
    from vitdyn.data import LAWS, Constant

    require_choice("law", options.law, LAWS)
    kind = LAWS[options.law]
    if kind is Constant:
        return Constant(value=options.low)
    if options.law == "truncated-normal":
        middle, width = (options.low + options.high) / 2, options.high - options.low
        return kind(low=options.low, high=options.high, location=middle, scale=max(width / 4, 1e-12))
    return kind(low=options.low, high=options.high)


def _descent(options: RunOptions, natural: float) -> Any:
    from vitdyn.dynamics import DESCENTS

    require_choice("descent", options.descent, DESCENTS)
    default = {"gradient": natural, "momentum": natural / 10, "adam": 0.05}[options.descent]
    rate = options.learning_rate if options.learning_rate is not None else default
    return DESCENTS[options.descent](learning_rate=rate)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _verdict_table(verdicts: Any) -> str:
    from vitdyn.claims import INCONCLUSIVE, REFUTED, SUPPORTED

    header = ("claim", "case", "predicted", "measured  [interval]", "count", "verdict", "")
    rows = [
        (each.claim, each.case, each.predicted, each.interval, each.count, each.status, each.remark)
        for each in verdicts
    ]
    cases = [verdict.status for verdict in verdicts if not verdict.is_control]
    controls = [verdict.status for verdict in verdicts if verdict.is_control]
    total = ", ".join(
        f"{cases.count(status)} {status.lower()}" for status in (SUPPORTED, REFUTED, INCONCLUSIVE)
    )
    return (
        f"{text_table(header, rows)}\n{total} (controls aside)\n"
        f"{controls.count(REFUTED)} of {len(controls)} controls refuted, as all must be"
    )


def _verdicts_as_json(verdicts: Any) -> str:
    """Return verdicts as JSON, which has no infinity and no NaN."""
    plain = [
        {
            name: None if isinstance(value, float) and not isfinite(value) else value
            for name, value in asdict(verdict).items()
        }
        for verdict in verdicts
    ]
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


@dataclass(frozen=True, kw_only=True)
class Run:
    """Train one model per seed and draw what it learned: ``vitdyn run mae --help`` has the options."""


def _run_commands() -> dict[str, Callable[..., Any]]:
    """Return one command for each objective: the objective's own fields and the options of every run."""
    from vitdyn.objectives import OBJECTIVES

    return {kind.name: _run_command(kind) for kind in OBJECTIVES}


def _run_command(kind: Any) -> type:
    own = fields(kind)
    options = [
        (
            option.name,
            Annotated[type(option.default), tyro.conf.arg(help=option.metadata.get("help", ""))],
            option.default,
        )
        for option in own
    ]

    def call(self: Any) -> int:
        return run_experiment(kind(**{option.name: getattr(self, option.name) for option in own}), self)

    name = f"Run{kind.__name__}"
    made = make_dataclass(
        name, options, bases=(RunOptions,), frozen=True, kw_only=True, namespace={"__call__": call}
    )
    made.__doc__ = f"{_first_line(kind)} {RunOptions.__doc__}"
    return made


COMMANDS: dict[str, Callable[..., Any]] = {
    "list": List,
    "run": Run,
    "check": Check,
    "figures": Figures,
    "env": Env,
}


def _parse(given: list[str]) -> Callable[[], int]:
    commands, program = COMMANDS, "vitdyn"
    if given and not given[0].startswith("-"):
        require_choice("command", given[0], COMMANDS)
        if given[0] == "run":
            commands, program, given = _run_commands(), "vitdyn run", given[1:]
            if given and not given[0].startswith("-"):
                require_choice("objective", given[0], commands)
    return tyro.extras.subcommand_cli_from_dict(
        commands,
        prog=program,
        args=given or ["--help"],
        description=None if program == "vitdyn run" else (__doc__ or "").split("\n\n")[1],
        config=(tyro.conf.OmitArgPrefixes,),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status (0 done, 1 refuted or diverged, 2 bad input, 130 interrupted)."""
    try:
        return _parse(sys.argv[1:] if arguments is None else list(arguments))()
    except ValueError as error:
        print(f"vitdyn: {error}", file=sys.stderr)
        return 2
    except ArithmeticError as error:
        print(f"vitdyn: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vitdyn: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
