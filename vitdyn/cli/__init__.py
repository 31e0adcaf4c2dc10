"""The command line: ``vitdyn list | run | flow | check | inspect | figures | env``.

Training dynamics of self-supervised Vision Transformers: theory as running, checked simulation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tyro

from vitdyn._errors import require_choice
from vitdyn._signals import TERMINATED, Terminated, interrupted_by_sigterm
from vitdyn.cli.check import Check
from vitdyn.cli.flow import Flow, flow_commands
from vitdyn.cli.house import Env, Figures, List
from vitdyn.cli.inspect import Inspect
from vitdyn.cli.run import Run, run_commands

COMMANDS: dict[str, Callable[..., Any]] = {
    "list": List,
    "run": Run,
    "flow": Flow,
    "check": Check,
    "inspect": Inspect,
    "figures": Figures,
    "env": Env,
}

BY_OBJECTIVE: dict[str, Callable[[], dict[str, type]]] = {"run": run_commands, "flow": flow_commands}


def _parse(given: list[str]) -> Callable[[], int]:
    commands: dict[str, Any] = COMMANDS
    program = "vitdyn"
    if given and not given[0].startswith("-"):
        require_choice("command", given[0], COMMANDS)
        if given[0] in BY_OBJECTIVE:
            commands, program, given = BY_OBJECTIVE[given[0]](), f"vitdyn {given[0]}", given[1:]
            if given and not given[0].startswith("-"):
                require_choice("objective", given[0], commands)
    return tyro.extras.subcommand_cli_from_dict(
        commands,
        prog=program,
        args=given or ["--help"],
        description=None if program != "vitdyn" else (__doc__ or "").split("\n\n")[1],
        config=(tyro.conf.OmitArgPrefixes,),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0 done, 1 refuted or diverged, 2 bad input, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
    """
    try:
        with interrupted_by_sigterm():
            return _parse(sys.argv[1:] if arguments is None else list(arguments))()
    except ValueError as error:
        print(f"vitdyn: {error}", file=sys.stderr)
        return 2
    except ArithmeticError as error:
        print(f"vitdyn: {error}", file=sys.stderr)
        return 1
    except Terminated:
        print("vitdyn: terminated; the same command goes on from the last checkpoint", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("vitdyn: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
