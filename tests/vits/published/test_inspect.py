"""``vitdyn inspect`` as a user meets it, and the figure it draws. Exact."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from vitdyn.cli.inspect import Inspect
from vitdyn.metrics import attention_distance, attention_entropy, mutual_information, top_key_scores
from vitdyn.plotting import save_figure
from vitdyn.plotting.heads import draw_heads
from vitdyn.vits import METRICS, HeadMetrics, forward, load_images, measure_heads, read_checkpoint

HEADS = 4


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    draw = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(draw.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(root / f"{number}.png")
    Image.fromarray(draw.integers(0, 256, (40, 30), dtype=np.uint8)).save(root / "grey.png")
    (root / "broken.png").write_bytes((root / "0.png").read_bytes()[:300])
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def paths(make_source, names, write):
    mae = names.with_decoder(names.timm(make_source(seed=1).state_dict()))
    distilled = names.timm(make_source("deit", seed=2).state_dict())
    moco = names.moco(names.timm(make_source(seed=3).state_dict()))
    return (write({"model": mae}, "mae.pth"), write(distilled, "deit.pth"), write(moco, "moco.pth.tar"))


def test_metrics_are_those_of_the_maps(paths, folder):
    """Batches of two against every map at once, in pixels; the distilled model's two tokens are dropped."""
    files = sorted(folder.glob("[0-4].png"))
    checkpoint = read_checkpoint(paths[1], heads=HEADS)
    found = measure_heads(checkpoint, files, top=3, batch=2)
    maps = torch.stack(forward(checkpoint, load_images(files, checkpoint.preprocessing)).attention)[
        ..., 2:, 2:
    ]
    wanted = {
        "attention_distance": attention_distance(maps, (4, 4), pitch=4),
        "mutual_information": mutual_information(maps),
        "attention_entropy": attention_entropy(maps),
        "top_key_scores": top_key_scores(maps, top=3),
    }
    for name in METRICS:
        value = wanted[name].value.numpy()
        assert found.values[name].shape == (3, 5, HEADS)
        np.testing.assert_allclose(found.values[name], value, rtol=0, atol=1e-5 * np.abs(value).max())
        np.testing.assert_allclose(found.by_head(name), found.values[name].mean(1), rtol=1e-12)
        np.testing.assert_allclose(found.by_block(name), found.values[name].mean((1, 2)), rtol=1e-12)


def test_the_batch_does_not_matter_and_memory_does_not_grow(paths, folder, monkeypatch):
    checkpoint = read_checkpoint(paths[0], heads=HEADS)
    files = sorted(folder.glob("[0-4].png"))
    sizes = []
    from vitdyn.vits import head_metrics

    run = head_metrics.forward
    monkeypatch.setattr(
        head_metrics,
        "forward",
        lambda model, images, **options: (sizes.append(len(images)), run(model, images, **options))[1],
    )
    one, all_at_once = (measure_heads(checkpoint, files, batch=batch) for batch in (1, 8))
    assert sizes == [1] * 5 + [5]
    for name in METRICS:
        np.testing.assert_allclose(one.values[name], all_at_once.values[name], rtol=0, atol=1e-5)


