"""Nonsense at public doors (exact): each call gives one line that names field, value and remedy, or a result.

Every parameter of every door takes each piece of nonsense in turn. A new door is one line of ``doors``.
"""

import re

import pytest
from doors import DOORS, NONSENSE

CALLS = [(door, parameter) for door, (_, given) in DOORS.items() for parameter in given]


def is_named(message):
    return re.fullmatch(r"[^\n]+", message) and re.search(r" = .*: |: ", message)


@pytest.mark.parametrize(("door", "parameter"), CALLS, ids=lambda part: part)
def test_nonsense_gives_one_line_or_a_result(door, parameter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, given = DOORS[door]
    failed = []
    for name, value in NONSENSE.items():
        if isinstance(value, str) and value == "generator":
            value = (number for number in (1, 2))
        try:
            call(**{**given, parameter: value})
        except ValueError as error:
            if not is_named(str(error)):
                failed.append(f"{name}: {str(error)[:120]}")
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__} {str(error)[:120]}")
    assert not failed


def test_every_door_opens(tmp_path, monkeypatch):
    """With what it is given when no nonsense is: else nothing is tested."""
    monkeypatch.chdir(tmp_path)
    for door, (call, given) in DOORS.items():
        if door != "Trajectory.load":
            call(**given)
