"""``vitdyn inspect``: what the heads of published models attend to, on a folder of images."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from vitdyn._errors import invalid_value, require_integer
from vitdyn._progress import progress
from vitdyn._tables import text_table

_OVERRIDES = ("heads", "grid", "epsilon", "family", "branch", "prefix")
HEADER = ("block", "attention distance (px)", "mutual information", "entropy (nats)", "top key scores")


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Measure the attention of published Vision Transformers: MAE, MoCo v3, DINO, DeiT, other plain ViTs.

    Prints a table by block (means over heads and images), writes it by head as CSV, and draws key scores of the
    last block, distance and mutual information by depth. Files are read without running anything they hold.
    """

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of weights (.pth, .pth.tar, .bin, .safetensors), an index of several, or folders that hold one."""
    images: Path
    """Folder of images; files that are none are named and left out, hidden ones counted."""
    out: Path = Path("results")
    """Folder for the table and the picture."""
    heads: int | None = None
    """Heads of every checkpoint; left out, config.json beside the file decides, then the family, then the width."""
    grid: tuple[int, int] | None = None
    """Rows and columns of patches, where they are no square."""
    epsilon: float | None = None
    """The epsilon of the norms, where it is not that of the names' own code."""
    family: str | None = None
    """Whose heads, resizing and constants: mae, moco-v3, dino, deit or augreg; left out, what the file betrays."""
    branch: str | None = None
    """The part of a file that holds several, as teacher or student, model or model_ema."""
    prefix: str | None = None
    """What stands before the names of the encoder's tensors, as 'visual.trunk.'; all others are set aside."""
    limit: int | None = None
    """Take the first so many images, in the order of their paths."""
    top: int = 10
    """How many of the largest key scores are averaged."""
    batch: int = 8
    """Images that go through together."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __call__(self) -> int:
        """Print the tables; write CSV and picture."""
        from vitdyn._files import require_writable
        from vitdyn.dynamics.resources import pick_device
        from vitdyn.plotting import save_figure
        from vitdyn.plotting.heads import draw_heads
        from vitdyn.vits.untrusted import printable

        if not self.checkpoints:
            raise invalid_value("checkpoints", self.checkpoints, "name at least one file of weights")
        for field in ("top", "batch"):
            require_integer(field, getattr(self, field), at_least=1)
        device = pick_device(self.device)
        labels = _labels(self.checkpoints)
        # all is read and refused before the first hour of measuring
        paths = self._tried(labels, device)
        stem = self.out / f"inspect-{self._key(paths)}"
        require_writable(stem.with_suffix(".csv"))
        models = [
            self._measured(path, label, paths, device)
            for path, label in zip(self.checkpoints, labels, strict=True)
        ]
        for model in models:
            print(f"\n{model.label}\n{text_table(HEADER, _by_block(model))}")
            for each in model.assumed:
                print(each.describe())
        table = stem.with_name(f"{stem.name}-heads.csv")
        _write_table(table, models)
        picture = save_figure(draw_heads(models), stem)
        print(f"\ntable    {printable(table)}\npicture  {printable(picture)}")
        return 0

    def _tried(self, labels: Sequence[str], device: Any) -> tuple[Path, ...]:
        """Read every checkpoint, say what it is, and return the images that all of them can take."""
        from vitdyn.vits import find_images
        from vitdyn.vits.head_metrics import require_measurable

        checkpoints = []
        for label, path in zip(labels, self.checkpoints, strict=True):
            checkpoint = self._read(path)
            checkpoint.require_colours()
            # its dtype and size are asked for again; the rest would fill the memory
            positions = {"positions": checkpoint.weights["positions"]}
            checkpoints.append(replace(checkpoint, weights=positions))  # one model's weights at a time
            print(f"{label}\n{_indented(checkpoint.describe())}")
        folder = find_images(
            self.images, limit=self.limit, preprocessings=[each.preprocessing for each in checkpoints]
        )
        _say_what_was_found(folder, self.images)
        for checkpoint in checkpoints:
            require_measurable(checkpoint, images=len(folder.paths), batch=self.batch, device=device)
        return folder.paths

    def _read(self, path: Path) -> Any:
        from vitdyn.vits import read_checkpoint

        return read_checkpoint(path, **{name: getattr(self, name) for name in _OVERRIDES})

    def _measured(self, path: Path, label: str, images: Sequence[Path], device: Any) -> Any:
        from vitdyn.vits import measure_heads

        checkpoint = self._read(path).to(device)
        with progress(True, len(images), "image", label) as bar:
            return measure_heads(
                checkpoint,
                images,
                top=self.top,
                batch=self.batch,
                label=label,
                progress=lambda done: bar.update(done - bar.n),
            )

    def _key(self, images: Sequence[Path]) -> str:
        """Return a short name for what is measured: where checkpoints and images are, and the options."""
        files = [str(path.resolve()) for path in (*self.checkpoints, *images)]
        # what is left out does not count, so that files keep their names when options are added
        options: list[Any] = [self.heads, self.grid, self.top]
        options += [[name, getattr(self, name)] for name in _OVERRIDES[2:] if getattr(self, name) is not None]
        return hashlib.sha256(json.dumps([files, options]).encode()).hexdigest()[:12]


def _say_what_was_found(folder: Any, place: Path) -> None:
    from vitdyn.vits.untrusted import printable

    print(f"{len(folder.paths)} images of {printable(place)}")
    for note in folder.notes:
        print(f"  {note}")
    for path, reason in folder.skipped:
        print(f"  left out {printable(path.relative_to(place))}: {reason}")
    if folder.hidden:
        print(f"  passed over {folder.hidden} hidden files and folders, whose names begin with a point")


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return a short label for each checkpoint: its name, with its folder's where names are alike."""
    from vitdyn.vits.untrusted import printable

    names = [path.name.removesuffix(".tar") for path in paths]
    short = [Path(name).stem if not path.is_dir() else name for name, path in zip(names, paths, strict=True)]
    common = Counter(short)
    # names that libraries give to every model say nothing without their folder
    generic = ("model", "pytorch_model", "checkpoint")
    long = [
        f"{path.resolve().parent.name}/{name}" if common[name] > 1 or name in generic else name
        for name, path in zip(short, paths, strict=True)
    ]
    again = Counter(long)
    numbered = [
        f"{label} ({index})" if again[label] > 1 else label for index, label in enumerate(long, start=1)
    ]
    return [printable(label) for label in numbered]


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _by_block(model: Any) -> list[tuple[Any, ...]]:
    from vitdyn.vits import METRICS

    columns = [model.by_block(name) for name in METRICS]
    formats = ("{:.2f}", "{:.4f}", "{:.3f}", "{:.5f}")
    return [
        (number, *(form.format(value) for form, value in zip(formats, row, strict=True)))
        for number, row in enumerate(zip(*columns, strict=True), start=1)
    ]


def _write_table(path: Path, models: Sequence[Any]) -> None:
    """Write means over images, a row for each block and head; the head "all" has the means over heads.

    What was assumed of a checkpoint stands in each of its rows.
    """
    from vitdyn._files import writable_beside
    from vitdyn.vits import METRICS

    rows: list[tuple[Any, ...]] = [("checkpoint", "block", "head", *METRICS, "assumed")]
    for model in models:
        means = [model.by_block(name) for name in METRICS]
        each = [model.by_head(name) for name in METRICS]
        assumed = "; ".join(f"{fact.field}: {fact.value}" for fact in model.assumed)
        for block in range(len(means[0])):
            values = [repr(float(mean[block])) for mean in means]
            rows.append((model.label, block + 1, "all", *values, assumed))
            for head in range(each[0].shape[1]):
                values = [repr(float(values[block, head])) for values in each]
                rows.append((model.label, block + 1, head + 1, *values, assumed))
    with writable_beside(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