def test_inspect_prints_writes_and_names_what_it_left_out(paths, folder, tmp_path, capsys):
    out = tmp_path / "out"
    command = Inspect(checkpoints=paths, images=folder, heads=HEADS, top=3, out=out)
    assert command() == 0
    printed = capsys.readouterr().out
    assert (
        "6 images" in printed
        and "left out broken.png" in printed
        and "left out notes.txt: no image" in printed
    )
    assert (
        "decoder (7)" in printed
        and "2 tokens before them" in printed
        and "behind 'module.base_encoder.'" in printed
    )
    assert "shorter side to 18 (bicubic)" in printed
    (table,) = out.glob("*-heads.csv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3 * (1 + HEADS) and {row["checkpoint"] for row in rows} == {"mae", "deit", "moco"}
    for name in METRICS:
        heads = [float(row[name]) for row in rows[1 : 1 + HEADS]]
        assert float(rows[0][name]) == pytest.approx(np.mean(heads), rel=1e-12) and rows[0]["head"] == "all"
    shown = next(line for line in printed.split("\nmae\n")[-1].splitlines() if line.startswith("1 "))
    assert f"{float(rows[0]['attention_distance']):.2f}" in shown
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {path.suffix for path in out.iterdir()} == {".csv", ".pdf", ".png"} and len(before) == 4
    assert command() == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before, (
        "the same files, the same bytes"
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"checkpoints": ()}, "checkpoints"),
        ({"heads": 5}, "heads"),
        ({"heads": None}, "heads"),
        ({"top": 0}, "top"),
        ({"batch": 0}, "batch"),
        ({"limit": 0}, "limit"),
        ({"grid": (3, 5)}, "grid"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_written(
    change, field, paths, folder, tmp_path, complaint
):
    options = {"checkpoints": paths, "images": folder, "heads": HEADS, "out": tmp_path / "out"} | change
    with complaint(field):
        Inspect(**options)()
    assert not (tmp_path / "out").exists()


def test_one_bad_checkpoint_stops_all_before_any_is_measured(paths, folder, tmp_path, complaint, monkeypatch):
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"nothing")
    monkeypatch.setattr("vitdyn.vits.measure_heads", None)
    with complaint("checkpoint", "fetch it again"):
        Inspect(checkpoints=(*paths, bad), images=folder, heads=HEADS, out=tmp_path / "out")()


def test_labels_tell_checkpoints_of_one_name_apart(paths, folder, tmp_path, capsys, undrawn):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "mae.pth"
    twin.write_bytes(paths[0].read_bytes())
    Inspect(checkpoints=(paths[0], twin), images=folder, heads=HEADS, limit=1, out=tmp_path / "out")()
    printed = capsys.readouterr().out
    assert "\nother/mae\n" in printed and f"{tmp_path.name}/mae\n" in printed


def made_up(label, blocks=3, images=7, heads=HEADS, seed=0):
    draw = np.random.default_rng(seed)
    values = {name: draw.random((blocks, images, heads)) for name in METRICS}
    return HeadMetrics(label=label, values=values, top=10, patches=16)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_figure_notes_what_it_draws(count, tmp_path):
    models = [made_up(f"model {number}", seed=number) for number in range(count)]
    drawing = draw_heads(models)
    if count == 4:
        save_figure(drawing, tmp_path / "figure")
    for model in models:
        rows = {row[1:3]: row for row in drawing.rows if row[0] == "a" and row[1].startswith(model.label)}
        scores = model.values["top_key_scores"][-1]
        for head in range(HEADS):
            box = rows[f"{model.label}: box", head + 1]
            np.testing.assert_allclose(box[4:], np.percentile(scores[:, head], [50, 25, 75]), rtol=1e-12)
        for panel, name in (("b", "attention_distance"), ("c", "mutual_information")):
            points = {row[1:3]: row[4] for row in drawing.rows if row[0] == panel}
            for block in range(3):
                assert points[f"{model.label}: mean", block + 1] == model.by_block(name)[block]
                assert points[f"{model.label}: head 2", block + 1] == model.by_head(name)[block, 1]
    axes = drawing.figure.axes
    assert len(axes) == 3 * count
    middle = axes[1] if count == 1 else axes[count]
    np.testing.assert_array_equal(middle.lines[HEADS].get_ydata(), models[0].by_block("attention_distance"))


def test_a_head_without_a_value_leaves_a_gap(complaint):
    model = made_up("one")
    for values in model.values.values():
        values[-1, :, 1] = np.nan
        values[0, 0, 0] = np.nan
    drawing = draw_heads([model])
    drawing.figure.draw_without_rendering()
    assert np.isnan(next(row for row in drawing.rows if row[1:3] == ("one: box", 2))[4])
    name = "attention_distance"
    assert np.isnan(model.by_head(name)[-1, 1]) and not np.isnan(model.by_block(name)).any()
    assert model.by_head(name)[0, 0] == pytest.approx(model.values[name][0, 1:, 0].mean())
    with complaint("models"):
        draw_heads([])
