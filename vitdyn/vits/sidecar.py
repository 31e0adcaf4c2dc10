"""The configs beside a file of weights: ``config.json`` and ``preprocessor_config.json``, in two dialects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitdyn._errors import invalid_value, require_integer
from vitdyn.vits.families import Assume, Overrides
from vitdyn.vits.key_mapping import Mapped
from vitdyn.vits.key_tables import TIMM
from vitdyn.vits.untrusted import printable, read_json

_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
_HEADS = ("num_heads", "num_attention_heads")
_ARGUMENTS = {"embed_dim": "width", "depth": "depth", "patch_size": "side", "in_chans": "colours"}


@dataclass(frozen=True, kw_only=True)
class SidecarConfigs:
    """Descriptions of a model, empty where there are none.

    ``config`` has transformers' names in either dialect, of which ``theirs`` gives timm's; ``preprocessor`` is
    transformers' own file, ``pretrained`` is timm's ``pretrained_cfg``, and ``passed_over`` says what stood there and
    was not used.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, str] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    pretrained: Mapping[str, Any] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()

    def place(self, field: str) -> str:
        """Return where a field of ``config`` stands, in the words of its file."""
        return f"{self.theirs.get(field, field)} of {_CONFIG}"


def read_sidecar(file: Path, mapped: Mapped) -> SidecarConfigs:
    """Return the descriptions beside ``file`` in the dialect of its layout; those of the other are passed over.

    Raises ``ValueError`` for a description that is no JSON object, or of another model (width, depth, patch,
    colours), and for an activation other than GELU.
    """
    config, preprocessor = read_json(file.parent / _CONFIG), read_json(file.parent / _PREPROCESSOR)
    width, colours, _, side = (*mapped.tensors["patch.weight"].shape, 0, 0, 0, 0)[:4]
    facts = {"width": width, "depth": mapped.depth, "side": side, "colours": colours}
    if mapped.layout is TIMM:
        return _of_timm(config, preprocessor, facts)
    # transformers always writes it: without it the file is of another library
    if "hidden_size" not in config:
        strange = (f"{_CONFIG}, which is not transformers'{_heads_said(config)}",) if config else ()
        return SidecarConfigs(preprocessor=preprocessor, passed_over=strange)
    names = {
        "hidden_size": "width",
        "num_hidden_layers": "depth",
        "patch_size": "side",
        "num_channels": "colours",
    }
    # a config of another model beside a file is a mistake that gives wrong numbers: refused
    for name, fact in names.items():
        if config.get(name, facts[fact]) not in (facts[fact], [facts[fact]] * 2):
            raise invalid_value(
                name,
                config[name],
                f"{printable(file.parent / _CONFIG)} describes another model: {printable(file.name)} has "
                f"{facts[fact]}",
            )
    # the exact GELU and its tanh form differ by at most 5e-4: the wrong one would pass for a result
    _require_gelu("hidden_act", config.get("hidden_act", "gelu"))
    return SidecarConfigs(config=config, preprocessor=preprocessor)


def _of_timm(
    config: Mapping[str, Any], preprocessor: Mapping[str, Any], facts: Mapping[str, int]
) -> SidecarConfigs:
    """Read timm's ``config.json``; the older form has no ``pretrained_cfg`` and its fields at the top."""
    passed = [_PREPROCESSOR] if preprocessor else []
    # timm has changed its form, and both are in circulation
    flat = "pretrained_cfg" not in config and "architecture" in config
    pretrained = config if flat else config.get("pretrained_cfg")
    if not isinstance(pretrained, Mapping):
        passed += [f"{_CONFIG}, which is not timm's{_heads_said(config)}"] if config else []
        return SidecarConfigs(passed_over=tuple(passed))
    arguments = config.get("model_args") or {}
    if not isinstance(arguments, Mapping):
        raise invalid_value("model_args", arguments, f"must be an object ({_CONFIG})")
    # a timm config of another model is common (folders with many files): it is passed over and said
    claims = [
        ("num_features", config.get("num_features"), "width"),
        *((name, arguments.get(name), fact) for name, fact in _ARGUMENTS.items()),
    ]
    for name, claim, fact in claims:
        if claim is not None and claim not in (facts[fact], [facts[fact]] * 2):
            other = f"{_CONFIG}, which describes another model ({name} {printable(repr(claim))[:40]})"
            return SidecarConfigs(passed_over=(*passed, other))
    if said := _heads_said(config):
        passed.append(f"part of {_CONFIG}{said}: timm has num_heads in model_args")
    _require_gelu("act_layer", arguments.get("act_layer") or "gelu")
    size, own = pretrained.get("input_size"), arguments.get("img_size")
    named = {
        "num_attention_heads": arguments.get("num_heads"),
        "image_size": own or (size[1:] if isinstance(size, list) else size),
        "no_embed_class": arguments.get("no_embed_class"),
        "architecture": config.get("architecture") or pretrained.get("architecture"),
    }
    return SidecarConfigs(
        config={name: value for name, value in named.items() if value is not None},
        theirs={"num_attention_heads": "num_heads", "image_size": "img_size" if own else "input_size"},
        pretrained=pretrained,
        passed_over=tuple(passed),
    )


def _heads_said(config: Mapping[str, Any]) -> str:
    """Return in a few words what the top of a description that is not used says of the heads."""
    said = [f"{name} {printable(repr(config[name]))[:40]}" for name in _HEADS if name in config]
    return f" (it says {', '.join(said)})" if said else ""


def _require_gelu(field: str, value: object) -> None:
    if value not in ("gelu", "GELU"):
        raise invalid_value(field, value, f"only ViTs with the exact GELU are read ({_CONFIG})")


@dataclass(frozen=True)
class Evidence:
    """What decides where the shapes of a checkpoint do not: its keys, the configs beside it, what the caller says.

    ``assume`` is called with each fact that none of them tells and that a convention decides.
    """

    mapped: Mapped
    sidecar: SidecarConfigs
    overrides: Overrides
    assume: Assume


def pair(field: str, value: object) -> tuple[int, int]:
    """Return (height, width) of a size that a description gives as one number or as two."""
    sides: Any = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, value)
    for side in sides:
        require_integer(field, side, at_least=1)
    return sides[0], sides[1]
