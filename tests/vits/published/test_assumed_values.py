"""What decides the numbers is found, asked for, or said to be assumed: heads, grid, resizing, constants, ε. Exact."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from vitdyn.cli.inspect import Inspect
from vitdyn.vits import FAMILIES, forward, load_images, read_checkpoint


def sines(row_first, *, side=4, width=384, prefix=1):
    """Fixed positions as their authors make them: a quarter of the channels each for sines and cosines of an axis."""
    places = np.array([(row, column) for row in range(side) for column in range(side)], float)
    first, second = places.T if row_first else places.T[::-1]
    omega = 10_000.0 ** -(np.arange(width // 4) / (width / 4))
    waves = [wave(np.outer(axis, omega)) for axis in (first, second) for wave in (np.sin, np.cos)]
    return torch.from_numpy(np.concatenate([np.zeros((prefix, width)), np.hstack(waves)])).float()[None]


@pytest.fixture
def small(make_source, names):
    """A ViT-S in timm's names, its positions learned."""
    return names.timm(make_source(hidden_size=384).state_dict())


def fields(checkpoint):
    return {each.field for each in checkpoint.assumed}


MOCO = {
    "while training": lambda names, state: names.moco(state),
    "linear probe": lambda names, state: {
        "arch": "vit_small",
        "state_dict": names.under("module.", state | {"head.weight": torch.zeros(9, 384)}),
    },
    "converted to DeiT": lambda names, state: {"model": state},
    "one process": lambda names, state: {"state_dict": names.under("base_encoder.", state)},
    "plain keys": lambda names, state: state,
    "compiled": lambda names, state: {"state_dict": names.under("module._orig_mod.", state)},
}


