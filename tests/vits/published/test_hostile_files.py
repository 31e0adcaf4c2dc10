"""Files that claim more than they hold, descriptions that say nonsense: one line, before anything is made. Exact."""

import json
import re
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from vitdyn.vits import (
    Preprocessing,
    find_images,
    forward,
    head_metrics,
    measure_heads,
    read_checkpoint,
)

HEADS = 4


@pytest.fixture
def timm(make_source, names):
    return names.timm(make_source().state_dict())


@pytest.fixture
def small_machine():
    """Let this process have 256 MiB more and nothing beyond: what allocates before it refuses runs out of memory."""
    resource = pytest.importorskip("resource")
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux says how much a process has")
    size = int(re.search(r"VmSize:\s*(\d+) kB", status.read_text())[1]) * 1024
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


CLAIMS = {
    "9 GB of weights": {"blocks.0.mlp.fc1.weight": (48_000, 48_000)},
    "400 GB of weights": {"blocks.2.mlp.fc2.weight": (320_000, 320_000)},
    "a grid of 1e9 patches": {"pos_embed": (1, 10**9 + 1, 32)},
    "patches of 60,000 pixels": {"patch_embed.proj.weight": (32, 3, 60_000, 60_000)},
    "set aside, but there": {"head.weight": (10**6, 10**6)},
}


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("container", ["zip", "old"])
def test_zero_strides_are_refused_by_what_was_stored(
    claim, container, timm, tmp_path, complaint, small_machine
):
    state = timm | {name: torch.zeros(1).expand(shape) for name, shape in CLAIMS[claim].items()}
    path = tmp_path / "model.pth"
    torch.save({"model": state}, path, _use_new_zipfile_serialization=container == "zip")
    assert path.stat().st_size < 475_000
    with complaint("checkpoint", "claims more numbers than the file's"):
        read_checkpoint(path, heads=HEADS)


def test_one_storage_under_many_names_is_bounded(timm, write, complaint):
    """A thousand names for one megabyte are a gigabyte once they are widened; tied weights are two or three."""
    one = torch.zeros(2**20, dtype=torch.float16)
    with complaint("checkpoint", "claims more numbers"):
        read_checkpoint(write(timm | {f"head.{number}": one for number in range(1000)}), heads=HEADS)
    assert read_checkpoint(write(timm | {"head.a": one, "head.b": one}), heads=HEADS).report.read == len(timm)


def test_compressed_weights_are_refused_by_their_declared_size(timm, tmp_path, complaint, small_machine):
    whole, packed = tmp_path / "whole.pth", tmp_path / "packed.pth"
    torch.save({"model": timm | {"head.weight": torch.zeros(4096, 4096)}}, whole)
    with zipfile.ZipFile(whole) as stored, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in stored.infolist():
            archive.writestr(part.filename, stored.read(part))
    assert packed.stat().st_size < 475_000
    with complaint("checkpoint", "is compressed"):
        read_checkpoint(packed, heads=HEADS)
    assert read_checkpoint(whole, heads=HEADS).report.read == len(timm)


@pytest.mark.parametrize("name", ["holes.pth", "holes.safetensors"])
def test_a_file_beyond_the_memory_there_is_is_not_read(name, tmp_path, complaint):
    """Nine terabytes of holes, which take no room on a disk."""
    path = tmp_path / name
    with path.open("wb") as file:
        try:
            file.truncate(9 * 2**40)
        except OSError:
            pytest.skip("this file system has no files of that length")
    with complaint("checkpoint", "9,216.0 GiB, and this machine has"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 3000])
def test_a_path_that_the_system_does_not_take_is_refused(name, complaint):
    with complaint("checkpoint", "cannot be opened"):
        read_checkpoint(name)
    with complaint("images", "cannot be opened"):
        find_images(name)


