"""The forward pass beside that of transformers, from weights in every layout of names. Exact."""

import argparse

import pytest
import torch

from vitdyn.vits import forward, read_checkpoint

HEADS = 4


def truth(source, images):
    """Return attention, residual stream and final tokens as transformers has them, encoder only."""
    encoder = next((getattr(source, name) for name in ("vit", "deit") if hasattr(source, name)), source)
    options = {}
    if "MAE" in type(encoder).__name__:  # increasing noise leaves the patches in their order
        patches = source.config.image_size**2 // source.config.patch_size**2
        options["noise"] = torch.arange(patches, dtype=images.dtype).expand(len(images), -1)
    with torch.no_grad():
        passed = encoder(images, output_attentions=True, output_hidden_states=True, **options)
    return passed.attentions, passed.hidden_states, passed.last_hidden_state


def assert_same(found, wanted, tolerance):
    attention, hidden, final = wanted
    assert len(found.attention) == len(attention) and len(found.residual) == len(attention) + 1
    torch.testing.assert_close(found.attention, attention, rtol=0, atol=tolerance)
    scale = float(hidden[-1].abs().max())
    torch.testing.assert_close(found.residual, hidden, rtol=0, atol=tolerance * scale)
    torch.testing.assert_close(found.final, final, rtol=0, atol=tolerance * scale)


STORED = {
    "mae": lambda names, state: ({"model": names.timm(state)}, "model.pth"),
    "mae, full": lambda names, state: ({"model": names.with_decoder(names.timm(state))}, "model.pth"),
    "mae, while training": lambda names, state: (
        {"model": names.timm(state), "optimizer": {}, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        "checkpoint-3.pth",
    ),
    "moco v3": lambda names, state: (names.moco(names.timm(state)), "model.pth.tar"),
    "dino": lambda names, state: (names.timm(state), "model.pth"),
    "dino, full": lambda names, state: (
        {
            "student": names.under(
                "module.backbone.", {key: value + 1 for key, value in names.timm(state).items()}
            ),
            "teacher": names.under("backbone.", names.timm(state))
            | {"head.mlp.0.weight": torch.zeros(4, 32)},
            "args": argparse.Namespace(arch="vit_base"),
            "epoch": 1,
        },
        "checkpoint.pth",
    ),
    "deit": lambda names, state: (
        {"model": names.timm(state) | {"head.weight": torch.zeros(10, 32), "head.bias": torch.zeros(10)}},
        "model.pth",
    ),
    "timm": lambda names, state: (names.timm(state), "model.safetensors"),
    "transformers 4": lambda names, state: (names.transformers_4(state), "pytorch_model.bin"),
    "transformers 5": lambda names, state: (state, "model.safetensors"),
}


@pytest.mark.parametrize("layout", STORED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_every_layout_gives_what_transformers_computes(layout, dtype, make_source, names, write, images):
    """The softmax of transformers is in single precision whatever the model's: attention agrees to that."""
    epsilon = 1e-12 if layout.startswith("transformers") else 1e-6
    source = make_source("vit", dtype=dtype, layer_norm_eps=epsilon)
    path = write(*STORED[layout](names, source.state_dict()))
    checkpoint = read_checkpoint(path, heads=HEADS, precision=str(dtype).removeprefix("torch."))
    wanted = truth(source, images().to(dtype))
    assert float(wanted[0][0].std()) > 0.01, "attention is far from uniform"
    found = forward(checkpoint, images())
    assert_same(found, wanted, 1e-5 if dtype == torch.float32 else 1e-6)
    for maps in found.attention:
        torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["vit", "classifier", "masked", "mae", "mae with decoder", "deit"])
def test_in_double_precision_throughout_the_two_agree_to_round_off(
    kind, make_source, names, write, images, monkeypatch
):
    """Every model of transformers, saved with either version's names; its softmax is kept in double here."""
    softmax = torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim, dtype=None: softmax(x, dim=dim))
    source = make_source(kind, dtype=torch.float64, patch=8 if kind == "mae" else 4, layer_norm_eps=1e-6)
    wanted = truth(source, images())
    states = (source.state_dict(), names.transformers_4(source.state_dict()))
    for version, state in zip((5, 4), states, strict=True):
        path = write(state, f"model-{version}.safetensors")
        (path.parent / "config.json").write_text(source.config.to_json_string())
        checkpoint = read_checkpoint(path, precision="float64")
        assert checkpoint.report.layout == f"transformers {version}"
        assert checkpoint.architecture.heads == HEADS and checkpoint.architecture.epsilon == 1e-6
        assert_same(forward(checkpoint, images()), wanted, 1e-12)
        if kind == "mae with decoder":
            assert "decoder" in dict(checkpoint.report.set_aside)