@pytest.mark.parametrize("file", MOCO)
def test_moco_is_known_in_every_file_that_its_code_writes(file, small, names, write):
    """Twelve heads and a bilinear resize, from the prefix or from the positions, which its training never moves."""
    state = small | {"pos_embed": sines(row_first=True)}
    found = read_checkpoint(write(MOCO[file](names, state)))
    assert (found.architecture.heads, found.preprocessing.filter) == (12, "bilinear")
    assert "MoCo v3" in found.heads_from and found.preprocessing.source == "constants of MoCo v3"
    assert fields(found) <= {"branch"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_fixed_positions_are_known_in_any_precision_and_after_a_little_training(dtype, small, write):
    noise = 0.02 * torch.randn(1, 17, 384, generator=torch.Generator().manual_seed(0))
    for row_first, heads in ((True, 12), (False, 6)):
        state = small | {"pos_embed": (sines(row_first) + noise).to(dtype)}
        assert read_checkpoint(write(state)).architecture.heads == heads


def test_what_cannot_be_told_apart_is_assumed_aloud(small, write):
    """Plain keys of width 384: six heads in DeiT and DINO, twelve in MoCo v3 once its positions were trained."""
    found = read_checkpoint(write({"model": small}))
    assert (found.architecture.heads, found.preprocessing.filter) == (6, "bicubic")
    assert fields(found) == {"heads", "grid", "epsilon", "preprocessing"}
    lines = [line for line in found.describe().splitlines() if line.startswith("assumed ")]
    assert len(lines) == 4
    assert "heads: 6" in lines[1] and "MoCo v3 has 12" in lines[1] and "--heads or --family" in lines[1]
    assert "4×4" in lines[0] and "--grid" in lines[0] and "1e-06" in lines[2] and "--epsilon" in lines[2]
    assert "MoCo v3's are bilinear" in lines[3] and "--family" in lines[3]


def test_what_is_asked_for_is_not_assumed(small, write):
    path = write({"model": small})
    told = read_checkpoint(path, heads=12, grid=(4, 4), epsilon=1e-5, family="augreg")
    assert told.assumed == () and told.architecture.epsilon == 1e-5 and told.architecture.heads == 12
    assert (told.preprocessing.mean, told.preprocessing.resize) == ((0.5,) * 3, 17)
    moco = read_checkpoint(path, family="moco-v3")
    assert (moco.architecture.heads, moco.preprocessing.filter, fields(moco)) == (12, "bilinear", {"grid"})


@pytest.mark.parametrize(
    ("change", "field"),
    [({"family": "beit"}, "family"), ({"family": 3}, "family"), ({"epsilon": 0.0}, "epsilon"),
     ({"epsilon": "small"}, "epsilon"), ({"grid": (4,)}, "grid"), ({"grid": 16}, "grid"), ({"grid": (0, 4)}, "grid"),
     ({"heads": 2.5}, "heads")],
)  # fmt: skip
def test_what_is_told_wrongly_is_refused(change, field, small, write, complaint):
    with complaint(field):
        read_checkpoint(write(small), **change)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_heads_and_constants_for_the_widths_it_published(family, hollow, write):
    for width, heads in FAMILIES[family].heads.items():
        found = read_checkpoint(write(hollow(width)), family=family)
        assert found.architecture.heads == heads and "heads" not in fields(found)


def test_giants_have_sixteen_heads(hollow, write):
    """ViT-g and ViT-G of 1408 and 1664: 88 and 104 dimensions a head."""
    for width in (1408, 1664):
        assert read_checkpoint(write(hollow(width))).architecture.heads == 16


@pytest.mark.parametrize(
    ("mark", "family"),
    [("decoder", "MAE"), ("positions", "MAE"), ("distilled", "DeiT"), ("teacher", "DINO")],
)
def test_what_a_file_betrays_is_no_assumption(mark, family, hollow, names, write):
    state = hollow(768)
    if mark == "distilled":
        state |= {"dist_token": torch.zeros(1, 1, 768), "pos_embed": torch.zeros(1, 18, 768)}
    if mark == "positions":
        state["pos_embed"] = sines(row_first=False, width=768)
    stored = {"decoder": names.with_decoder(state), "teacher": {"teacher": names.under("backbone.", state)}}
    found = read_checkpoint(write(stored.get(mark, state)))
    assert found.architecture.heads == 12 and found.preprocessing.source == f"constants of {family}"
    assert fields(found) <= {"grid"}


def unfixed(state, prefix=1):
    """Take the positions of the tokens before the patches away, and add them to these tokens."""
    positions = state["pos_embed"]
    tokens = {"cls_token": positions[:, :1], **({"dist_token": positions[:, 1:2]} if prefix == 2 else {})}
    return (
        state
        | {name: state[name] + value for name, value in tokens.items()}
        | {"pos_embed": positions[:, prefix:]}
    )


@pytest.mark.parametrize("told", [{}, {"grid": (15, 15)}])
def test_positions_of_the_patches_alone_are_read_as_such(told, make_source, names, write, images):
    """225 = 15²: flexivit, and DeiT III without layer scale. The same model with positions for all is the witness."""
    state = names.timm(make_source(image=60, dtype=torch.float64).state_dict())
    whole = read_checkpoint(write(state, "whole.pth"), heads=4, precision="float64")
    bare = read_checkpoint(write(unfixed(state), "bare.pth"), heads=4, precision="float64", **told)
    assert (bare.architecture.rows, bare.architecture.columns, bare.architecture.tokens) == (15, 15, 226)
    pictures = images(2, 60, 60)
    torch.testing.assert_close(forward(bare, pictures).attention, forward(whole, pictures).attention)
    line = next((each.describe() for each in bare.assumed if each.field == "grid"), "")
    assert bool(told) or ("15×15" in line and "none for the class token" in line)


def test_positions_without_class_token_on_a_grid_that_is_no_square(
    make_source, names, write, images, complaint
):
    state = names.timm(make_source("deit", image=(8, 24), dtype=torch.float64).state_dict())
    path = write(unfixed(state, prefix=2))
    with complaint("grid", "give the grid"):
        read_checkpoint(path, heads=4)
    with complaint("grid", "if the class token has none, 12"):
        read_checkpoint(path, heads=4, grid=(3, 5))
    found = read_checkpoint(path, heads=4, grid=(2, 6), precision="float64")
    whole = read_checkpoint(write(state, "whole.pth"), heads=4, grid=(2, 6), precision="float64")
    pictures = images(2, 8, 24)
    torch.testing.assert_close(forward(found, pictures).final, forward(whole, pictures).final)


def test_a_grid_that_makes_one_of_a_square_of_positions_the_class_tokens_says_so(make_source, names, write):
    """14 × 16 and the class token are 225 too: what was asked for is done, and its doubt is said."""
    state = names.timm(make_source(image=(56, 64)).state_dict())
    found = read_checkpoint(write(state), heads=4, grid=(14, 16))
    (line,) = (each.describe() for each in found.assumed if each.field == "positions")
    assert "225" in line and "--grid 15 15" in line


def timm_config(**change):
    told = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1], "interpolation": "bilinear", "crop_pct": 0.8,
            "input_size": [3, 16, 16], "architecture": "vit_small_patch4_16"}  # fmt: skip
    return told | change