def test_a_flipped_bit_is_found_by_the_checksum_that_torch_does_not_compare(timm, write, complaint):
    """A bit of a weight, which would give other numbers; torch loads such a file without a word."""
    path = write(timm)
    stored = bytearray(path.read_bytes())
    at = stored.index(timm["pos_embed"].numpy().tobytes()) + 5
    stored[at] ^= 1
    path.write_bytes(stored)
    assert not torch.equal(torch.load(path, weights_only=True)["pos_embed"], timm["pos_embed"])
    with complaint("checkpoint", "does not fit its checksum"):
        read_checkpoint(path, heads=HEADS)
    torch.serialization.set_crc32_options(False)
    try:
        assert read_checkpoint(write(timm), heads=HEADS).report.read == len(timm), "none was written"
    finally:
        torch.serialization.set_crc32_options(True)


def header(text, data=b""):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(text)) + text + data


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "a length of 2^62": struct.pack("<Q", 2**62) + b"{}",
    "no JSON": header(b'{"a":'),
    "a negative shape": header({"a": ONE | {"shape": [-1]}}, bytes(4)),
    "a shape that overflows": header({"a": ONE | {"shape": [2**40, 2**40]}}, bytes(4)),
    "tensors that overlap": header({"a": ONE, "b": ONE}, bytes(4)),
    "an unknown type": header({"a": ONE | {"dtype": "Q9"}}, bytes(4)),
    "depth": header(b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a name twice": header(b'{"a":%s,"a":%s}' % ((json.dumps(ONE).encode(),) * 2), bytes(4)),
}


@pytest.mark.parametrize("fault", HEADERS)
def test_corrupt_headers_of_safetensors_are_refused(fault, tmp_path, complaint, small_machine):
    path = tmp_path / "model.safetensors"
    path.write_bytes(HEADERS[fault])
    with complaint("checkpoint", "fetch it again"):
        read_checkpoint(path)


SPOILED = {
    "scalar weights": ("blocks.0.attn.qkv.weight", lambda each: torch.zeros(()), "()"),
    "no width": ("patch_embed.proj.weight", lambda each: torch.zeros(0, 3, 4, 4), ""),
    "no patch": ("patch_embed.proj.weight", lambda each: torch.zeros(32, 3, 0, 0), ""),
    "complex positions": ("pos_embed", lambda each: each.to(torch.complex64), "complex64"),
    "positions on no device": ("pos_embed", lambda each: each.to("meta"), "real numbers belong"),
    "sparse positions": ("pos_embed", lambda each: each.to_sparse(), "sparse_coo"),
    "infinite positions": ("pos_embed", lambda each: each / 0, "not finite"),
    "numbers beyond single precision": ("pos_embed", lambda each: each.double() * 1e300, "not finite"),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_weights_that_are_none_are_refused(fault, timm, write):
    name, spoil, words = SPOILED[fault]
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        read_checkpoint(write(timm | {name: spoil(timm[name])}), heads=HEADS)
    assert words in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_narrow_weights_are_widened_and_overflow_is_seen(dtype, timm, write, complaint):
    narrow = {key: value.to(dtype) for key, value in timm.items()}
    found = read_checkpoint(write(narrow), heads=HEADS)
    torch.testing.assert_close(found.weights["positions"], narrow["pos_embed"].float(), rtol=0, atol=0)


NONSENSE = {
    "preprocessor_config.json": {
        "size": [{"shortest_edge": 60_000}, {"shortest_edge": None}, {"longest_edge": 16}, {"height": 16}, None,
                 "big", [16], 1e12, {"shortest_edge": 16, "longest_edge": 20}],
        "image_mean": [None, 0.5, "abc", [1e12, 1, 1], [0.5, 0.5], [True, 1, 1], [float("nan")] * 3],
        "image_std": [None, 0.5, [0, 1, 1], [1e12, 1, 1], [-1, 1, 1]],
        "resample": [9, None, "bilinear", 2.5],
        "rescale_factor": [0, None, 1e12, 1e-300, "small"],
        "do_resize": ["no", 1],
        "do_normalize": ["false"],
        "do_pad": [True],
    },
    "config.json": {
        "crop_pct": [1e-4, 0, None, 2, "all"],
        "mean": [None, 0.5, [1e12, 1, 1]],
        "std": [None, 0.5, [0, 1, 1], [1e12, 1, 1]],
        "interpolation": ["random", 3, None],
        "crop_mode": ["border", []],
        "input_size": ["x", [3, 1e9, 1e9], []],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        (name, field, value)
        for name, table in NONSENSE.items()
        for field, values in table.items()
        for value in values
    ],
)
def test_a_description_that_says_nonsense_is_named_with_its_field(
    name, field, value, make_source, names, write
):
    ours = name == "preprocessor_config.json"
    state = make_source().state_dict()
    path = write(state if ours else names.timm(state), "model.safetensors")
    told = (
        {"size": 16, field: value} if ours else {"architecture": "vit_base", "pretrained_cfg": {field: value}}
    )
    (path.parent / name).write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"\A[^\n]+ = [^\n]+: [^\n]+\Z") as caught:
        read_checkpoint(path, heads=HEADS)
    assert name in str(caught.value) and field in str(caught.value)


