"""The command line: ``vitdyn`` and one of ``COMMANDS``.

Training dynamics of self-supervised Vision Transformers: theory as running, checked simulation. ``--module FILE.py``
imports a file of yours first, which may ``register`` objectives, models, distributions, optimizers, observables
and claims.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tyro

from vitdyn._errors import require_choice
from vitdyn._options import one_line_where_wrong
from vitdyn._terminal import ending
from vitdyn.cli.check import Check
from vitdyn.cli.explore import Explore
from vitdyn.cli.families import Families
from vitdyn.cli.flow import Flow, FlowOptions, follow
from vitdyn.cli.info import Env, Figures, List
from vitdyn.cli.inspect import Inspect
from vitdyn.cli.model import named_model, with_model
from vitdyn.cli.modules import import_modules, split_modules
from vitdyn.cli.objective import commands
from vitdyn.cli.reduce import Reduce, ReduceOptions, descend_reduced
from vitdyn.cli.run import Run, RunOptions, run_experiment
from vitdyn.cli.sweep import Collect, Sweep

COMMANDS: dict[str, Callable[..., Any]] = {
    "list": List,
    "run": Run,
    "flow": Flow,
    "reduce": Reduce,
    "sweep": Sweep,
    "collect": Collect,
    "explore": Explore,
    "families": Families,
    "check": Check,
    "inspect": Inspect,
    "figures": Figures,
    "env": Env,
}

BY_OBJECTIVE: dict[str, tuple[type, Callable[[Any, Any], int]]] = {
    "run": (RunOptions, run_experiment),
    "flow": (FlowOptions, follow),
    "reduce": (ReduceOptions, descend_reduced),
}
"""What has a command for each objective: the options that all of them share, and who carries them out."""

KEEP_CHECKPOINTS = ("run", "sweep", "families", "check", "figures")


def _parse(given: list[str], modules: list[str]) -> Callable[[], int]:
    import_modules(modules)
    offered: dict[str, Any] = COMMANDS
    program = "vitdyn"
    if given and not given[0].startswith("-"):
        require_choice("command", given[0], COMMANDS)
        # Made for the command that is asked for alone: its options are read off the sources of all
        # objectives.
        if given[0] == "check":
            offered = {**COMMANDS, "check": with_model(Check, named_model(given), [RunOptions])}
        if given[0] in BY_OBJECTIVE:
            options, carry_out = BY_OBJECTIVE[given[0]]
            if options is RunOptions:
                options = with_model(options, named_model(given), [Check])
            offered, program, given = commands(options, carry_out), f"vitdyn {given[0]}", given[1:]
            if given and not given[0].startswith("-"):
                require_choice("objective", given[0], offered)
    with one_line_where_wrong(program, given):
        return tyro.extras.subcommand_cli_from_dict(
            offered,
            prog=program,
            args=given or ["--help"],
            description=None if program != "vitdyn" else (__doc__ or "").split("\n\n")[1],
            config=(tyro.conf.OmitArgPrefixes,),
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0 done, 1 refuted, diverged, out of memory, or an error of the system, 2 bad input, a missing package, or a result
    that cannot be written (a full disk), 3 inconclusive, 130 interrupted (Ctrl-C), 141 nobody reads the output any
    more, 143 terminated (SIGTERM).
    """
    modules, given = split_modules(sys.argv[1:] if arguments is None else list(arguments))
    goes_on = (
        "the same command goes on from the last checkpoint"
        if given[:1] and given[0] in KEEP_CHECKPOINTS
        else ""
    )
    return ending(lambda: _parse(given, modules)(), "vitdyn", goes_on=goes_on)
