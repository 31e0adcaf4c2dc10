"""What the cells of a sweep hold, found by reading each result once; what was found is kept beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from vitdyn._files import writable_beside
from vitdyn.experiments.identity import why_outdated
from vitdyn.experiments.sweep_folder import SweepFolder
from vitdyn.trajectory import Trajectory, versions

SCHEMA = "vitdyn scan 1"


class Held(NamedTuple):
    """What a result holds: each variable's axes, shape and type, and the labels along axes; or why it is no result."""

    variables: dict[str, tuple[tuple[str, ...], tuple[int, ...], str]]
    labels: dict[str, list[Any]]
    attributes: dict[str, dict[str, Any]]
    why_not: str | None = None


def scan(folder: SweepFolder, keys: Iterable[str]) -> dict[str, Held]:
    """Return what each result holds that is there. A result is read, and its checksum compared, when it is new.

    Some milliseconds for each new result, and microseconds for each that has not changed since.
    """
    place = folder.folder / "scan.json"
    known, kinds = _read(place)
    found: dict[str, tuple[int, int, int]] = {}
    fresh = False
    for key in keys:
        path = folder.result(key)
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        seen = known.get(key)
        if seen is None or tuple(seen[:2]) != (stat.st_size, stat.st_mtime_ns):
            held = held_by(path, key)
            if held not in kinds:
                kinds.append(held)
            seen, fresh = (stat.st_size, stat.st_mtime_ns, kinds.index(held)), True
        found[key] = (seen[0], seen[1], seen[2])
    if fresh:
        _write(place, known | found, kinds)
    return {key: kinds[kind] for key, (_, _, kind) in found.items()}


def held_by(path: Path, key: str) -> Held:
    """Read the result of a key, and compare its checksum."""
    try:
        trajectory = Trajectory.load(path)
    except ValueError as error:
        return Held({}, {}, {}, " ".join(str(error).split()))
    if outdated := why_outdated(trajectory):
        return Held({}, {}, {}, outdated)
    if _key_of(trajectory) != key:
        return Held({}, {}, {}, "holds the result of another experiment than its name says")
    data = trajectory.dataset
    numeric = {str(name): each for name, each in data.variables.items() if each.dtype.kind in "fiub"}
    variables = {
        name: (tuple(map(str, each.dims)), tuple(each.shape), each.dtype.str)
        for name, each in numeric.items()
        if name not in data.dims
    }
    labels = {str(name): data[name].to_numpy().tolist() for name in data.dims if name in data.coords}
    return Held(variables, labels, {name: dict(numeric[name].attrs) for name in variables})


def _key_of(trajectory: Trajectory) -> str | None:
    """Return the key of the experiment that a result names."""
    try:
        training = json.loads(trajectory.dataset.attrs["experiment"])["training"]
    except (KeyError, TypeError, ValueError):
        return None
    return hashlib.sha256(json.dumps(training, sort_keys=True).encode()).hexdigest()[:16]


def _read(place: Path) -> tuple[dict[str, tuple[int, int, int]], list[Held]]:
    """Return what was kept, nothing where that is of another version: it can be found again."""
    try:
        kept = json.loads(place.read_text())
        if (kept["schema"], kept["versions"]) != (SCHEMA, versions("vitdyn")):
            return {}, []
        return kept["cells"], [_plain(*held) for held in kept["kinds"]]
    except (OSError, KeyError, TypeError, ValueError):
        return {}, []


def _plain(variables: Any, labels: Any, attributes: Any, why_not: str | None) -> Held:
    shaped = {name: (tuple(dims), tuple(shape), kind) for name, (dims, shape, kind) in variables.items()}
    return Held(shaped, labels, attributes, why_not)


def _write(place: Path, cells: dict[str, Any], kinds: list[Held]) -> None:
    text = json.dumps({"schema": SCHEMA, "versions": versions("vitdyn"), "cells": cells, "kinds": kinds})
    try:
        with writable_beside(place) as scratch:
            scratch.write_text(text)
    except ValueError:  # a folder that can be read only: the next call finds it again
        return
