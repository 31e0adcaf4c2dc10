"""What the cells of a sweep hold, found by reading each result once; what was found is kept beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np

from vitdyn._files import DamagedFileError, read_sealed, writable_beside
from vitdyn.experiments.identity import why_outdated
from vitdyn.experiments.sweep_folder import SweepFolder
from vitdyn.trajectory import SCHEMA as TRAJECTORY_SCHEMA
from vitdyn.trajectory import versions

SCHEMA = "vitdyn scan 2"


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
    numbers = {json.dumps(held): number for number, held in enumerate(kinds)}
    found: dict[str, tuple[int, int, int]] = {}
    fresh = False
    for key in keys:
        path = folder.result(key)
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        seen = known.get(key)
        if seen is None or seen[0] != stat.st_size or seen[1] != stat.st_mtime_ns:
            held = held_by(path, key)
            number = numbers.setdefault(json.dumps(held), len(kinds))
            if number == len(kinds):
                kinds.append(held)
            seen, fresh = (stat.st_size, stat.st_mtime_ns, number), True
        found[key] = seen
    if fresh:
        _write(place, known | found, kinds)
    return {key: kinds[seen[2]] for key, seen in found.items()}


def held_by(path: Path, key: str) -> Held:
    """Read the result of a key, and compare its checksum."""
    try:
        with netCDF4.Dataset(path.name, memory=read_sealed(path)) as opened:
            return _held(opened, key)
    except (DamagedFileError, OSError, RuntimeError, ValueError) as error:
        # the library has these for what is no file of its own
        return Held({}, {}, {}, " ".join(str(error).split()) or type(error).__name__)


def _held(opened: netCDF4.Dataset, key: str) -> Held:
    about = {name: opened.getncattr(name) for name in opened.ncattrs()}
    why_not = why_outdated(about)
    if about.get("schema") != TRAJECTORY_SCHEMA:
        why_not = f"was written by another version of vitdyn ({about.get('schema')})"
    elif _key_of(about) != key:
        why_not = "holds the result of another experiment than its name says"
    numeric = {
        name: each
        for name, each in opened.variables.items()
        if name not in opened.dimensions and getattr(each.dtype, "kind", "") in "fiub"
    }
    variables = {name: (each.dimensions, each.shape, each.dtype.str) for name, each in numeric.items()}
    labels = {
        name: np.asarray(opened[name][...]).tolist() for name in opened.dimensions if name in opened.variables
    }
    attributes = {
        name: {word: value for word in each.ncattrs() if isinstance(value := each.getncattr(word), str)}
        for name, each in numeric.items()
    }
    for words in attributes.values():
        words.pop("coordinates", None)  # of the file's own, which name no axis of the dataset
    return Held(variables, labels, attributes, why_not)


def _key_of(about: Mapping[str, Any]) -> str | None:
    """Return the key of the experiment that a result names."""
    try:
        training = json.loads(about["experiment"])["training"]
    except (LookupError, TypeError, ValueError):
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
