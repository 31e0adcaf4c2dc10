"""A Trajectory: what a run recorded, labelled, with everything that is needed to make it again."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitdyn._errors import wrong

if TYPE_CHECKING:
    import xarray

SCHEMA = "vitdyn trajectory 1"


@dataclass(frozen=True)
class Trajectory:
    """The record of a run as an ``xarray.Dataset``.

    Dimensions: ``frame`` (with coordinates ``step`` and ``time`` = learning rate times step), ``seed``,
    ``cluster``, ``query_area``, ``key_area``, ``statistic`` (mean, minimum, maximum over positions), and
    for the final state ``query``, ``key`` and ``area``. Each variable names its symbol and meaning in its
    attributes; the dataset's attributes hold the full specification as JSON (``spec``), the versions, the
    device, the time the run took and the schema.
    """

    dataset: xarray.Dataset

    def __getitem__(self, name: str) -> xarray.DataArray:
        if name not in self.dataset.variables:
            raise wrong(
                "variable", name, f"this trajectory has {', '.join(sorted(map(str, self.dataset.variables)))}"
            )
        return self.dataset[name]

    @property
    def spec(self) -> dict[str, Any]:
        """The specification of the run, as plain values."""
        return json.loads(self.dataset.attrs["spec"])

    @property
    def final(self) -> xarray.Dataset:
        """The last frame."""
        return self.dataset.isel(frame=-1)

    def save(self, path: str | Path) -> Path:
        """Write a netCDF4 file, whole or not at all; ``xarray.open_dataset(path)`` reads it too."""
        target = Path(path)
        with writable_beside(target) as scratch:
            encoding = {
                name: {"zlib": True, "complevel": 1}
                for name, array in self.dataset.data_vars.items()
                if array.size > 4096
            }
            self.dataset.to_netcdf(scratch, engine="netcdf4", encoding=encoding)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Trajectory:
        """Read a file that ``save`` wrote.

        Raises ``ValueError`` for a file that is missing, truncated, no netCDF4, or of another schema.
        """
        return cls(read_result(path, SCHEMA))


def read_result(path: str | Path, schema: str) -> xarray.Dataset:
    """Return what a result file holds, in memory.

    Raises ``ValueError`` for a file that is missing, truncated, no netCDF4, or of another schema.
    """
    import xarray

    source = Path(path)
    if not source.is_file():
        raise wrong("path", str(path), "no such result file")
    try:
        with xarray.open_dataset(source, engine="netcdf4") as stored:
            dataset = stored.load()
    except Exception as error:  # netCDF4 and xarray each have their own errors for a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise wrong(
            "path", str(path), f"not a readable result file ({reason}): delete it and run again"
        ) from error
    written = dataset.attrs.get("schema")
    if written != schema:
        raise wrong(
            "schema", written, f"{path} was not written by this version of vitdyn, which reads {schema!r}"
        )
    return dataset


@cache
def versions(*packages: str) -> str:
    """Return the versions of packages, as a result file names them."""
    return " ".join(f"{name}={version(name)}" for name in packages)


@contextmanager
def writable_beside(target: Path) -> Iterator[Path]:
    """Lend a scratch path in the target's folder; it replaces the target on success and vanishes on failure.

    Raises ``ValueError`` where the folder cannot be made or written.
    """
    scratch = _scratch(target)
    try:
        yield scratch
        scratch.chmod(0o644)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def require_writable(target: Path) -> None:
    """Raise ``ValueError`` unless a file could be written at ``target``; its folder is made."""
    _scratch(target).unlink()


def _scratch(target: Path) -> Path:
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=folder)
    except OSError as error:
        raise wrong(
            "out", str(folder), f"cannot be written ({error.strerror}): name another folder"
        ) from error
    os.close(handle)
    return Path(name)
