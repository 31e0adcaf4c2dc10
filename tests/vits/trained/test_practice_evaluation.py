"""The analysis of encoders whose attention and tokens are known; findings of records that are made up. Exact."""

import numpy as np
import pytest
import torch

from vitdyn.metrics import grid_positions
from vitdyn.plotting import FigureOptions
from vitdyn.plotting.methods import draw_methods
from vitdyn.plotting.practice import PANELS, draw_practice
from vitdyn.vits import (
    MEANINGS,
    effect_table,
    effects,
    finding_table,
    findings,
    interval,
    spec_of,
    value_table,
)
from vitdyn.vits import METHODS as EVERY
from vitdyn.vits.evaluation import evaluate, pooled, probes, spread
from vitdyn.vits.findings import by_method
from vitdyn.vits.pretraining_loop import first_learner, train
from vitdyn.vits.results import to_trajectory


def silenced(spec, *parts):
    """An encoder in which the named weights of every block are 0."""
    encoder = first_learner(spec).encoder
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if any(part in name for part in parts):
                parameter.zero_()
    return encoder


def test_every_metric_has_its_depths_and_heads(tiny):
    spec = tiny("untrained")
    found = evaluate(spec, first_learner(spec).encoder, spec.images.load())
    assert set(found) == set(MEANINGS)
    for name, values in found.items():
        attention = name.startswith(("attention", "mutual", "top"))
        assert values.shape == ((2, 2) if attention else (3,)) and bool(values.isfinite().all())
    assert float(found["cka_to_last"][-1]) == pytest.approx(1)


def test_an_encoder_without_queries_attends_uniformly(tiny):
    spec = tiny("untrained")
    found = evaluate(spec, silenced(spec, "query"), spec.images.load())
    places = grid_positions(4, 4, pitch=2.0)
    expected = float(torch.cdist(places, places).mean())
    values = {
        "attention_distance": expected,
        "mutual_information": 0.0,
        "attention_entropy": np.log(16),
        "top_key_scores": 1 / 16,
    }
    for name, value in values.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_blocks_that_add_nothing_leave_tokens_and_probes_as_they_were(tiny):
    spec = tiny("untrained")
    found = evaluate(spec, silenced(spec, "proj.", "fc2"), spec.images.load())
    for name in (
        "linear_accuracy",
        "neighbour_accuracy",
        "token_similarity",
        "high_frequency",
        "lidar",
        "rank_me",
    ):
        np.testing.assert_allclose(found[name], found[name][:1].expand(3), rtol=1e-9)


def test_pooled_tokens_leave_the_class_token_out(tiny):
    spec = tiny("untrained")
    encoder, images = first_learner(spec).encoder, spec.images.load()
    before = pooled(spec, encoder, images.test[:7])
    with torch.no_grad():
        encoder.class_token.add_(1.0)
    after = pooled(spec, encoder, images.test[:7])
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
    assert before.shape == (3, 7, 16)


def test_labels_are_read_from_what_labels_trained(tiny):
    spec = tiny("supervised", steps=150, batch_size=32)
    images = spec.images.load()
    trained, before = (
        probes(spec, learner.encoder, images)["neighbour_accuracy"]
        for learner in (train(spec).learner, first_learner(spec))
    )
    assert float(trained[-1]) > float(before[-1]) > 0.2


def test_rows_are_spread_evenly():
    assert spread(torch.arange(10), 4).tolist() == [0, 2, 5, 7]
    assert spread(torch.arange(3), 9).tolist() == [0, 1, 2]


METHODS = ("untrained", "reconstruction", "contrast", "mixture")


@pytest.fixture
def invented(tiny):
    """Records of three seeds whose last depth is known: 0 untrained, 1 reconstruction, 2 contrast, 1.2 mixture."""

    def make(**noise):
        levels = dict(zip(METHODS, (0.0, 1.0, 2.0, 1.2), strict=True))
        records = []
        for method in METHODS:
            for seed in range(3):
                found = {}
                sway = (-1) ** seed if method == "contrast" else 0
                for name in MEANINGS:
                    shape = (2, 2) if name.startswith(("attention", "mutual", "top")) else (3,)
                    found[name] = torch.full(shape, levels[method] + sway * noise.get(name, 0.0))
                    found[name][0] = 0.5
                about = {"device": "CPU", "machine": "m", "seconds": 1.0}
                records.append(to_trajectory(tiny(method, seed=seed), found, torch.zeros(0), **about))
        return records

    return make


def test_an_interval_is_students():
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(0).standard_normal((5, 3))
    found = interval(values)
    truth = ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(found.low, truth.low, rtol=1e-12)
    np.testing.assert_allclose(found.high, truth.high, rtol=1e-12)
    assert np.isinf(interval(values[:1]).low).all()


def test_findings_state_sign_and_certainty(invented):
    found = {each.metric: each for each in findings(invented(high_frequency=3.0))}
    assert {each.number for each in found.values()} == {1, 2, 3}
    assert found["attention_distance"].status == "as predicted"
    assert found["mutual_information"].status == "opposite"
    assert found["high_frequency"].status == "open"
    assert float(found["attention_distance"].difference.mean) == pytest.approx(1.0)
    assert found["attention_distance"].mixture_between == "yes"
    alone = findings([each for each in invented() if spec_of(each).method_name != "mixture"])
    assert {each.mixture_between for each in alone} == {"-"}
    assert found["linear_accuracy"].mixture_between == "no"
    assert found["linear_accuracy"].status == "open"  # depth 1 and 2 are the same: nothing is gained
    text = finding_table(list(found.values()))
    assert "opposite" in text and "as predicted" in text


