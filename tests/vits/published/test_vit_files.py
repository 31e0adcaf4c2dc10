"""What is read of a file, what is set aside, and what is refused, in one line and without running anything. Exact."""

import json
import os
import pickle

import pytest
import torch

from vitdyn.vits import read_checkpoint

HEADS = 4


@pytest.fixture
def timm(make_source, names):
    return names.timm(make_source().state_dict())


def test_the_architecture_is_read_off_the_shapes(make_source, names, write):
    source = make_source(image=24, patch=8, num_channels=5)
    checkpoint = read_checkpoint(write({"model": names.timm(source.state_dict())}), heads=8)
    shape = checkpoint.architecture
    assert (shape.width, shape.depth, shape.heads, shape.patch, shape.channels, shape.hidden) == (
        32,
        3,
        8,
        8,
        5,
        48,
    )
    assert (shape.rows, shape.columns, shape.image_size, shape.prefix, shape.epsilon) == (
        3,
        3,
        (24, 24),
        1,
        1e-6,
    )
    assert checkpoint.report.read == 4 + 12 * 3 + 2 and checkpoint.report.container == "['model']"
    assert "8 heads of 4 (as given)" in checkpoint.describe()


@pytest.mark.parametrize(("width", "heads"), [(64, 1), (128, 2), (192, 3), (320, 5), (384, 6), (1280, 16)])
def test_heads_follow_the_convention_of_the_width(width, heads, hollow, write):
    """64 dimensions a head, but ViT-H (width 1280), whose heads have 80."""
    assert read_checkpoint(write(hollow(width))).architecture.heads == heads


def test_moco_gives_its_small_model_twelve_heads(hollow, names, write):
    assert read_checkpoint(write(names.moco(hollow(384)))).architecture.heads == 12


def test_heads_that_nothing_tells_are_asked_for(timm, write, complaint):
    path = write(timm)
    with complaint("heads", "give it"):
        read_checkpoint(path)
    with complaint("heads", "must divide the width, 32"):
        read_checkpoint(path, heads=5)
    with complaint("heads", "1 or more"):
        read_checkpoint(path, heads=0)


def test_every_key_is_accounted_for(timm, names, write):
    moco = read_checkpoint(write(names.moco(timm)), heads=HEADS).report
    assert (moco.prefix, moco.container) == ("module.base_encoder.", "['state_dict']")
    assert dict(moco.set_aside) == {"head": 1, "momentum encoder and predictor": len(timm) + 1}
    assert moco.others == ("epoch", "arch", "optimizer")
    full = read_checkpoint(write({"model": names.with_decoder(timm)}), heads=HEADS).report
    assert dict(full.set_aside) == {"decoder": 7}
    assert "set aside: decoder (7)" in full.describe()


def test_the_teacher_is_read_unless_the_student_is_asked_for(timm, names, write):
    other = names.under("module.backbone.", {key: value + 1 for key, value in timm.items()})
    path = write({"student": other, "teacher": names.under("backbone.", timm)})
    for branch, wanted in (("teacher", timm), ("student", {k: v + 1 for k, v in timm.items()})):
        found = read_checkpoint(path, heads=HEADS, branch=branch)
        torch.testing.assert_close(found.weights["class_token"], wanted["cls_token"], rtol=0, atol=0)
        assert len(found.report.others) == 1
    with pytest.raises(ValueError, match="branch = 'both'"):
        read_checkpoint(path, heads=HEADS, branch="both")


def test_a_fine_tuned_model_that_pools_first_has_no_final_norm(timm, write, complaint):
    pooled = {key: value for key, value in timm.items() if not key.startswith("norm.")}
    with complaint("checkpoint", "lacks norm.weight, norm.bias"):
        read_checkpoint(write(pooled), heads=HEADS)
    pooled |= {"fc_norm.weight": torch.ones(32), "fc_norm.bias": torch.zeros(32)}
    checkpoint = read_checkpoint(write(pooled), heads=HEADS)
    assert any("identity" in words for words in checkpoint.report.absent)
    assert dict(checkpoint.report.set_aside) == {"norm after pooling": 2}
    from vitdyn.vits import forward

    passed = forward(checkpoint, torch.zeros(1, 3, 16, 16))
    torch.testing.assert_close(passed.final, passed.residual[-1], rtol=0, atol=0)


