"""Key tables: what published Vision Transformers call each tensor, and what it is called here.

Names here: ``class_token``, ``distillation_token``, ``positions``, ``patch.weight``, ``patch.bias``; in block i,
``blocks.i.`` and ``norm_attention``, ``query``, ``key``, ``value``, ``proj`` (the map after the heads are joined),
``norm_mlp``, ``fc1``, ``fc2``, each with ``weight`` and ``bias``; at last ``norm``. ``qkv`` is query, key
and value stacked, a third of the rows each, and is split after reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

NUMBER = "{i}"
"""Stands for the number of a block, in tables."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one family of code names the tensors of a Vision Transformer.

    ``keys`` maps its names to ours and ``optional`` says which of ours may be absent. ``aside`` lists, as a regular
    expression and in words, what such files also hold and what is no part of the encoder.
    """

    name: str
    epsilon: float
    keys: tuple[tuple[str, str], ...]
    optional: tuple[str, ...]
    aside: tuple[tuple[str, str], ...]


def _with_endings(*pairs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{theirs}.{end}", f"{ours}.{end}") for (theirs, ours), end in product(pairs, ("weight", "bias"))
    )


_BLOCK = f"blocks.{NUMBER}"

# MAE, MoCo v3, DINO and DeiT build on timm, and so all of them write its names
TIMM = Layout(
    name="timm",
    epsilon=1e-6,
    keys=(
        ("cls_token", "class_token"),
        ("dist_token", "distillation_token"),
        ("pos_embed", "positions"),
        *_with_endings(
            ("patch_embed.proj", "patch"),
            (f"{_BLOCK}.norm1", f"{_BLOCK}.norm_attention"),
            (f"{_BLOCK}.attn.qkv", f"{_BLOCK}.qkv"),
            (f"{_BLOCK}.attn.proj", f"{_BLOCK}.proj"),
            (f"{_BLOCK}.norm2", f"{_BLOCK}.norm_mlp"),
            (f"{_BLOCK}.mlp.fc1", f"{_BLOCK}.fc1"),
            (f"{_BLOCK}.mlp.fc2", f"{_BLOCK}.fc2"),
            ("norm", "norm"),
        ),
    ),
    optional=("distillation_token", f"{_BLOCK}.qkv.bias"),
    aside=(
        (r"decoder_(embed|pos_embed|blocks|norm|pred)(\..*)?", "decoder"),
        (r"fc_norm\..*", "norm after pooling"),
        (r"(head|head_dist|pre_logits)\..*", "head"),
        (r"(momentum_encoder|predictor)\..*", "momentum encoder and predictor"),
    ),
)


# the versions differ in how they call the maps of a block, and in nothing else
def _transformers(name: str, block: str, names: dict[str, str]) -> Layout:
    theirs = f"{block}.{NUMBER}"
    return Layout(
        name=name,
        epsilon=1e-12,
        keys=(
            ("embeddings.cls_token", "class_token"),
            ("embeddings.distillation_token", "distillation_token"),
            ("embeddings.position_embeddings", "positions"),
            *_with_endings(
                ("embeddings.patch_embeddings.projection", "patch"),
                (f"{theirs}.layernorm_before", f"{_BLOCK}.norm_attention"),
                *((f"{theirs}.{key}", f"{_BLOCK}.{ours}") for key, ours in names.items()),
                (f"{theirs}.layernorm_after", f"{_BLOCK}.norm_mlp"),
                ("layernorm", "norm"),
            ),
        ),
        optional=("distillation_token", *(f"{_BLOCK}.{part}.bias" for part in ("query", "key", "value"))),
        aside=(
            (r"decoder\..*", "decoder"),
            (r"embeddings\.mask_token", "mask token"),
            (r"pooler\..*", "pooler"),
            (r"(classifier|cls_classifier|distillation_classifier)\..*", "head"),
        ),
    )


TRANSFORMERS_4 = _transformers(
    "transformers 4",
    "encoder.layer",
    {
        "attention.attention.query": "query",
        "attention.attention.key": "key",
        "attention.attention.value": "value",
        "attention.output.dense": "proj",
        "intermediate.dense": "fc1",
        "output.dense": "fc2",
    },
)

TRANSFORMERS_5 = _transformers(
    "transformers 5",
    "layers",
    {
        "attention.q_proj": "query",
        "attention.k_proj": "key",
        "attention.v_proj": "value",
        "attention.o_proj": "proj",
        "mlp.fc1": "fc1",
        "mlp.fc2": "fc2",
    },
)

LAYOUTS = (TIMM, TRANSFORMERS_4, TRANSFORMERS_5)

WRAPPERS = (
    *("module", "_orig_mod", "model", "net", "network", "backbone", "encoder", "vit", "deit"),
    *("base_encoder", "online_encoder", "teacher", "student", "momentum_encoder", "target_encoder"),
    *("ema", "ema_model", "model_ema"),
)
"""Words that may stand before every key of an encoder: parallel training, compilation, training scripts, heads."""

SECOND = ("student", "momentum_encoder", "target_encoder", "ema", "ema_model", "model_ema")
"""Those of the branch that is not read where there are two and none is asked for."""

ELSEWHERE = (
    (r".*\.(ls[12]\.gamma|gamma_[12]|layer_scale[12]\.lambda1)", "layer scale (DINOv2, BEiT, CaiT)"),
    (r"(.*\.)?(register_tokens|reg_token)", "register tokens (DINOv2)"),
    (r".*relative_position.*|.*rel_pos.*", "relative positions (BEiT, SimMIM)"),
    (r".*\.(q_norm|k_norm)\..*", "normalised queries and keys"),
    (r".*\.q_bias", "a bias of queries and values alone (BEiT)"),
    (r".*patch_embed\.proj\.\d+\..*", "a convolutional stem"),
    (r"(.*\.)?norm_pre\..*", "a norm before the first block (CLIP)"),
)
"""Signs of models that are read by none of the tables, as regular expressions and in words."""
