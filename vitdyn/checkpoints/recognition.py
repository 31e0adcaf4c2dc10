"""Which architecture a checkpoint has: read off its shapes, its sidecar config, its family, or said to be assumed."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from torch import Tensor

from vitdyn._errors import require_real, wrong
from vitdyn.checkpoints.architecture import Architecture
from vitdyn.checkpoints.families import (
    FAMILIES,
    HEADS_BY_WIDTH,
    Assume,
    Assumed,
    Told,
    family_of_positions,
)
from vitdyn.checkpoints.key_mapping import Mapped
from vitdyn.checkpoints.key_tables import TIMM
from vitdyn.checkpoints.position_grid import grid_of
from vitdyn.checkpoints.sidecar import Beside
from vitdyn.checkpoints.untrusted import naming, printable

_MODEL_TYPES = {"vit_mae": "mae", "deit": "deit"}


def architecture_of(
    mapped: Mapped, path: Path, *, beside: Beside, told: Told, assume: Assume
) -> tuple[Architecture, str, str | None]:
    """Return the architecture of mapped weights, where the number of heads comes from, and the family recognised.

    Every shape is checked. ``told`` goes before what stands beside the file, that before the family that the file
    betrays, and that before a convention, which ``assume`` is told. Raises ``ValueError`` where a shape is wrong, the
    patches form no square and no grid is given, or nothing says how many heads there are.
    """
    tensors, prefix = mapped.tensors, 1 + ("distillation_token" in mapped.tensors)
    kernel, positions = tensors["patch.weight"], tensors["positions"]
    hidden = tensors["blocks.0.fc1.weight"]
    if kernel.ndim != 4 or kernel.shape[-1] != kernel.shape[-2]:
        raise _misshapen(path, "patch.weight", kernel, "(width, channels, side, side)")
    if positions.ndim != 3 or positions.shape[1] <= prefix or hidden.ndim != 2:
        name, tensor = ("positions", positions) if hidden.ndim == 2 else ("blocks.0.fc1.weight", hidden)
        raise _misshapen(path, name, tensor, "(1, token, width), or (hidden, width) for the MLP")
    width = kernel.shape[0]
    asked = told.grid is not None or "image_size" not in beside.config
    with nullcontext() if asked else naming(beside.place("image_size")):
        layout = grid_of(positions.shape[1], prefix, kernel.shape[-1], beside=beside, told=told)
    fixed = family_of_positions(positions[0, -layout.patches :], layout.grid)
    family = told.family or mapped.family or fixed or _MODEL_TYPES.get(str(beside.config.get("model_type")))
    if fixed is None and layout.assumed is not None:
        assume(layout.assumed)
    number, source = _heads(width, beside, told, family, assume)
    epsilon = _epsilon(mapped, beside, told, family, assume)
    with naming(beside.place("num_attention_heads")) if source == "says config.json" else nullcontext():
        found = Architecture(
            width=width,
            depth=mapped.depth,
            heads=number,
            patch=kernel.shape[-1],
            rows=layout.grid[0],
            columns=layout.grid[1],
            channels=kernel.shape[1],
            hidden=hidden.shape[0],
            prefix=prefix,
            epsilon=epsilon,
        )
    shapes = found.shapes() | {"positions": (1, positions.shape[1], width)}
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes.get(name):
            raise _misshapen(path, name, tensor, str(shapes.get(name, "that of a third of its rows each")))
    return found, source, family


def _heads(width: int, beside: Beside, told: Told, family: str | None, assume: Assume) -> tuple[int, str]:
    if told.heads is not None:
        said = beside.config.get("num_attention_heads", told.heads)
        other = f"{beside.place('num_attention_heads')} says {printable(repr(said))[:40]}"
        return told.heads, "as given" if said == told.heads else f"as given; {other}, not used"
    if "num_attention_heads" in beside.config:
        return beside.config["num_attention_heads"], "says config.json"
    if family is not None and width in FAMILIES[family].heads:
        return FAMILIES[family].heads[width], f"the {FAMILIES[family].words} convention for this width"
    if width in HEADS_BY_WIDTH and _of_timm(beside):
        return HEADS_BY_WIDTH[width], "timm's convention for this width, says config.json"
    if width % 64 and width not in HEADS_BY_WIDTH:
        raise wrong(
            "heads", None, f"cannot be read off the shapes, nor guessed for a width of {width}: give it"
        )
    number = HEADS_BY_WIDTH.get(width, width // 64)
    reason = "the convention for this width" if width in HEADS_BY_WIDTH else "64 dimensions a head, a guess"
    others = [
        f"{each.words} has {each.heads[width]}"
        for each in FAMILIES.values()
        if each.heads.get(width, number) != number
    ]
    assume(Assumed("heads", str(number), "; ".join([reason, *others]), "--heads or --family"))
    return number, reason


def _epsilon(mapped: Mapped, beside: Beside, told: Told, family: str | None, assume: Assume) -> float:
    if told.epsilon is not None:
        return told.epsilon
    if "layer_norm_eps" in beside.config:
        with naming(beside.place("layer_norm_eps")):
            require_real("epsilon", beside.config["layer_norm_eps"], low=0, high=1, open_low=True)
        return beside.config["layer_norm_eps"]
    epsilon, timm = mapped.layout.epsilon, mapped.layout is TIMM
    if not timm or (family is None and not _of_timm(beside)):
        reason = f"the default of {'timm' if timm else 'transformers'}"
        assume(
            Assumed("epsilon", f"{epsilon:g}", reason, "--epsilon" if timm else "--epsilon or config.json")
        )
    return epsilon


def _of_timm(beside: Beside) -> bool:
    """Return whether timm's own description names one of its plain ViTs."""
    return str(beside.config.get("architecture", "")).startswith(("vit_", "deit_", "deit3_", "flexivit_"))


def _misshapen(path: Path, name: str, tensor: Tensor, wanted: str) -> ValueError:
    return wrong(
        "checkpoint", str(path), f"{name} has the shape {tuple(tensor.shape)}, which should be {wanted}"
    )