def test_null_means_and_deviations_are_right_where_nothing_is_normalised(make_source, write):
    path = write(make_source().state_dict(), "model.safetensors")
    told = {"size": 16, "image_mean": None, "image_std": None, "do_normalize": False}
    (path.parent / "preprocessor_config.json").write_text(json.dumps(told))
    assert read_checkpoint(path, heads=HEADS).preprocessing.deviation == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ('"num_attention_heads": 1e999', "num_attention_heads"),
        ('"num_attention_heads": ' + "1" * 3000, "num_attention_heads"),
        ('"num_attention_heads": null', "num_attention_heads"),
        ('"image_size": 1' + "0" * 400, "image_size"),
        ('"image_size": [1, 2, 3]', "image_size"),
        ('"layer_norm_eps": NaN', "layer_norm_eps"),
        ('"layer_norm_eps": 1' + "0" * 400, "layer_norm_eps"),
        ('"hidden_act": []', "hidden_act"),
        ('"num_channels": 1', "num_channels"),
        ('"patch_size": [4, 5]', "patch_size"),
        ('"num_attention_heads": 2, "num_attention_heads": 4', "num_attention_heads twice"),
        ('"x": "' + "x" * 2**24 + '"', "16 MiB"),
        ('"x": ' + "[" * 100_000, "no JSON"),
    ],
)
def test_numbers_of_a_description_that_are_none(told, field, make_source, write):
    path = write(make_source().state_dict(), "model.safetensors")
    (path.parent / "config.json").write_text(f'{{"hidden_size": 32, {told}}}')
    with pytest.raises(ValueError, match=r"\A[^\n]+ = [^\n]+: [^\n]+\Z") as caught:
        read_checkpoint(path, heads=None if "heads" in told else HEADS)
    assert "config.json" in str(caught.value) and field in str(caught.value) and len(str(caught.value)) < 500


def test_a_byte_order_mark_is_no_fault(make_source, write):
    source = make_source()
    path = write(source.state_dict(), "model.safetensors")
    (path.parent / "config.json").write_text("\ufeff" + source.config.to_json_string(), encoding="utf-8")
    assert read_checkpoint(path).heads_from == "says config.json"


@pytest.mark.parametrize(
    "change", [{"resize": 60_000}, {"resize": (65_000, 65_000)}, {"crop": (10**12, 1)}, {"crop": (70_000, 1)}]
)
def test_preprocessing_that_would_make_gigabytes_is_refused(change, complaint):
    with complaint(next(iter(change)), "at most 134,217,728 pixels"):
        Preprocessing(**{"resize": 18, "crop": (16, 16)} | change)


def test_a_model_of_other_colours_is_refused_by_name_before_an_image_is_read(
    make_source, names, write, complaint
):
    path = write(names.timm(make_source(num_channels=1).state_dict()), "grey.pth")
    with pytest.raises(ValueError, match=r"grey\.pth.*images of 1 channel,.*only RGB"):
        measure_heads(read_checkpoint(path, heads=HEADS), ["no such image"])


