"""Which preprocessing a checkpoint has: that of a config beside its weights, or of its family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vitdyn._errors import invalid_value, require_boolean, require_choice, require_integer, require_real
from vitdyn.vits.families import FAMILIES, HALF, IMAGENET_DEVIATION, IMAGENET_MEAN, Assume, Assumed
from vitdyn.vits.key_tables import TIMM
from vitdyn.vits.preprocessing import FILTERS, Preprocessing, require_colours
from vitdyn.vits.sidecar import Evidence
from vitdyn.vits.untrusted import listed, naming

_SIDES = {"height", "width"}


def preprocessing_of(size: tuple[int, int], evidence: Evidence, recognised: str | None) -> Preprocessing:
    """Return the preprocessing of a checkpoint whose images measure ``size``.

    The constants of the family that the caller asked for decide, then a config beside the file, then those of the
    family that was recognised. Else some are assumed: for timm's names those that MAE, DINO and DeiT
    share, for transformers' a resize to ``size`` (bilinear) with mean and deviation of one half.
    """
    sidecar, asked, assume = evidence.sidecar, evidence.overrides.family, evidence.assume
    remedy = "--family or a description beside the file"
    if asked is None and sidecar.preprocessor:
        return _of_transformers(sidecar.preprocessor, size, assume)
    if asked is None and sidecar.pretrained:
        return _of_timm(sidecar.pretrained, size)
    if (family := asked or recognised) is not None:
        return _of_family(family, size, f"constants of {FAMILIES[family].words}")
    if evidence.mapped.layout is TIMM:
        words = "constants of MAE, DINO and DeiT"
        others = "MoCo v3's are bilinear, and timm's augreg has mean and deviation of one half"
        assume(Assumed("preprocessing", words, others, remedy))
        return _of_family("mae", size, words)
    words = "transformers' defaults for a ViT"
    assume(Assumed("preprocessing", words, "no preprocessor_config.json", remedy))
    source = f"{words}, no preprocessor_config.json"
    return Preprocessing(resize=size, crop=size, mean=HALF, deviation=HALF, filter="bilinear", source=source)


def _of_family(name: str, size: tuple[int, int], source: str) -> Preprocessing:
    family = FAMILIES[name]
    part, whole = family.part
    constants: dict[str, Any] = {"mean": family.mean, "deviation": family.deviation, "filter": family.filter}
    return Preprocessing(resize=min(size) * whole // part, crop=size, source=source, **constants)


@dataclass(frozen=True)
class Fields:
    """The fields of a JSON file by its name; a complaint about one names both."""

    file: str
    fields: Mapping[str, Any]

    @contextmanager
    def reading(self, field: str, default: object) -> Iterator[Any]:
        """Lend the value of a field, ``default`` where it is left out; a complaint meanwhile is about this field."""
        with naming(f"{field} of {self.file}"):
            yield self.fields.get(field, default)

    def flag(self, field: str, default: bool) -> bool:
        """Return a truth value; null is left out."""
        value = default if self.fields.get(field) is None else self.fields[field]
        with self.reading(field, default):
            require_boolean(field, value)
        return value

    def value(
        self, field: str, default: Any, require: Callable[..., None], *given: Any, **bounds: Any
    ) -> Any:
        """Return a field's value, ``default`` where it is left out, once ``require`` has let it pass."""
        with self.reading(field, default) as value:
            require(field, value, *given, **bounds)
            return value

    def sides(self, field: str, default: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of a size that is given as one number, as two, or under these names."""
        with self.reading(field, default) as value:
            if isinstance(value, Mapping) and set(value) == _SIDES:
                value = (value["height"], value["width"])
            both = value if isinstance(value, (list, tuple)) else (value, value)
            if len(both) != 2:
                raise invalid_value(field, value, "must be one length, or a height and a width")
            for side in both:
                require_integer(field, side, at_least=1)
            return both[0], both[1]


def _of_transformers(fields: Mapping[str, Any], size: tuple[int, int], assume: Assume) -> Preprocessing:
    """Read transformers' ``preprocessor_config.json``; a size that is not the checkpoint's is refused."""
    config = Fields("preprocessor_config.json", fields)
    # padding would move every patch
    if config.flag("do_pad", False):
        raise invalid_value("do_pad", True, f"images are never padded here ({config.file})")
    resizes, crops = config.flag("do_resize", True), config.flag("do_center_crop", False)
    normal = config.flag("do_normalize", True)
    resize = _resize(config, size) if resizes else None
    crop = config.sides("crop_size", size) if crops else None
    # what goes in at the end; a resize of the shorter side alone leaves it to the crop
    seen = crop or (resize if isinstance(resize, tuple) else size)
    if seen != size:
        raise invalid_value(
            config.file, seen, f"must give images of {size}, which the checkpoint was made for"
        )
    used = [*["size", "resample"] * resizes, *["image_mean", "image_std"] * normal, *["crop_size"] * crops]
    _assume_missing(config, used, assume)
    with config.reading("resample", FILTERS.index("bilinear")) as number:
        # as text, for True is no number of a filter though it equals 1
        require_choice("resample", str(number), [str(index) for index in range(len(FILTERS))])
    rescales = config.flag("do_rescale", True)
    scale = config.value("rescale_factor", 1 / 255, require_real, low=1e-9, high=1e6) if rescales else 1.0
    constants: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "deviation": (1.0, 1.0, 1.0)}
    if normal:
        constants["mean"] = tuple(config.value("image_mean", HALF, require_colours))
        constants["deviation"] = tuple(config.value("image_std", HALF, require_colours, above_0=True))
    constants |= {"filter": FILTERS[int(number)], "scale": scale, "source": config.file}
    with config.reading("size", None):
        return Preprocessing(resize=resize, crop=size, **constants)


def _resize(config: Fields, size: tuple[int, int]) -> int | tuple[int, int]:
    value = config.fields.get("size", size)
    if not isinstance(value, Mapping) or set(value) == _SIDES:
        return config.sides("size", size)
    if set(value) != {"shortest_edge"}:
        raise invalid_value(
            "size", value, f"must have a shortest_edge, or a height and a width ({config.file})"
        )
    with config.reading("size", size):
        require_integer("shortest_edge", value["shortest_edge"], at_least=1)
    return value["shortest_edge"]


def _assume_missing(config: Fields, used: list[str], assume: Assume) -> None:
    """Say which fields are left out, unless the file names the processor whose defaults are taken."""
    kind = config.fields.get("image_processor_type", config.fields.get("feature_extractor_type"))
    missing = [name for name in used if name not in config.fields]
    if missing and not str(kind).startswith("ViT"):
        value = f"transformers' defaults for a ViT, of {listed(missing)}"
        assume(Assumed("preprocessing", value, f"{config.file} leaves them out", "--family or that file"))


def _of_timm(fields: Mapping[str, Any], size: tuple[int, int]) -> Preprocessing:
    """Read timm's ``pretrained_cfg``; what it leaves out has timm's own defaults."""
    config = Fields("config.json", fields)
    part = config.value("crop_pct", 0.875, require_real, low=1e-6, high=1)
    kind = config.value("interpolation", "bicubic", require_choice, FILTERS)
    squashes = config.value("crop_mode", "center", require_choice, ("center", "squash")) == "squash"
    mean = tuple(config.value("mean", IMAGENET_MEAN, require_colours))
    deviation = tuple(config.value("std", IMAGENET_DEVIATION, require_colours, above_0=True))
    # timm cuts off what is no whole pixel, and so must we
    resize = (int(size[0] / part), int(size[1] / part)) if squashes else int(min(size) / part)
    source = "pretrained_cfg in config.json"
    with config.reading("crop_pct", None):
        return Preprocessing(
            resize=resize, crop=size, mean=mean, deviation=deviation, filter=kind, source=source
        )