@pytest.mark.parametrize("form", ["flat", "nested"])
def test_timms_config_is_read_in_its_older_and_its_newer_form(form, small, write):
    path = write(small, "model.safetensors")
    told = timm_config() if form == "flat" else {"pretrained_cfg": timm_config(), "architecture": "vit_small"}
    (path.parent / "config.json").write_text(json.dumps(told | {"num_features": 384}))
    found = read_checkpoint(path)
    made = found.preprocessing
    assert (made.mean, made.deviation, made.filter, made.resize) == (
        (0.4, 0.5, 0.6),
        (0.2, 0.3, 0.1),
        "bilinear",
        20,
    )
    assert found.assumed == () and found.architecture.heads == 6
    (path.parent / "config.json").write_text(json.dumps(told | {"model_args": {"num_heads": 8}}))
    assert read_checkpoint(path).architecture.heads == 8
    assert read_checkpoint(path).heads_from == "says config.json"


def test_timms_arguments_tell_of_positions_and_size(make_source, names, write, complaint):
    state = names.timm(make_source(image=(8, 24)).state_dict())
    path = write(unfixed(state))
    config = path.parent / "config.json"
    arguments = {"num_heads": 4, "img_size": [8, 24], "no_embed_class": True}
    config.write_text(json.dumps(timm_config(architecture="vit_x", model_args=arguments)))
    found = read_checkpoint(path)
    assert (found.architecture.rows, found.architecture.columns, found.architecture.tokens) == (2, 6, 13)
    config.write_text(json.dumps(timm_config(model_args=arguments | {"no_embed_class": False})))
    with complaint("grid"):
        read_checkpoint(path)
    for change, field in (({"no_embed_class": 1}, "no_embed_class"), ({"num_heads": "4"}, "heads"),
                          ({"act_layer": "silu"}, "act_layer"), ({"img_size": "large"}, "image_size")):  # fmt: skip
        config.write_text(json.dumps(timm_config(model_args=arguments | change)))
        with complaint(field, "config.json"):
            read_checkpoint(path)


def test_timm_fills_what_its_file_leaves_out_with_its_own_defaults(small, write):
    path = write(small)
    (path.parent / "config.json").write_text(json.dumps({"architecture": "vit_small", "pretrained_cfg": {}}))
    made = read_checkpoint(path).preprocessing
    assert (made.mean, made.filter, made.resize) == ((0.485, 0.456, 0.406), "bicubic", int(16 / 0.875))
    (path.parent / "config.json").write_text(json.dumps(timm_config(crop_mode="squash")))
    assert read_checkpoint(path).preprocessing.resize == (20, 20)


@pytest.mark.parametrize(
    "told",
    [
        {"hidden_size": 384},
        timm_config(num_features=768),
        timm_config(model_args={"embed_dim": 192}),
        {"x": 1},
    ],
)
def test_a_description_that_is_not_used_is_named(told, small, write):
    path = write(small)
    (path.parent / "config.json").write_text(json.dumps(told))
    found = read_checkpoint(path)
    assert "beside it, not used: config.json" in found.describe() and "preprocessing" in fields(found)