def test_a_folder_that_transformers_saved_is_read(make_source, tmp_path, images):
    source = make_source("mae with decoder", dtype=torch.float64)
    source.save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path, precision="float64")
    assert_same(forward(checkpoint, images()), truth(source, images()), 1e-6)


def test_a_distilled_model_has_two_tokens_before_the_patches(make_source, names, write, images):
    source = make_source("deit", dtype=torch.float64, layer_norm_eps=1e-6)
    stored = names.timm(source.state_dict()) | {"head.bias": torch.zeros(9), "head_dist.bias": torch.zeros(9)}
    checkpoint = read_checkpoint(write({"model": stored}), heads=HEADS, precision="float64")
    assert checkpoint.architecture.prefix == 2 and checkpoint.architecture.tokens == 18
    assert dict(checkpoint.report.set_aside) == {"head": 2}
    assert_same(forward(checkpoint, images()), truth(source, images()), 1e-6)


def test_a_grid_that_is_no_square_is_read_where_it_is_told(make_source, names, write, images, complaint):
    source = make_source("vit", image=(8, 24), layer_norm_eps=1e-6, dtype=torch.float64)
    path = write({"model": names.timm(source.state_dict())})
    with complaint("grid", "give the grid"):
        read_checkpoint(path, heads=HEADS)
    with complaint("grid", "12"):
        read_checkpoint(path, heads=HEADS, grid=(3, 5))
    checkpoint = read_checkpoint(path, heads=HEADS, grid=(2, 6), precision="float64")
    pictures = images(2, 8, 24)
    assert_same(forward(checkpoint, pictures), truth(source, pictures), 1e-6)
    assert checkpoint.preprocessing.crop == (8, 24)


def test_maps_may_be_reduced_as_they_come(make_source, names, write, images):
    checkpoint = read_checkpoint(write(names.timm(make_source().state_dict())), heads=HEADS)
    whole = forward(checkpoint, images())
    shapes = []
    reduced = forward(
        checkpoint,
        images(),
        reduce=lambda maps: (shapes.append(maps.shape), maps.mean())[1],
        keep_residual=False,
    )
    assert shapes == [(3, HEADS, 17, 17)] * 3 and reduced.residual == ()
    torch.testing.assert_close(reduced.attention, tuple(maps.mean() for maps in whole.attention))
    torch.testing.assert_close(reduced.final, whole.final, rtol=0, atol=0)


def test_a_model_without_biases_of_queries_keys_and_values(make_source, names, write, images):
    source = make_source("vit", qkv_bias=False, dtype=torch.float64, layer_norm_eps=1e-12)
    checkpoint = read_checkpoint(
        write(source.state_dict(), "model.safetensors"), heads=HEADS, precision="float64"
    )
    assert "no layers.*.attention.q_proj.bias" in checkpoint.report.absent
    assert_same(forward(checkpoint, images()), truth(source, images()), 1e-6)


def test_images_of_another_size_are_refused(make_source, names, write, images, complaint):
    checkpoint = read_checkpoint(write(names.timm(make_source().state_dict())), heads=HEADS)
    with complaint("shape of images", "(3, 16, 16)"):
        forward(checkpoint, images(1, 16, 20))
