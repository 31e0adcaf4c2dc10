"""Where in a file the encoder stands: wrappers, branches, moving averages, several files with an index. Exact."""

import json

import pytest
import torch

from vitdyn.vits import read_checkpoint

HEADS = 4


@pytest.fixture
def timm(make_source, names):
    return names.timm(make_source().state_dict())


@pytest.fixture
def other(timm):
    return {key: value + 1 for key, value in timm.items()}


def is_read(found, state):
    return bool(torch.equal(found.weights["class_token"], state["cls_token"]))


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.",
        "model.",
        "backbone.",
        "encoder.",
        "module._orig_mod.",
        "model.backbone.",
        "net.",
        "module.model.",
    ],
)
@pytest.mark.parametrize("layout", ["timm", "transformers 4", "transformers 5"])
def test_wrappers_are_seen_through(prefix, layout, make_source, names, write):
    state = make_source().state_dict()
    state = {"timm": names.timm, "transformers 4": names.transformers_4, "transformers 5": dict}[layout](
        state
    )
    found = read_checkpoint(write({"state_dict": names.under(prefix, state)}), heads=HEADS)
    assert (found.report.prefix, found.report.layout) == (prefix, layout)
    assert f"behind '{prefix}'" in found.describe()


def test_heads_of_wrapped_models_are_set_aside(timm, names, write):
    state = names.under("model.backbone.", timm) | {"model.head.weight": torch.zeros(9, 32)}
    found = read_checkpoint(write({"state_dict": state}), heads=HEADS)
    assert dict(found.report.set_aside) == {"head": 1}


