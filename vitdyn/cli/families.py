"""``vitdyn families``: in which attention regime each objective ends, on the same data, and how one can tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitdyn._errors import require_integer
from vitdyn._progress import duration
from vitdyn._tables import text_table

GAPS = (-0.3, 0.3)


@dataclass(frozen=True, kw_only=True)
class Families:
    """Train every listed objective on the same data and say in which attention regime it ends: a table by family.

    P = 64, two clusters, Δ = −0.3 and Δ = 0.3, each objective as it is by default, at its own learning rate. Your own
    objective is in the table if ``--module FILE.py`` registers it. Runs that are found in the
    results folder are not repeated.
    """

    quick: bool = False
    """Two seeds and 120 steps in place of four and 400."""
    objectives: tuple[str, ...] = ()
    """Names of objectives; all where none is named."""
    steps: int | None = None
    """Steps of descent; left out, 400, or 120 with --quick."""
    pace: float = 1.0
    """Learning rate, in units of each objective's own; teachers and trained parts keep the same clock."""
    seed: int = 0
    """Root seed: another one gives every run other random streams."""
    results: Path = Path("results")
    """Folder where runs are kept."""
    device: str = "auto"
    """auto, cpu or cuda."""
    anew: bool = False
    """Make kept results and checkpoints again that cannot be used."""

    def __call__(self) -> int:
        """Print the cost, run what is missing, print the table."""
        from vitdyn.dynamics import Runtime
        from vitdyn.experiments import ResultStore
        from vitdyn.experiments.families import FamilyRow, estimate_seconds_of

        runs = self._runs()
        store = ResultStore(self.results, runtime=Runtime(device=self.device, progress=True, anew=self.anew))
        missing = [each for each in runs.values() if each.unnamed or not store.path(each).is_file()]
        seconds = estimate_seconds_of(missing, self.device)
        cost = "nobody has timed this device" if seconds is None else f"about {duration(seconds)}"
        print(f"{len(runs)} runs, {len(missing)} of them not kept yet: {cost}", flush=True)
        rows = [_cells(*key, FamilyRow.of(trajectory)) for key, trajectory in store.named(runs).items()]
        print(text_table(_HEADER, rows))
        return 0

    def _runs(self) -> dict[tuple[str, float], Any]:
        from vitdyn.experiments.experiment import reseeded
        from vitdyn.experiments.families import family_run, objectives_by_name

        require_integer("seed", self.seed, at_least=0)
        require_integer("steps", 1 if self.steps is None else self.steps, at_least=1)
        options: dict[str, Any] = {"steps": self.steps, "pace": self.pace}
        options["scale"] = "quick" if self.quick else "full"
        return {
            (name, gap): reseeded(family_run(objective, gap, name=name, **options), self.seed)
            for name, objective in objectives_by_name(self.objectives).items()
            for gap in GAPS
        }


_HEADER = ("objective", "family", "Δ", "regime", "NMI", "R² global", "R² local", "rank", "half at step")


def _cells(name: str, gap: float, row: Any) -> tuple[object, ...]:
    """Return a row of the table: the regime, and means over seeds."""
    from vitdyn.objectives import OBJECTIVES

    mean = {metric: float(values.mean()) for metric, values in row.metrics.items()}
    # below 0 a latent's own mean predicts it better than what a linear map finds
    told = [
        f"{value:.2f}" if value > 0 else "none"
        for value in (mean["global_r_squared"], mean["local_r_squared"])
    ]
    # half of what has moved says nothing where that is chance
    moved = any(each.kind != "unmoved" for each in row.regimes)
    half = f"{row.half_time.mean():.0f}" if moved else "none"
    numbers = f"{mean['mutual_information']:.2f}", *told, f"{mean['rank_me']:.2f}", half
    return name, OBJECTIVES[name].family, f"{gap:+.1f}", row.regime, *numbers
