"""Images go in as their models' own readers would have them: beside transformers' processors and Pillow. Exact."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from vitdyn.vits import Preprocessing, find_images, load_images, read_checkpoint

HEADS = 4


def picture(seed=0, size=(70, 50)):
    colours = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(colours)


@pytest.mark.parametrize("size", [(70, 50), (51, 301), (16, 16)])
@pytest.mark.parametrize("origin", ["mae", "moco"])
def test_originals_resize_the_shorter_side_and_crop_the_centre(origin, size, make_source, names, write):
    state = names.timm(make_source().state_dict())
    path = write(names.moco(state) if origin == "moco" else {"model": state})
    found = read_checkpoint(path, heads=HEADS).preprocessing
    kind = "bilinear" if origin == "moco" else "bicubic"
    assert (found.resize, found.crop, found.filter) == (18, (16, 16), kind), "256 and 224, scaled to 16"
    width, height = size
    small = picture(size=size).resize(
        (18 * width // min(size), 18 * height // min(size)), Image.Resampling[kind.upper()]
    )
    left, top = round((small.width - 16) / 2), round((small.height - 16) / 2)
    colours = np.asarray(small)[top : top + 16, left : left + 16].transpose(2, 0, 1) / 255
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    np.testing.assert_allclose(found(picture(size=size)), (colours - mean) / deviation, rtol=0, atol=1e-6)


TOLD = {
    "none": {},
    "ImageNet": {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3},
    "shortest edge": {
        "size": {"shortest_edge": 20},
        "do_center_crop": True,
        "crop_size": {"height": 16, "width": 16},
    },
    "larger, then cropped": {"size": {"height": 24, "width": 20}, "do_center_crop": True, "crop_size": 16},
    "no division": {"do_rescale": False, "do_normalize": False},
}


@pytest.mark.parametrize("told", TOLD)
def test_transformers_files_are_followed(told, make_source, write):
    from transformers import ViTImageProcessorPil

    path = write(make_source().state_dict(), "model.safetensors")
    processor = ViTImageProcessorPil(**{"size": {"height": 16, "width": 16}} | TOLD[told])
    found = read_checkpoint(path, heads=HEADS).preprocessing
    if told == "none":
        assert "no preprocessor_config.json" in found.source
    else:
        processor.save_pretrained(path.parent)
        found = read_checkpoint(path, heads=HEADS).preprocessing
        assert found.source == "preprocessor_config.json"
    for size in ((70, 50), (33, 90)):
        wanted = processor(picture(size=size), return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(found(picture(size=size)), wanted.float(), rtol=1e-5, atol=2e-6)


def test_old_files_give_the_size_as_a_number(make_source, write, complaint):
    path = write(make_source().state_dict(), "model.safetensors")
    beside = path.parent / "preprocessor_config.json"
    beside.write_text(json.dumps({"size": 16, "resample": 3}))
    assert read_checkpoint(path, heads=HEADS).preprocessing.resize == (16, 16)
    beside.write_text(json.dumps({"size": 224}))
    with complaint("preprocessor_config.json", "(16, 16)"):
        read_checkpoint(path, heads=HEADS)


def test_mae_in_transformers_has_the_constants_of_mae(make_source, write):
    path = write(make_source("mae with decoder").state_dict(), "model.safetensors")
    assert read_checkpoint(path, heads=HEADS).preprocessing.mean == (0.485, 0.456, 0.406)


def test_timm_says_it_in_its_own_file(make_source, names, write):
    path = write(names.timm(make_source().state_dict()), "model.safetensors")
    told = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "crop_pct": 0.9}
    (path.parent / "config.json").write_text(json.dumps({"num_features": 32, "pretrained_cfg": told}))
    found = read_checkpoint(path, heads=HEADS).preprocessing
    assert (found.mean, found.resize, found.crop) == ((0.5, 0.5, 0.5), 17, (16, 16))
    assert "pretrained_cfg" in found.describe()


@pytest.mark.parametrize(
    ("change", "field"),
    [({"mean": (0.5,)}, "mean"), ({"deviation": (0.5, 0.5, 0.0)}, "deviation"), ({"filter": "spline"}, "filter"),
     ({"resize": 0}, "resize"), ({"crop": (0, 3)}, "crop"), ({"scale": 0.0}, "scale")],
)  # fmt: skip
def test_bad_constants_are_refused(change, field, complaint):
    with complaint(field):
        Preprocessing(**{"resize": 18, "crop": (16, 16)} | change)


@pytest.fixture
def folder(tmp_path):
    """Nine files: five images of different modes, four that cannot be read."""
    root = tmp_path / "images"
    (root / "inner").mkdir(parents=True)
    colours = picture()
    colours.save(root / "a.png")
    colours.convert("L").save(root / "grey.png")
    colours.convert("RGBA").save(root / "rgba.png")
    colours.convert("P").save(root / "palette.png")
    colours.save(root / "inner" / "z.jpg")
    whole = (root / "inner" / "z.jpg").read_bytes()
    (root / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "notes.txt").write_text("no image")
    (root / "empty.png").write_bytes(b"")
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(root / "deep.png")
    return root


def test_good_images_are_taken_and_the_others_named(folder, complaint):
    found = find_images(folder)
    assert [path.name for path in found.paths] == ["a.png", "grey.png", "z.jpg", "palette.png", "rgba.png"]
    reasons = {path.name: reason for path, reason in found.skipped}
    assert reasons.keys() == {"broken.jpg", "notes.txt", "empty.png", "deep.png"}
    assert reasons["notes.txt"] == "no image" and "eight bits" in reasons["deep.png"]
    batch = load_images(found.paths, Preprocessing(resize=18, crop=(16, 16)))
    assert batch.shape == (5, 3, 16, 16) and batch.isfinite().all()
    torch.testing.assert_close(batch[0], batch[-1], rtol=0, atol=0)
    assert find_images(folder, limit=2).paths == found.paths[:2]
    with complaint("limit"):
        find_images(folder, limit=0)
    with complaint("images", "no such folder"):
        find_images(folder / "none")
    (folder / "only").mkdir()
    (folder / "only" / "text.txt").write_text("no image")
    with complaint("images", "no image"):
        find_images(folder / "only")