SPOILED = {
    "a missing block": (lambda s: s.pop("blocks.1.mlp.fc1.weight"), "lacks blocks.1.mlp.fc1.weight"),
    "a missing token": (lambda s: s.pop("cls_token"), "lacks cls_token"),
    "a bias of queries in one block alone": (
        lambda s: s.pop("blocks.1.attn.qkv.bias"),
        "lacks blocks.1.attn.qkv.bias",
    ),
    "an unknown key": (lambda s: s.update({"blocks.0.extra": torch.ones(1)}), "unknown keys blocks.0.extra"),
    "a block too many": (lambda s: s.update({"blocks.7.norm1.bias": torch.ones(32)}), "lacks blocks.3."),
    "layer scale": (lambda s: s.update({"blocks.0.ls1.gamma": torch.ones(32)}), "layer scale"),
    "registers": (lambda s: s.update({"register_tokens": torch.ones(1, 4, 32)}), "register tokens"),
    "a mask token without decoder": (lambda s: s.update({"mask_token": torch.ones(1, 32)}), "mask_token"),
    "relative positions": (
        lambda s: s.update({"blocks.0.attn.relative_position_index": torch.ones(1)}),
        "relative positions",
    ),
    "a wrong shape": (lambda s: s.update({"blocks.1.attn.proj.weight": torch.ones(32, 31)}), "(32, 31)"),
    "queries not in thirds": (lambda s: s.update({"blocks.1.attn.qkv.bias": torch.ones(95)}), "(95,)"),
    "patches that are flat": (
        lambda s: s.update({"patch_embed.proj.weight": torch.ones(32, 48)}),
        "(32, 48)",
    ),
    "positions that are flat": (lambda s: s.update({"pos_embed": torch.ones(17, 32)}), "(17, 32)"),
    "a number that is none": (
        lambda s: s["norm.bias"].fill_(torch.nan),
        "norm.bias holds numbers that are not finite",
    ),
    "whole numbers": (lambda s: s.update({"norm.bias": torch.ones(32, dtype=torch.int64)}), "torch.int64"),
    "a sparse tensor": (lambda s: s.update({"norm.bias": torch.ones(32).to_sparse()}), "torch.sparse_coo"),
    "a tensor without numbers": (
        lambda s: s.update({"norm.bias": torch.ones(32, device="meta")}),
        "norm.bias holds",
    ),
    "a name of two lines": (lambda s: s.update({"two\nlines\x1b[2J": torch.ones(1)}), "two\\nlines\\x1b"),
    "no tensor": (lambda s: s.update({"norm.bias": "text"}), "more than tensors: norm.bias"),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_what_is_missing_unknown_or_misshapen_is_refused(fault, timm, write, complaint):
    spoil, words = SPOILED[fault]
    state = {key: value.clone() for key, value in timm.items()}
    spoil(state)
    with complaint("checkpoint", words):
        read_checkpoint(write({"model": state}), heads=HEADS)


def test_other_models_are_refused(write, complaint):
    resnet = {"conv1.weight": torch.ones(4, 3, 7, 7), "layer1.0.conv1.weight": torch.ones(4, 4, 1, 1)}
    with complaint("checkpoint", "conv1.weight, layer1.0.conv1.weight"):
        read_checkpoint(write({"state_dict": resnet}))
    with complaint("checkpoint", "layer scale"):
        read_checkpoint(write({"encoder.layer.0.layer_scale1.lambda1": torch.ones(4)}))
    with complaint("checkpoint", "epoch, lr"):
        read_checkpoint(write({"epoch": 3, "lr": 0.1}))
    with complaint("checkpoint", "list"):
        read_checkpoint(write([torch.ones(3)]))


class Payload:
    """Writes a file when it is unpickled by an ordinary reader."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_with_code_is_refused_and_nothing_of_it_runs(timm, tmp_path, complaint, monkeypatch):
    mark = tmp_path / "ran"
    stored = {"model": timm, "args": Payload(mark)}
    for name, save in {
        "zip": lambda path: torch.save(stored, path),
        "old": lambda path: torch.save(stored, path, _use_new_zipfile_serialization=False),
        "bare": lambda path: path.write_bytes(pickle.dumps(Payload(mark), protocol=2)),
    }.items():
        path = tmp_path / f"{name}.pth"
        save(path)
        for forced in (False, True):  # torch's own switch must not open the door either
            if forced:
                monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
            with complaint("checkpoint", "posix.system to be run: refused" if name != "bare" else ""):
                read_checkpoint(path, heads=HEADS)
        monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
        assert not mark.exists()
    pickle.loads((tmp_path / "bare.pth").read_bytes())
    assert mark.exists(), "an ordinary reader would have run it"


def test_a_whole_model_or_a_script_is_refused(tmp_path, complaint):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with complaint("checkpoint", "torch.nn.modules.linear.Linear"):
        read_checkpoint(tmp_path / "model.pth")
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(2)).save(tmp_path / "script.pth")
    with complaint("checkpoint", "TorchScript"):
        read_checkpoint(tmp_path / "script.pth")


@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_truncated_files_are_refused(kind, part, timm, tmp_path, write, complaint):
    path = tmp_path / "model.pth"
    if kind == "safetensors":
        path = write(timm, "model.safetensors")
    else:
        torch.save(timm, path, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with complaint("checkpoint", "fetch it again"):
        read_checkpoint(path, heads=HEADS)


@pytest.mark.parametrize(
    "text", ["<!DOCTYPE html><html>", "not found", "version https://git-lfs.github.com/spec/v1\n"]
)
def test_files_of_another_kind_are_refused(text, tmp_path, complaint):
    for name in ("page.pth", "page.safetensors"):
        (tmp_path / name).write_text(text)
        with complaint("checkpoint", "fetch it again"):
            read_checkpoint(tmp_path / name)
    with complaint("checkpoint", "no such file"):
        read_checkpoint(tmp_path / "none.pth")
    with complaint("checkpoint", "neither model.safetensors nor"):
        read_checkpoint(tmp_path)


def test_half_precision_is_widened(timm, write):
    halves = {key: value.to(torch.bfloat16) for key, value in timm.items()}
    found = read_checkpoint(write(halves), heads=HEADS).weights
    assert {value.dtype for value in found.values()} == {torch.float32}
    torch.testing.assert_close(found["positions"], halves["pos_embed"].float(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hidden_size": 64}, "hidden_size"),
        ({"num_hidden_layers": 12}, "num_hidden_layers"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"num_attention_heads": 5}, "heads"),
        ({"num_attention_heads": "many"}, "heads"),
        ({"layer_norm_eps": 0}, "epsilon"),
        ({"image_size": 32}, "grid"),
        ({"image_size": "big"}, "image_size"),
        ([1, 2], "config.json"),
    ],
)
def test_a_description_of_another_model_is_refused(change, field, make_source, write, complaint):
    source = make_source()
    path = write(source.state_dict(), "model.safetensors")
    told = source.config.to_dict()
    told = told | change if isinstance(change, dict) else change
    (path.parent / "config.json").write_text(json.dumps(told, default=str))
    with complaint(field):
        read_checkpoint(path)
    (path.parent / "config.json").write_text("{broken")
    with complaint("config.json", "no JSON"):
        read_checkpoint(path)


def test_heads_that_are_given_go_before_the_description(make_source, write):
    source = make_source()
    path = write(source.state_dict(), "model.safetensors")
    (path.parent / "config.json").write_text(source.config.to_json_string())
    assert read_checkpoint(path).heads_from == "says config.json"
    assert read_checkpoint(path, heads=2).architecture.heads == 2