def test_what_transformers_file_leaves_out_is_assumed_unless_it_names_the_processor(make_source, write):
    path = write(make_source().state_dict(), "model.safetensors")
    assert fields(read_checkpoint(path, heads=4)) == {"grid", "epsilon", "preprocessing"}
    beside = path.parent / "preprocessor_config.json"
    beside.write_text(json.dumps({"size": 16, "resample": 3}))
    (line,) = (each for each in read_checkpoint(path, heads=4).assumed if each.field == "preprocessing")
    assert "image_mean, image_std" in line.describe()
    beside.write_text(json.dumps({"size": 16, "image_processor_type": "ViTImageProcessor"}))
    assert "preprocessing" not in fields(read_checkpoint(path, heads=4))


def test_masked_image_modelling_is_not_taken_for_mae(make_source, write):
    """Both have a decoder in transformers; only that of MAE embeds, and has MAE's constants."""
    masked = read_checkpoint(write(make_source("masked").state_dict()), heads=4)
    mae = read_checkpoint(write(make_source("mae with decoder").state_dict()), heads=4)
    assert (masked.preprocessing.mean[0], mae.preprocessing.mean[0]) == (0.5, 0.485)


def test_what_was_assumed_is_a_line_and_a_column(small, undrawn, write, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(tmp_path / "images" / "a.png")
    moco = small | {"pos_embed": sines(row_first=True)}
    paths = (write(small, "plain.pth"), write({"model": moco}, "moco.pth"))
    Inspect(checkpoints=paths, images=tmp_path / "images", out=tmp_path / "out")()
    printed = capsys.readouterr().out
    assert printed.count("assumed heads: 6") == 2, "with the report, and below the table"
    (table,) = (tmp_path / "out").glob("*-heads.csv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["checkpoint"]: row["assumed"] for row in rows}["moco"] == ""
    assert {row["assumed"] for row in rows if row["checkpoint"] == "plain"} == {
        "grid: 4×4; heads: 6; epsilon: 1e-06; preprocessing: constants of MAE, DINO and DeiT"
    }


def test_bilinear_and_bicubic_differ(small, write, tmp_path):
    """The control: what is assumed of a resize does decide the numbers."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(
        tmp_path / "a.png"
    )
    one, other = (
        load_images([tmp_path / "a.png"], read_checkpoint(write(small), family=family).preprocessing)
        for family in ("deit", "moco-v3")
    )
    assert float((one - other).abs().max()) > 0.1


@pytest.mark.parametrize("value", ["3", 3.5, 7])
@pytest.mark.parametrize(
    "place", ["alone", "beside pretrained_cfg", "against what was told", "of transformers"]
)
def test_a_number_of_heads_that_is_passed_over_is_said(place, value, small, make_source, names, write):
    state = make_source().state_dict() if place == "of transformers" else small
    path = write(state, "model.safetensors")
    config = {
        "alone": {"num_heads": value},
        "beside pretrained_cfg": {"pretrained_cfg": timm_config(), "num_heads": value},
        "against what was told": {"pretrained_cfg": timm_config(), "model_args": {"num_heads": value}},
        "of transformers": {"num_heads": value},
    }[place]
    (path.parent / "config.json").write_text(json.dumps(config))
    told = read_checkpoint(path, heads=4).describe()
    (line,) = [line for line in told.splitlines() if "not used" in line]
    assert "config.json" in line
    assert repr(value) in line


def test_a_number_of_heads_that_is_used_is_not_said_to_be_passed_over(small, write):
    path = write(small, "model.safetensors")
    config = {"pretrained_cfg": timm_config(), "model_args": {"num_heads": 6}}
    (path.parent / "config.json").write_text(json.dumps(config))
    assert "not used" not in read_checkpoint(path).describe()
    assert "not used" not in read_checkpoint(path, heads=6).describe()