def test_differences_are_paired_by_seed(invented):
    records = invented()
    shuffled = [records[index] for index in np.random.default_rng(1).permutation(len(records))]
    assert finding_table(findings(records)) == finding_table(findings(shuffled))
    rows = by_method(records, "lidar")
    assert list(rows) == list(METHODS) and rows["mixture"].shape == (3, 3)


def test_findings_need_all_they_compare(invented, complaint):
    records = invented()
    with complaint("records", "contrast and reconstruction"):
        findings([each for each in records if spec_of(each).method_name != "contrast"])
    with complaint("records", "the same seeds"):
        findings(records[:-1])
    with complaint("records", "once"):
        findings([*records, records[0]])


def test_the_figure_draws_every_method_and_band(invented):
    drawing = draw_practice(invented(lidar=0.5))
    rows = [row for row in drawing.rows if row[1] == "lidar, contrast"]
    half = interval(np.array([2.5, 1.5, 2.5])).high - np.mean([2.5, 1.5, 2.5])
    assert [row[2] for row in rows] == [1, 2]
    assert rows[-1][4] == pytest.approx(2.5 - 1 / 3) and rows[-1][6] - rows[-1][4] == pytest.approx(half)
    assert len({row[0] for row in drawing.rows}) == len(PANELS) == 8
    blocks = [row[2] for row in drawing.rows if row[1] == "attention_distance, MAE"]
    assert blocks == [1, 2]


def test_a_single_seed_is_drawn_without_a_band(invented, complaint):
    drawing = draw_practice([each for each in invented() if spec_of(each).seed == 0])
    assert all(np.isnan(row[5]) for row in drawing.rows)
    with complaint("records"):
        draw_practice([])


def test_the_script_of_the_findings_trains_prints_draws_and_redraws(tiny, load, run_twice):
    module = load("17_real_images")
    whole = module.runs
    assert [len(specs) for specs in whole(FigureOptions(full=True)).values()] == [25, 25, 25]
    assert [len(specs) for specs in whole(FigureOptions(quick=True)).values()] == [10]

    def few(options):
        (specs,) = whole(options).values()
        assert [each.method_name for each in specs[:5]] == list(module.STEPS)
        chosen = [each for each in specs if each.seed == 0]
        shrunk = [tiny(each.method_name, seed=each.seed, steps=min(each.steps, 2)) for each in chosen]
        return {"17_real_images": shrunk}

    printed, (stem, rows), results = run_twice(module, few)
    assert "as predicted" in printed or "open" in printed or "opposite" in printed
    assert results == 5 and stem == "17_real_images" and len(rows) > 50


def test_the_script_of_all_methods_trains_prints_draws_and_redraws(tiny, load, run_twice):
    module = load("19_families_on_digits")
    whole = module.runs
    assert [len(specs) for specs in whole("full").values()] == [5 * (1 + len(EVERY)), 5 * (1 + 5)]
    assert [spec.method_name for spec in next(iter(whole("quick").values()))] == ["untrained", *EVERY]
    names = ("untrained", "reconstruction", "dino")

    def few(scale):
        return {
            "rate 0.006": [
                tiny(name, seed=s, steps=2 * (name != "untrained")) for s in (0, 1) for name in names
            ]
        }

    printed, (stem, rows), results = run_twice(module, few)
    assert "last block" in printed and results == 6 and stem == "19_families_on_digits"
    assert len(rows) == 6 * len(names)


def test_effects_are_signed_by_what_a_loss_reads(invented):
    found = {(each.metric, each.method): each for each in effects(invented(token_similarity=3.0))}
    assert len(found) == 4 * 3
    rebuilt, contrasted = (found["mutual_information", name] for name in ("reconstruction", "contrast"))
    assert (rebuilt.sign, contrasted.sign) == (1, -1)
    assert (rebuilt.status, contrasted.status) == ("as predicted", "opposite")
    assert float(contrasted.difference.mean) == pytest.approx(2.0)
    assert found["token_similarity", "reconstruction"].status == "opposite"
    assert found["token_similarity", "contrast"].status == "open"
    assert found["high_frequency", "mixture"].status == "-"
    assert "as predicted" in effect_table(list(found.values()))


def test_effects_need_what_they_are_measured_from(invented, complaint):
    with complaint("records", "untrained"):
        effects([each for each in invented() if spec_of(each).method_name != "untrained"])


def test_the_figure_of_all_methods_shows_the_last_block(invented, complaint):
    drawing = draw_methods({"fast": invented(lidar=0.5), "slow": invented()})
    assert len(drawing.rows) == 6 * 2 * len(METHODS)
    (row,) = [row for row in drawing.rows if row[1] == "token_similarity, contrast, fast"]
    assert row[0] == "b" and row[4:] == (2.0, 2.0, 2.0)
    with complaint("groups"):
        draw_methods({"none": ()})


def test_the_table_has_a_row_for_each_metric_and_method(invented):
    lines = value_table(invented()).splitlines()
    assert len(lines) == 2 + len(MEANINGS) * len(METHODS)
    assert "1.000 ± 0.000" in lines[3]
