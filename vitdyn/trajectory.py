"""A Trajectory: what a run recorded, labelled, with everything that is needed to make it again."""

from __future__ import annotations

import json
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitdyn._axes import FRAME, SEED
from vitdyn._errors import as_path, invalid_value
from vitdyn._files import read_sealed, write_sealed
from vitdyn._notebook import html_table
from vitdyn._progress import duration
from vitdyn._version import version_of

if TYPE_CHECKING:
    import xarray


SCHEMA = "vitdyn trajectory 3"
"""2: with a checksum at the end of the file."""

FORMULAS = 3
"""The number of vitdyn's formulas: raised whenever an experiment gives other numbers than it did, beyond round-off.

A test holds it to some of these numbers, so that it can't be forgotten. A stored result of another number, or of
another minor version of vitdyn, is not taken for today's, and a checkpoint of another number is not resumed.

1: a hidden query was counted as a visible key of its own area in the mean field. 2: it is counted out.
3: flows are integrated by another method, whose times differ by some 1e-6 of themselves.
"""

ANEW = "anew=True, --anew"
"""How a user asks for what cannot be used to be made again."""

_ALWAYS = {"step": (FRAME,), "time": (FRAME,), SEED: (SEED,)}
"""Variables that every trajectory has, and their axes."""


@dataclass(frozen=True)
class Trajectory:
    """The record of a run as an ``xarray.Dataset``.

    Dimensions: ``frame`` (with coordinates ``step`` and ``time`` = learning rate times step), ``seed``,
    ``cluster``, ``query_area``, ``key_area``, ``statistic`` (mean, minimum, maximum over positions), and
    for the final state ``query``, ``key`` and ``area``. Each variable names its symbol and meaning in its
    attributes; the dataset's attributes hold the full specification as JSON (``spec``), the versions, the
    device, the time the run took and the schema.

    >>> sizes = vd.AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=0.3)
    >>> trajectory = vd.integrate(vd.MeanField(sizes=sizes))
    >>> trajectory["area_attention"].attrs["symbol"]
    'A'
    >>> vd.Trajectory.load(trajectory.save("limit.nc")).spec["sizes"]["patches"]
    100000000.0
    """

    dataset: xarray.Dataset

    def __getitem__(self, name: str) -> xarray.DataArray:
        if name not in self.dataset.variables:
            raise invalid_value(
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

    def _repr_html_(self) -> str:
        """Return what a notebook shows: what it is a record of and how it was made, above what was recorded."""
        about = self.dataset.attrs
        name = json.loads(about.get("experiment", "{}")).get("name", "")
        made = ", ".join(str(about[each]) for each in ("device", "engine", "machine") if each in about)
        rows = [("kind", self.spec.get("training", self.spec).get("kind", "")), ("made on", made)]
        rows += [("took", duration(about["seconds"]))] if "seconds" in about else []
        return html_table(f"trajectory {name}".strip(), rows) + self.dataset._repr_html_()

    def save(self, path: str | Path) -> Path:
        """Write a netCDF4 file, whole or not at all; ``xarray.open_dataset(path)`` reads it too.

        A line at its end holds a checksum of what was written. Raises ``ValueError`` where that cannot be written.
        """
        target = as_path("path", path)
        encoding = {
            name: {"zlib": True, "complevel": 1}
            for name, array in self.dataset.data_vars.items()
            if array.size > 4096
        }
        write_result(target, self.dataset, encoding)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Trajectory:
        """Read a file that ``save`` wrote.

        Raises ``ValueError`` for a file that is missing, damaged, of another schema, or holds no trajectory.
        """
        dataset = read_result(path, SCHEMA)
        lacks = [
            name
            for name, axes in _ALWAYS.items()
            if name not in dataset.variables or dataset[name].dims != axes or not dataset[name].size
        ]
        if lacks:
            raise unusable(path, f"holds no trajectory: {', '.join(lacks)} missing")
        return cls(dataset)


def write_result(target: Path, dataset: xarray.Dataset, encoding: dict[Any, Any] | None = None) -> None:
    """Write a dataset as netCDF4 with a checksum, whole or not at all.

    It is made in memory: on a full disk the library would say "HDF error", and could not write again in this process.
    """
    import netCDF4
    import xarray

    made = netCDF4.Dataset(target.name, mode="w", memory=dataset.nbytes)
    try:
        dataset.dump_to_store(xarray.backends.NetCDF4DataStore(made), encoding=encoding)
    except BaseException:
        made.close()
        raise
    image = made.close()
    if image[8] in (
        2,
        3,
    ):  # the version of HDF5's superblock, which says where the contents end: the rest is room
        image = image[: int.from_bytes(image[28:36], "little")]
    write_sealed(target, lambda file: file.write(image))


def read_result(path: str | Path, schema: str) -> xarray.Dataset:
    """Return what a result file holds, in memory. Nothing is parsed whose checksum does not fit.

    Raises ``ValueError`` for a file that is missing, damaged, of another schema or without a specification.
    """
    import netCDF4
    import xarray

    source = as_path("path", path)
    if not source.is_file():
        raise invalid_value("path", str(path), "no such result file")
    try:
        opened = netCDF4.Dataset(source.name, memory=read_sealed(source))
        with xarray.open_dataset(xarray.backends.NetCDF4DataStore(opened)) as stored:
            dataset = stored.load()
    except Exception as error:  # netCDF4 and xarray each have their own errors for what is no result
        reason = " ".join(str(error).split()) or type(error).__name__
        raise unusable(path, f"not a readable result file ({reason})") from error
    written = dataset.attrs.get("schema")
    if written != schema:
        raise invalid_value(
            "schema", written, f"{path} was not written by this version of vitdyn, which reads {schema!r}"
        )
    try:
        described = isinstance(json.loads(dataset.attrs["spec"]), dict)
    except (KeyError, TypeError, ValueError):
        described = False
    if not described:
        raise unusable(path, "does not say what it is a result of: it has no specification")
    return dataset


def unusable(path: str | Path, reason: str) -> ValueError:
    """Build the error for a result file that cannot be believed."""
    return invalid_value("path", str(path), f"{reason}: delete it and run again, or start anew ({ANEW})")


@cache
def versions(*packages: str) -> str:
    """Return the versions of packages, as a result file names them."""
    return " ".join(f"{name}={version_of(name)}" for name in packages)


@cache
def machine_name() -> str:
    """Return the kind of processor and system, as a result names them; no name of the host."""
    processor = platform.processor()
    with suppress(OSError):
        listed = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.M
        )
        processor = listed.group(1).strip() if listed else processor
    return ", ".join(filter(None, (processor, platform.machine(), platform.system())))