PAIRS = {
    "student and teacher": ("teacher.backbone.", "student.backbone."),
    "compiled student and teacher": ("teacher._orig_mod.backbone.", "student._orig_mod.backbone."),
    "model and its average": ("model.", "model_ema."),
    "network and ema": ("net.", "ema."),
    "base and momentum": ("base_encoder.", "momentum_encoder."),
    "encoder and target": ("encoder.", "target_encoder."),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_two_branches_in_one_dictionary(pair, turned, timm, other, names, write, complaint):
    first, second = PAIRS[pair]
    parts = [names.under(first, timm), names.under(second, other)]
    path = write(
        {"state_dict": {k: v for part in (parts[::-1] if turned else parts) for k, v in part.items()}}
    )
    found = read_checkpoint(path, heads=HEADS)
    assert is_read(found, timm) and found.report.prefix == first
    (line,) = (each.describe() for each in found.assumed if each.field == "branch")
    assert second in line and "--branch or --prefix" in line
    for options in ({"branch": second.split(".")[0]}, {"prefix": second}):
        asked = read_checkpoint(path, heads=HEADS, **options)
        assert is_read(asked, other) and "branch" not in {each.field for each in asked.assumed}
        assert sum(count for _, count in asked.report.set_aside) == len(timm)
    with complaint("branch", "leads to no Vision Transformer"):
        read_checkpoint(path, heads=HEADS, branch="third")
    with complaint("prefix", "leads to no Vision Transformer"):
        read_checkpoint(path, heads=HEADS, prefix="third.")


@pytest.mark.parametrize("average", ["model_ema", "ema", "state_dict_ema"])
def test_moving_averages_are_read_where_they_are_asked_for(average, timm, other, write):
    path = write({"model": timm, average: other, "epoch": 3})
    found = read_checkpoint(path, heads=HEADS)
    assert is_read(found, timm) and found.report.container == "['model']"
    assert any(each.field == "branch" and average in each.reason for each in found.assumed)
    asked = read_checkpoint(path, heads=HEADS, branch=average)
    assert is_read(asked, other) and asked.report.container == f"['{average}']"
    assert asked.report.others == ("model", "epoch")
    assert is_read(read_checkpoint(write({average: other}), heads=HEADS), other)


def test_containers_within_containers(timm, write):
    found = read_checkpoint(write({"state_dict": {"model": timm}, "epoch": 1}), heads=HEADS)
    assert is_read(found, timm) and found.report.container == "['state_dict']['model']"


def test_a_student_alone_is_read(timm, names, write):
    found = read_checkpoint(write({"student": names.under("backbone.", timm)}), heads=HEADS)
    assert is_read(found, timm) and found.report.container == "['student']"


def test_any_prefix_may_be_named(timm, names, write, complaint):
    state = names.under("visual.trunk.", timm) | {"text.weight": torch.ones(2), "logit_scale": torch.ones(())}
    path = write(state)
    with complaint("checkpoint", "no Vision Transformer"):
        read_checkpoint(path, heads=HEADS)
    found = read_checkpoint(path, heads=HEADS, prefix="visual.trunk.")
    assert dict(found.report.set_aside) == {"outside 'visual.trunk.'": 2}
    path = write(names.under("model.", timm) | {"criterion.weight": torch.ones(2)})
    with complaint("checkpoint", "unknown keys criterion.weight: --prefix names the part to read"):
        read_checkpoint(path, heads=HEADS)
    assert is_read(read_checkpoint(path, heads=HEADS, prefix="model."), timm)


def test_a_teacher_that_lacks_a_key_does_not_hand_over_to_the_student(timm, other, names, write, complaint):
    broken = {key: value for key, value in timm.items() if key != "cls_token"}
    path = write({"state_dict": names.under("teacher.", broken) | names.under("student.", other)})
    with complaint("checkpoint", "lacks cls_token"):
        read_checkpoint(path, heads=HEADS)


@pytest.fixture
def shards(timm, tmp_path):
    """Three files and their index; the folder."""
    from safetensors.torch import save_file

    keys = sorted(timm)
    weight_map = {}
    for number in range(3):
        name = f"model-{number + 1:05}-of-00003.safetensors"
        part = keys[number::3]
        save_file({key: timm[key].contiguous() for key in part}, tmp_path / name)
        weight_map |= dict.fromkeys(part, name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def test_a_model_in_several_files_is_read_by_its_index(shards, timm, complaint):
    for place in (shards, shards.parent):
        found = read_checkpoint(place, heads=HEADS)
        assert found.report.read == len(timm) and found.path == shards
        torch.testing.assert_close(found.weights["positions"], timm["pos_embed"], rtol=0, atol=0)
    with complaint("checkpoint", "one of several files, so name their index"):
        read_checkpoint(shards.parent / "model-00001-of-00003.safetensors", heads=HEADS)


def test_pickled_shards_are_read_alike(timm, tmp_path):
    keys = sorted(timm)
    for number in range(2):
        torch.save({key: timm[key] for key in keys[number::2]}, tmp_path / f"part-{number}.bin")
    told = {key: f"part-{number}.bin" for number in range(2) for key in keys[number::2]}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": told}))
    assert is_read(read_checkpoint(tmp_path, heads=HEADS), timm)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: {}, "no weight_map"),
        (lambda told: {"weight_map": {}}, "no weight_map"),
        (lambda told: {"weight_map": dict.fromkeys(told, 3)}, "no weight_map"),
        (lambda told: {"weight_map": told | {"x": "../secret.safetensors"}}, "outside its folder"),
        (lambda told: {"weight_map": told | {"x": "/etc/passwd"}}, "outside its folder"),
        (lambda told: {"weight_map": told | {"x": ".."}}, "outside its folder"),
        (lambda told: {"weight_map": told | {"x": next(iter(told.values()))}}, "disagree on x"),
        (
            lambda told: {"weight_map": {k: v for k, v in told.items() if k != "cls_token"}},
            "disagree on cls_token",
        ),
        (lambda told: {"weight_map": told | {"x": "missing.safetensors"}}, "no such file"),
    ],
)
def test_an_index_that_misleads_is_refused(change, words, shards, complaint):
    told = json.loads(shards.read_text())["weight_map"]
    shards.write_text(json.dumps(change(told)))
    with complaint("checkpoint", words):
        read_checkpoint(shards, heads=HEADS)
