"""What is recorded of a run: each observable with its axes, symbol and meaning."""

from vitdyn.observables.observe import OBSERVABLES, Observable, observe
from vitdyn.observables.regime import learned_regime

__all__ = ["OBSERVABLES", "Observable", "learned_regime", "observe"]
