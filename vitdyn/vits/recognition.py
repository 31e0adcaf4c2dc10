"""Which architecture a checkpoint has: read off its shapes, its sidecar config, its family, or said to be assumed."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from torch import Tensor

from vitdyn._errors import invalid_value, require_real
from vitdyn.vits.architecture import Architecture
from vitdyn.vits.families import FAMILIES, HEADS_BY_WIDTH, Assumed, family_of_positions
from vitdyn.vits.key_tables import TIMM
from vitdyn.vits.position_grid import grid_of
from vitdyn.vits.sidecar import Evidence, SidecarConfigs
from vitdyn.vits.untrusted import naming, printable, refused

_MODEL_TYPES = {"vit_mae": "mae", "deit": "deit"}


def architecture_of(evidence: Evidence, path: Path) -> tuple[Architecture, str, str | None]:
    """Return the architecture of mapped weights, where the number of heads comes from, and the family recognised.

    Every shape is checked. What the caller says goes before the config beside the file, that before the family that
    the file betrays, and that before a convention, which is then assumed. Raises ``ValueError`` where a shape is wrong,
    the patches form no square and no grid is given, or nothing says how many heads there are.
    """
    mapped, sidecar, overrides = evidence.mapped, evidence.sidecar, evidence.overrides
    tensors, prefix = mapped.tensors, 1 + ("distillation_token" in mapped.tensors)
    kernel, positions = tensors["patch.weight"], tensors["positions"]
    hidden = tensors["blocks.0.fc1.weight"]
    if kernel.ndim != 4 or kernel.shape[-1] != kernel.shape[-2]:
        raise _misshapen(path, "patch.weight", kernel, "(width, channels, side, side)")
    if positions.ndim != 3 or positions.shape[1] <= prefix or hidden.ndim != 2:
        name, tensor = ("positions", positions) if hidden.ndim == 2 else ("blocks.0.fc1.weight", hidden)
        raise _misshapen(path, name, tensor, "(1, token, width), or (hidden, width) for the MLP")
    width = kernel.shape[0]
    # a complaint about a size names the config only where the size came from there
    asked = overrides.grid is not None or "image_size" not in sidecar.config
    with nullcontext() if asked else naming(sidecar.place("image_size")):
        layout = grid_of(positions.shape[1], prefix, kernel.shape[-1], evidence)
    fixed = family_of_positions(positions[0, -layout.patches :], layout.grid)
    kind = _MODEL_TYPES.get(str(sidecar.config.get("model_type")))
    # from the surest sign to the weakest: what was said, whose keys, whose positions, what a config calls itself
    family = overrides.family or mapped.family or fixed or kind
    if fixed is None and layout.assumed is not None:
        evidence.assume(layout.assumed)
    number, source = _heads(width, evidence, family)
    epsilon = _epsilon(evidence, family)
    with naming(sidecar.place("num_attention_heads")) if source == "says config.json" else nullcontext():
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
    # positions may be fewer than tokens here: with_all_positions fills them up
    shapes = found.shapes() | {"positions": (1, positions.shape[1], width)}
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes.get(name):
            raise _misshapen(path, name, tensor, str(shapes.get(name, "that of a third of its rows each")))
    return found, source, family


def _heads(width: int, evidence: Evidence, family: str | None) -> tuple[int, str]:
    sidecar, overrides = evidence.sidecar, evidence.overrides
    if overrides.heads is not None:
        said = sidecar.config.get("num_attention_heads", overrides.heads)
        other = f"{sidecar.place('num_attention_heads')} says {printable(repr(said))[:40]}"
        return overrides.heads, "as given" if said == overrides.heads else f"as given; {other}, not used"
    if "num_attention_heads" in sidecar.config:
        return sidecar.config["num_attention_heads"], "says config.json"
    if family is not None and width in FAMILIES[family].heads:
        return FAMILIES[family].heads[width], f"the {FAMILIES[family].words} convention for this width"
    if width in HEADS_BY_WIDTH and _of_timm(sidecar):
        return HEADS_BY_WIDTH[width], "timm's convention for this width, says config.json"
    # published ViTs have 64 dimensions a head, but for the widths in the table
    if width % 64 and width not in HEADS_BY_WIDTH:
        remedy = f"cannot be read off the shapes, nor guessed for a width of {width}: give it"
        raise invalid_value("heads", None, remedy)
    number = HEADS_BY_WIDTH.get(width, width // 64)
    reason = "the convention for this width" if width in HEADS_BY_WIDTH else "64 dimensions a head, a guess"
    rivals = [each for each in FAMILIES.values() if each.heads.get(width, number) != number]
    others = [f"{each.words} has {each.heads[width]}" for each in rivals]
    evidence.assume(Assumed("heads", str(number), "; ".join([reason, *others]), "--heads or --family"))
    return number, reason


def _epsilon(evidence: Evidence, family: str | None) -> float:
    mapped, sidecar, overrides = evidence.mapped, evidence.sidecar, evidence.overrides
    if overrides.epsilon is not None:
        return overrides.epsilon
    if "layer_norm_eps" in sidecar.config:
        with naming(sidecar.place("layer_norm_eps")):
            require_real("epsilon", sidecar.config["layer_norm_eps"], low=0, high=1, open_low=True)
        return sidecar.config["layer_norm_eps"]
    # codes differ by six orders of magnitude, 1e-6 and 1e-12: it shows where a token varies little
    epsilon, timm = mapped.layout.epsilon, mapped.layout is TIMM
    if not timm or (family is None and not _of_timm(sidecar)):
        reason = f"the default of {'timm' if timm else 'transformers'}"
        remedy = "--epsilon" if timm else "--epsilon or config.json"
        evidence.assume(Assumed("epsilon", f"{epsilon:g}", reason, remedy))
    return epsilon


def _of_timm(sidecar: SidecarConfigs) -> bool:
    """Return whether timm's own description names one of its plain ViTs."""
    return str(sidecar.config.get("architecture", "")).startswith(("vit_", "deit_", "deit3_", "flexivit_"))


def _misshapen(path: Path, name: str, tensor: Tensor, wanted: str) -> ValueError:
    return refused(path, f"{name} has the shape {tuple(tensor.shape)}, which should be {wanted}")