def test_what_memory_cannot_hold_is_refused_with_the_number(timm, write, complaint, monkeypatch):
    checkpoint = read_checkpoint(write(timm), heads=HEADS)
    with complaint("number of images", "1 or more"):
        measure_heads(checkpoint, [])
    need = head_metrics.bytes_per_image(checkpoint.architecture, 4)
    monkeypatch.setattr(head_metrics, "_memory", lambda device: 3 * need)
    with complaint("batch", "take fewer at a time"):
        measure_heads(checkpoint, ["none"] * 8, batch=4)
    with complaint("image", "cannot be read"):
        measure_heads(checkpoint, ["none"] * 8, batch=3)
    monkeypatch.setattr(head_metrics, "_memory", lambda device: need - 1)
    with complaint("batch", "too small for this model"):
        measure_heads(checkpoint, ["none"], batch=8)


def test_absurd_grids_are_refused_before_their_maps_are_made(timm, write, complaint):
    """A file of 2 MB, all of it honest, whose attention maps would take 550 GB an image."""
    positions = torch.zeros(1, 65_537, 32)
    checkpoint = read_checkpoint(write(timm | {"pos_embed": positions}), heads=HEADS)
    with complaint("batch", "GiB"):
        measure_heads(checkpoint, ["none"], batch=1)


def test_absurd_images_are_refused_with_the_checkpoint(timm, write):
    """Half a megabyte of positions and of patches, for images of 20,000 pixels a side."""
    state = timm | {
        "pos_embed": torch.zeros(1, 40_001, 32),
        "patch_embed.proj.weight": torch.zeros(32, 3, 100, 100),
    }
    with pytest.raises(ValueError, match=r"\Aresize = 22857: must make at most [^\n]* \(for big\.pth\)\Z"):
        read_checkpoint(write(state, "big.pth"), heads=HEADS)


def test_many_and_long_names_take_one_line(timm, write, complaint):
    names = {f"k{number}" * 3: torch.ones(1) for number in range(2000)} | {"x" * 10**6: torch.ones(1)}
    with complaint("checkpoint", "1995 more"):
        read_checkpoint(write(timm | names), heads=HEADS)


def test_attention_that_overflows_is_refused_by_block(timm, write, complaint, tmp_path):
    import numpy as np
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(
        tmp_path / "a.png"
    )
    large = timm | {"blocks.1.attn.qkv.weight": timm["blocks.1.attn.qkv.weight"] * 1e30}
    checkpoint = read_checkpoint(write(large), heads=HEADS)
    with complaint("checkpoint", "attention overflows"):
        measure_heads(checkpoint, [tmp_path / "a.png"])


@pytest.mark.parametrize(
    ("change", "field"),
    [({"resize": "x"}, "resize"), ({"resize": 3.5}, "resize"), ({"resize": (18,)}, "resize"), ({"resize": 0}, "resize"),
     ({"crop": None}, "crop"), ({"crop": 16}, "crop"), ({"mean": None}, "mean"), ({"mean": "abc"}, "mean"),
     ({"deviation": (1, 1, float("nan"))}, "deviation"), ({"scale": 1e-300}, "scale"), ({"filter": None}, "filter")],
)  # fmt: skip
def test_preprocessing_of_no_sense_is_refused(change, field, complaint):
    with complaint(field):
        Preprocessing(**{"resize": 18, "crop": (16, 16)} | change)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"branch": 3}, "branch"), ({"prefix": 3}, "prefix"), ({"precision": None}, "precision"),
     ({"heads": "4"}, "heads")],
)  # fmt: skip
def test_options_of_no_sense_are_refused(change, field, timm, write, complaint):
    with complaint(field):
        read_checkpoint(write(timm), **{"heads": HEADS} | change)


def test_images_that_are_not_finite_or_no_tensor_are_refused(timm, write, complaint):
    checkpoint = read_checkpoint(write(timm), heads=HEADS)
    images = torch.zeros(1, 3, 16, 16)
    images[0, 1, 2, 3] = torch.nan
    with complaint("images", "not finite"):
        forward(checkpoint, images)
    with complaint("images", "must be a tensor"):
        forward(checkpoint, [[1.0]])


def test_safetensors_under_another_name_are_read_as_what_they_are(timm, write, tmp_path):
    path = write(timm, "model.safetensors").rename(tmp_path / "model.pth")
    assert read_checkpoint(path, heads=HEADS).report.read == len(timm)
