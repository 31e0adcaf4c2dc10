"""Measures of attention maps: closed forms, literal transcriptions, edges (exact)."""

from math import isnan, log, sqrt

import numpy as np
import pytest
import torch

from vitdyn.metrics import (
    attention_distance,
    attention_entropy,
    grid_positions,
    head_deviation,
    mutual_information,
    position_deviation,
    top_key_concentration,
    top_key_scores,
)
from vitdyn.metrics.attention import DistanceConvention, MapConvention

ROWS, COLUMNS = 3, 4
KEYS = ROWS * COLUMNS
CLOSE = {"rtol": 0, "atol": 1e-10}


def uniform(keys=KEYS):
    return torch.full((keys, keys), 1 / keys, dtype=torch.float64)


def one_key(keys=KEYS, key=3):
    attention = torch.zeros(keys, keys, dtype=torch.float64)
    attention[:, key] = 1
    return attention


def permutation(rng, keys=KEYS):
    return torch.eye(keys, dtype=torch.float64)[rng.permutation(keys)]


def random_maps(rng, *lead, queries=KEYS, keys=KEYS):
    logits = torch.from_numpy(rng.standard_normal((*lead, queries, keys)))
    return torch.softmax(3 * logits, -1)


def apart(rows=ROWS, columns=COLUMNS):
    """Distances written out: (i div columns, i mod columns)."""
    distance = np.zeros((rows * columns, rows * columns))
    for i in range(rows * columns):
        for j in range(rows * columns):
            distance[i, j] = np.hypot(i // columns - j // columns, i % columns - j % columns)
    return distance


class TestDistance:
    def test_uniform(self):
        found = attention_distance(uniform(), (ROWS, COLUMNS)).value
        np.testing.assert_allclose(found, apart().mean(), **CLOSE)

    def test_identity(self):
        assert attention_distance(torch.eye(KEYS), (ROWS, COLUMNS)).value == 0

    def test_permutation(self, rng):
        order = rng.permutation(KEYS)
        found = attention_distance(torch.eye(KEYS)[order], (ROWS, COLUMNS), pitch=16).value
        np.testing.assert_allclose(found, 16 * np.mean([apart()[q, k] for q, k in enumerate(order)]), **CLOSE)

    def test_one_key(self):
        np.testing.assert_allclose(
            attention_distance(one_key(), (ROWS, COLUMNS)).value, apart()[:, 3].mean(), **CLOSE
        )

    def test_positions_of_ones_own(self, rng):
        places = rng.standard_normal((KEYS, 3))
        attention = random_maps(rng)
        expected = np.mean(
            [
                sum(float(attention[q, k]) * np.linalg.norm(places[q] - places[k]) for k in range(KEYS))
                for q in range(KEYS)
            ]
        )
        found = attention_distance(attention, torch.from_numpy(places)).value
        np.testing.assert_allclose(found, expected, **CLOSE)

    def test_grid_as_positions(self, rng):
        attention = random_maps(rng, 2)
        np.testing.assert_allclose(
            attention_distance(attention, (ROWS, COLUMNS), pitch=16).value,
            attention_distance(attention, grid_positions(ROWS, COLUMNS, pitch=16)).value,
            **CLOSE,
        )

    def test_literal_cl_vs_mim(self, rng):
        """The source's steps on a square map with a class token: drop, add 1e-32, normalise, sum, mean."""
        attention = random_maps(rng, 2, queries=10, keys=10)
        maps = attention.numpy()[:, 1:, 1:] + 1e-32
        maps = maps / maps.sum(-1, keepdims=True)
        expected = (maps * 16 * apart(3, 3)).sum(-1).mean(-1)
        found = attention_distance(attention, (3, 3), pitch=16, prefix=1, convention="cl-vs-mim")
        np.testing.assert_allclose(found.value, expected, **CLOSE)

    def test_unit_square_differs_by_pitch_and_side(self, rng):
        attention = random_maps(rng, 2, queries=10, keys=10)
        pixels = attention_distance(attention, (3, 3), pitch=16, prefix=1).value
        unit = attention_distance(attention, (3, 3), prefix=1, convention="walmer").value
        np.testing.assert_allclose(pixels, 16 * 2 * unit, **CLOSE)

    def test_unit_square_of_one_row(self):
        found = attention_distance(uniform(5), (1, 5), convention="walmer").value
        np.testing.assert_allclose(found, apart(1, 5).mean() / 4, **CLOSE)

    def test_a_query_that_attends_to_the_class_token_only(self, rng):
        """Left out; counted as 0; or made uniform: three answers, each with its name."""
        attention = random_maps(rng, queries=10, keys=10)
        attention[4] = torch.eye(10)[0]
        rows = attention[1:, 1:] / attention[1:, 1:].sum(-1, keepdim=True)
        each = (rows.numpy() * apart(3, 3)).sum(-1)
        others = np.delete(each, 3)
        measure = {
            name: float(attention_distance(attention, (3, 3), prefix=1, convention=name).value)
            for name in ("exact", "walmer", "cl-vs-mim")
        }
        np.testing.assert_allclose(measure["exact"], others.mean(), **CLOSE)
        np.testing.assert_allclose(2 * measure["walmer"], others.sum() / 9, **CLOSE)
        np.testing.assert_allclose(measure["cl-vs-mim"], (others.sum() + apart(3, 3)[3].mean()) / 9, **CLOSE)

    def test_a_map_without_any_mass(self):
        assert isnan(attention_distance(torch.zeros(9, 9), (3, 3)).value)

    def test_wrong_positions_are_named(self, complaint):
        with complaint("positions", "must place 12"):
            attention_distance(uniform(), (3, 3))


class TestMutualInformation:
    def test_uniform(self):
        np.testing.assert_allclose(mutual_information(uniform()).value, 0, **CLOSE)

    def test_identity_and_permutation(self, rng):
        np.testing.assert_allclose(mutual_information(torch.eye(KEYS)).value, 1, **CLOSE)
        np.testing.assert_allclose(mutual_information(permutation(rng)).value, 1, **CLOSE)

    def test_one_key_and_one_query(self):
        assert mutual_information(one_key()).value == 0
        assert mutual_information(torch.ones(1, 1)).value == 0
        assert mutual_information(uniform()[:1]).value == 0

    def test_blocks(self):
        """Queries in g equal groups, each uniform on keys of its own: I = H(k) = log of g of log K."""
        groups = torch.block_diag(*[uniform(4)] * 3)
        expected = log(3) / log(12)
        np.testing.assert_allclose(mutual_information(groups).value, expected, **CLOSE)

    @pytest.mark.parametrize("offset", [0.0, 1e-8])
    def test_literal(self, rng, offset):
        attention = random_maps(rng, queries=7, keys=9)
        maps = attention.numpy() + offset
        maps = maps / maps.sum(-1, keepdims=True)
        n = len(maps)
        marginal = maps.sum(0) / n
        information = sum(
            maps[q, k] / n * np.log(maps[q, k] / marginal[k]) for q in range(n) for k in range(9)
        )
        expected = information / sqrt(np.log(n) * -(marginal * np.log(marginal)).sum())
        name = "cl-vs-mim" if offset else "exact"
        np.testing.assert_allclose(mutual_information(attention, convention=name).value, expected, **CLOSE)

    def test_the_offset_caps_identity(self):
        """I/log n = d log(nd) + (n − 1) o log(no), over log n: d, o the entries on and off the diagonal."""
        n, total = 196, 1 + 196e-8
        on, off = (1 + 1e-8) / total, 1e-8 / total
        expected = (on * log(n * on) + (n - 1) * off * log(n * off)) / log(n)
        found = mutual_information(torch.eye(n), convention="cl-vs-mim").value
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
        np.testing.assert_allclose(found, 0.99999282504121, rtol=0, atol=1e-13)
        assert mutual_information(torch.eye(n)).value > 1 - 1e-13
        assert 0 <= mutual_information(one_key(n), convention="cl-vs-mim").value < 1e-5

    def test_invariant_to_the_order_of_keys_and_queries(self, rng):
        attention = random_maps(rng)
        shuffled = attention[rng.permutation(KEYS)][:, rng.permutation(KEYS)]
        np.testing.assert_allclose(
            mutual_information(shuffled).value, mutual_information(attention).value, **CLOSE
        )

    def test_an_empty_query_is_left_out(self, rng):
        attention = random_maps(rng)
        with_empty = torch.cat([attention, torch.zeros(1, KEYS)])
        np.testing.assert_allclose(
            mutual_information(with_empty).value, mutual_information(attention).value, **CLOSE
        )


class TestEntropy:
    def test_closed_forms(self, rng):
        np.testing.assert_allclose(attention_entropy(uniform()).value, log(KEYS), **CLOSE)
        assert attention_entropy(permutation(rng)).value == 0
        np.testing.assert_allclose(attention_entropy(uniform(), convention="normalised").value, 1, **CLOSE)
        assert attention_entropy(torch.ones(3, 1), convention="normalised").value == 0

    def test_literal(self, rng):
        attention = random_maps(rng, 2)
        maps = attention.numpy()
        expected = [np.mean([-sum(p * np.log(p) for p in maps[b, q]) for q in range(KEYS)]) for b in range(2)]
        np.testing.assert_allclose(attention_entropy(attention).value, expected, **CLOSE)


class TestTopKeyScores:
    def test_closed_forms(self, rng):
        for attention in (uniform(), permutation(rng)):
            np.testing.assert_allclose(top_key_scores(attention, top=5).value, 1 / KEYS, **CLOSE)
        np.testing.assert_allclose(top_key_scores(one_key(), top=10).value, 0.1, **CLOSE)

    def test_literal(self, rng):
        attention = random_maps(rng, 2)
        scores = np.sort(attention.numpy().mean(-2))[:, ::-1][:, :4]
        np.testing.assert_allclose(top_key_scores(attention, top=4, convention="each").value, scores, **CLOSE)
        np.testing.assert_allclose(top_key_scores(attention, top=4).value, scores.mean(-1), **CLOSE)

    def test_rows_as_they_are(self, rng):
        """Without renormalising, mass on the class token lowers the scores."""
        attention = random_maps(rng, queries=10, keys=10)
        found = top_key_scores(attention, top=3, prefix=1, convention="huang-as-recalled").value
        expected = np.sort(attention.numpy()[1:, 1:].mean(0))[-3:].mean()
        np.testing.assert_allclose(found, expected, **CLOSE)
        assert found < top_key_scores(attention, top=3, prefix=1).value

    def test_what_a_run_records(self, rng):
        attention = random_maps(rng, 3)
        np.testing.assert_allclose(
            top_key_concentration(attention, top=4), top_key_scores(attention, top=4).value, **CLOSE
        )

    def test_cannot_tell_uniform_from_permutation(self, rng):
        diversity = [float(top_key_scores(a, top=10).value) for a in (uniform(), permutation(rng))]
        information = [float(mutual_information(a).value) for a in (uniform(), permutation(rng))]
        np.testing.assert_allclose(diversity[0], diversity[1], **CLOSE)
        np.testing.assert_allclose(information, [0, 1], **CLOSE)


class TestDeviations:
    def test_agreement(self, rng):
        attention = random_maps(rng)
        assert head_deviation(attention.expand(4, KEYS, KEYS)).value == 0
        assert position_deviation(attention[:1].expand(KEYS, KEYS)).value == 0

    def test_permutation(self, rng):
        found = position_deviation(permutation(rng)).value
        np.testing.assert_allclose(found, sqrt(KEYS - 1) / KEYS, **CLOSE)

    def test_two_opposite_heads(self, rng):
        """All mass on one key in one head, on another in the other: 1/2 at two keys of each query."""
        heads = torch.stack([one_key(key=0), one_key(key=1)])
        np.testing.assert_allclose(head_deviation(heads).value, 0.5 * 2 / KEYS, **CLOSE)

    @pytest.mark.parametrize(("name", "correction"), [("exact", 0), ("walmer", 1)])
    def test_literal(self, rng, name, correction):
        attention = random_maps(rng, 2, 3)
        maps = attention.numpy()[..., 1:, 1:]
        np.testing.assert_allclose(
            head_deviation(attention, prefix=1, convention=name).value,
            maps.std(-3, ddof=correction).mean((-2, -1)),
            **CLOSE,
        )
        np.testing.assert_allclose(
            position_deviation(attention, prefix=1, convention=name).value,
            maps.std(-2, ddof=correction).mean(-1),
            **CLOSE,
        )

    def test_one_head_has_no_unbiased_deviation(self, rng, complaint):
        assert head_deviation(random_maps(rng, 1)).value == 0
        with complaint("shape of attention", "head ≥ 2"):
            head_deviation(random_maps(rng, 1), convention="walmer")


class TestComplaints:
    def test_negative_attention(self, complaint):
        with complaint("attention", "0 or more"):
            mutual_information(-uniform())

    def test_nothing_left(self, complaint):
        with complaint("shape of attention", "query ≥ 6"):
            attention_entropy(uniform(4), prefix=5)

    def test_bad_values(self, complaint):
        with complaint("top", "1 or more"):
            top_key_scores(uniform(), top=0)
        with complaint("empty", "omitted, zero"):
            MapConvention(empty="forgotten")
        with complaint("offset"):
            DistanceConvention(offset=-1.0)
        with complaint("pitch"):
            attention_distance(uniform(), (ROWS, COLUMNS), pitch=0)
