"""Small models of transformers as the source of weights, and the names that other code gives to the same weights."""

import re

import pytest
import torch
from transformers import (
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    ViTConfig,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTMAEModel,
    ViTModel,
)

WIDTH, HEADS, DEPTH = 32, 4, 3
KINDS = {
    "vit": (ViTConfig, ViTModel),
    "classifier": (ViTConfig, ViTForImageClassification),
    "masked": (ViTConfig, ViTForMaskedImageModeling),
    "mae": (ViTMAEConfig, ViTMAEModel),
    "mae with decoder": (ViTMAEConfig, ViTMAEForPreTraining),
    "deit": (DeiTConfig, DeiTForImageClassificationWithTeacher),
}

_OLD = (
    (r"(?<!decoder_)layers\.(\d+)\.", r"encoder.layer.\1."),
    (
        r"attention\.(q|k|v)_proj",
        lambda m: "attention.attention." + {"q": "query", "k": "key", "v": "value"}[m[1]],
    ),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
)


def to_transformers_4(state):
    """Rename to what transformers wrote before version 5."""
    renamed = {}
    for key, value in state.items():
        for pattern, new in _OLD:
            key = re.sub(pattern, new, key)
        renamed[key] = value
    return renamed


def to_timm(state):
    """Rename to timm's names, which MAE, MoCo v3, DINO and DeiT share; what is no part of the encoder is left out."""
    state = {re.sub(r"^(vit|deit)\.", "", key): value for key, value in state.items()}
    whole = (
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.distillation_token", "dist_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection.weight", "patch_embed.proj.weight"),
        ("embeddings.patch_embeddings.projection.bias", "patch_embed.proj.bias"),
        ("layernorm.weight", "norm.weight"),
        ("layernorm.bias", "norm.bias"),
    )
    timm = {new: state[old] for old, new in whole if old in state}
    block = (
        ("layernorm_before", "norm1"),
        ("attention.o_proj", "attn.proj"),
        ("layernorm_after", "norm2"),
        ("mlp.fc1", "mlp.fc1"),
        ("mlp.fc2", "mlp.fc2"),
    )
    for i in range(DEPTH):
        for end in ("weight", "bias"):
            parts = [state[f"layers.{i}.attention.{part}_proj.{end}"] for part in "qkv"]
            timm[f"blocks.{i}.attn.qkv.{end}"] = torch.cat(parts)
            for old, new in block:
                timm[f"blocks.{i}.{new}.{end}"] = state[f"layers.{i}.{old}.{end}"]
    return timm


def with_decoder(state):
    """Add what a full checkpoint of MAE holds beside the encoder."""
    extra = {f"decoder_blocks.{i}.attn.qkv.weight": torch.zeros(48, 16) for i in range(2)}
    names = (
        "decoder_embed.weight",
        "decoder_norm.bias",
        "decoder_pred.weight",
        "decoder_pos_embed",
        "mask_token",
    )
    return state | extra | {name: torch.zeros(1, 1, 16) for name in names}


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def moco(state):
    """Write a state dict as MoCo v3's training script does."""
    both = under("module.base_encoder.", state | {"head.0.weight": torch.zeros(8, WIDTH)})
    both |= under("module.momentum_encoder.", {key: value + 1 for key, value in state.items()})
    both["module.predictor.0.weight"] = torch.zeros(8, 8)
    return {"epoch": 300, "arch": "vit_base", "state_dict": both, "optimizer": {"state": {}}}


@pytest.fixture(scope="session")
def make_source():
    """Build a small model of transformers with random weights, biases and norms, in float32 or float64."""

    def make(kind="vit", *, dtype=torch.float32, image=16, patch=4, seed=0, **options):
        config, model = KINDS[kind]
        options = {"num_attention_heads": HEADS, "hidden_size": WIDTH, "num_hidden_layers": DEPTH} | options
        if kind.startswith("mae"):
            options |= {"mask_ratio": 0.0, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
                        "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}  # fmt: skip
        made = model(
            config(
                intermediate_size=48,
                image_size=image,
                patch_size=patch,
                attn_implementation="eager",
                **options,
            )
        )
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in made.named_parameters():
                noise = torch.randn(value.shape, generator=draw, dtype=torch.float64)
                scale, shift = (0.2, 1.0) if "norm" in name and "weight" in name else (0.4, 0.0)
                value.copy_((shift + scale * noise).to(value))
        return made.to(dtype).eval()

    return make


@pytest.fixture
def write(tmp_path):
    """Write what ``torch.save`` or safetensors writes; return the path."""

    def save(stored, name="model.pth"):
        path = tmp_path / name
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file({key: value.contiguous() for key, value in stored.items()}, path)
        else:
            torch.save(stored, path)
        return path

    return save


@pytest.fixture(scope="session")
def names():
    """The functions that rename."""
    from types import SimpleNamespace

    return SimpleNamespace(
        transformers_4=to_transformers_4, timm=to_timm, with_decoder=with_decoder, under=under, moco=moco
    )


@pytest.fixture(scope="session")
def images():
    """Random images as they go in, (image, channel, height, width)."""

    def draw(count=3, height=16, width=16):
        generator = torch.Generator().manual_seed(1)
        return torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64)

    return draw


@pytest.fixture(scope="session")
def hollow():
    """Build timm's tensors of one block, all 0, of a width whose real models would take hundreds of megabytes."""

    def make(width):
        norms = {f"{name}.{end}": (width,) for name in ("norm", "blocks.0.norm1", "blocks.0.norm2")
                 for end in ("weight", "bias")}  # fmt: skip
        shapes = norms | {
            "cls_token": (1, 1, width), "pos_embed": (1, 17, width), "patch_embed.proj.weight": (width, 3, 4, 4),
            "patch_embed.proj.bias": (width,), "blocks.0.attn.qkv.weight": (3 * width, width),
            "blocks.0.attn.qkv.bias": (3 * width,), "blocks.0.attn.proj.weight": (width, width),
            "blocks.0.attn.proj.bias": (width,), "blocks.0.mlp.fc1.weight": (8, width), "blocks.0.mlp.fc1.bias": (8,),
            "blocks.0.mlp.fc2.weight": (width, 8), "blocks.0.mlp.fc2.bias": (width,),
        }  # fmt: skip
        return {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}

    return make


@pytest.fixture
def undrawn(monkeypatch):
    """Let `vitdyn inspect` write empty pictures: to draw takes longer than all else that it does."""
    from vitdyn.plotting.drawing import figure_files

    def write(drawing, stem):
        paths = figure_files(stem)
        for path in paths.values():
            path.touch()
        return paths["pdf"]

    monkeypatch.setattr("vitdyn.plotting.heads.draw_heads", lambda models: None)
    monkeypatch.setattr("vitdyn.plotting.save_figure", write)
