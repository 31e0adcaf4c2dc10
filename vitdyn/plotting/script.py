"""What the figure scripts share: their options, their store of results, their table, their way to end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from vitdyn._errors import as_path, invalid_value, require_boolean
from vitdyn._files import require_writable
from vitdyn._options import one_line_where_wrong
from vitdyn._tables import text_table
from vitdyn._terminal import ending
from vitdyn.claims import Verdict
from vitdyn.dynamics import Runtime, Training
from vitdyn.experiments import Experiment, ResultStore
from vitdyn.plotting.arguments import checked

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class FigureOptions:
    """Options of a figure script."""

    quick: bool = False
    """The small version, which is the default of most."""
    full: bool = False
    """The large version."""
    redraw: bool = False
    """Draw from kept runs; never simulate."""
    out: Path = Path("figures")
    """Folder for PDF, PNG and the drawn numbers."""
    results: Path = Path("results")
    """Folder where runs are kept."""
    anew: bool = False
    """Make kept results and checkpoints again that cannot be used."""
    workers: int | None = None
    """How many processes train small Vision Transformers side by side; one to a core where it is left out."""

    def __post_init__(self) -> None:
        for name in ("quick", "full", "redraw"):
            require_boolean(name, getattr(self, name))
        for name in ("out", "results"):
            object.__setattr__(self, name, as_path(name, getattr(self, name)))
        if self.quick and self.full:
            raise invalid_value("full", self.full, "choose one of --quick and --full")

    @property
    def scale(self) -> str:
        """The scale of the experiments, "quick" or "full"."""
        return "full" if self.full else "quick"

    def few(self, runs: Mapping[Name, Experiment], steps: int) -> dict[Name, Experiment]:
        """Return runs as they are; with ``quick`` at most two seeds, so many steps and six frames of each.

        That shows that a figure runs and what it draws, and no result.
        """
        return {name: _part_of(run, steps) if self.quick else run for name, run in runs.items()}

    @property
    def store(self) -> ResultStore:
        """Where the script gets its trajectories."""
        runtime = Runtime(progress=True, anew=self.anew)
        return ResultStore(self.results, redraw=self.redraw, runtime=runtime, workers=self.workers)


def _part_of(run: Experiment, steps: int) -> Experiment:
    spec = run.training
    if not isinstance(spec, Training):
        return run
    schedule = replace(spec.schedule, frames=min(6, spec.schedule.frames))
    part = replace(spec, steps=min(steps, spec.steps), seeds=spec.seed_numbers[:2], schedule=schedule)
    return replace(run, training=part)


Options = TypeVar("Options", bound=FigureOptions)


def run_script(main: Callable[[Options], None], options: type[Options], description: str | None) -> None:
    """Run a script with the options of its command line.

    Whatever ends it early is said in one line, with the exit status that the command line has (``ending``).
    """
    import tyro

    name = Path(sys.argv[0]).name

    def work() -> None:
        with one_line_where_wrong(f"python {name}", ()):
            chosen = tyro.cli(options, description=description)
        # Before hours of simulation, and not after them.
        require_writable(chosen.out / "figure.pdf")
        main(chosen)

    status = ending(work, name, goes_on="the same command goes on from the last checkpoint")
    if status:
        sys.exit(status)


@checked
def verdict_table(verdicts: Mapping[str, Verdict]) -> str:
    """Return a table of verdicts, one line for each named run."""
    rows = [
        (name, each.predicted, each.measured, each.low, each.high, each.count, f"{each.claim} {each.status}")
        for name, each in verdicts.items()
    ]
    return text_table(("run", "predicted", "measured", "low", "high", "count", "verdict"), rows)


@checked
def gap_words(gap: float) -> str:
    """Return "Δ = +0.4" or "Δ = −0.3" for an information gap."""
    return f"Δ = {gap:+.1f}".replace("-", "\N{MINUS SIGN}")
