"""What stands beside a file of weights: ``config.json`` and ``preprocessor_config.json``, in two dialects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitdyn._errors import require_integer, wrong
from vitdyn.checkpoints.key_tables import TIMM
from vitdyn.checkpoints.mapping import Mapped

_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Descriptions of a model, empty where there are none.

    ``config`` and ``preprocessor`` are transformers' own files, ``pretrained`` is timm's ``pretrained_cfg``.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    pretrained: Mapping[str, Any] = field(default_factory=dict)


def read_beside(file: Path, mapped: Mapped) -> Beside:
    """Return the descriptions beside ``file`` in the dialect of its layout; those of the other are passed over.

    Raises ``ValueError`` for a description that is no JSON object, or of another model (width, depth, patch),
    and for an activation other than GELU.
    """
    config, preprocessor = _json(file.parent / _CONFIG), _json(file.parent / _PREPROCESSOR)
    width, _, _, side = (*mapped.tensors["patch.weight"].shape, 0, 0, 0, 0)[:4]
    if mapped.layout is TIMM:
        pretrained = config.get("pretrained_cfg")
        if not isinstance(pretrained, Mapping) or config.get("num_features", width) != width:
            return Beside()
        return Beside(pretrained=pretrained)
    if "hidden_size" not in config:
        return Beside(preprocessor=preprocessor)
    facts = {"hidden_size": width, "num_hidden_layers": mapped.depth, "patch_size": side}
    for name, fact in facts.items():
        if config.get(name, fact) not in (fact, [fact, fact]):
            raise wrong(
                name, config[name], f"{file.parent / _CONFIG} describes another model: {file.name} has {fact}"
            )
    if config.get("hidden_act", "gelu") != "gelu":
        raise wrong("hidden_act", config["hidden_act"], "only ViTs with the exact GELU are read")
    return Beside(config=config, preprocessor=preprocessor)


def pair(field: str, value: object) -> tuple[int, int]:
    """Return (height, width) of a size that a description gives as one number or as two."""
    sides: Any = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, value)
    for side in sides:
        require_integer(field, side, at_least=1)
    return sides[0], sides[1]


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise wrong(path.name, str(path), "is no JSON: put it right, or take it away") from error
    if not isinstance(found, Mapping):
        raise wrong(path.name, str(path), "is no JSON object: put it right, or take it away")
    return found
