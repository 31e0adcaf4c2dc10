"""The regime read from trajectories made by hand (exact)."""

import numpy as np
import pytest
import xarray

from vitdyn.observables import attention_moved, learned_regime, regime_sensitivity
from vitdyn.trajectory import Trajectory

NAN = np.nan
START = np.full((4, 4), 0.1)
LOCAL, GLOBAL = [(0.9, 0.05)] * 3, [(0.1, 0.8)] * 3


def rows(areas):
    """Attention of each area's queries to each area; a local area is (own, to the global area)."""
    made = np.zeros((4, 4))
    made[0, 0] = 0.9
    for area, (own, centre) in enumerate(areas, start=1):
        made[area, area], made[area, 0] = own, centre
    return made


def onto(target, share=0.8):
    """Every query gives a share of its attention to one area."""
    return np.where(np.arange(4) == target, share, 0.0) * np.ones((4, 1))


def trajectory(*seeds, before=None, phi=((0.0, 0.0, 0.0),), times=(0.0, 50.0, 100.0)):
    """Three frames, the start first; a seed is the rows at the end, ``before`` those at half of the time."""
    attention = np.stack(
        [[START] * len(seeds), [each if before is None else before for each in seeds], seeds]
    )
    attention = attention[:, :, None].repeat(3, -1).reshape(3, len(seeds), 1, 4, 4, 3)
    attention[..., 1:] = 0.5  # minimum and maximum, which nobody asks for
    own = np.moveaxis(attention.diagonal(axis1=3, axis2=4), -1, 3)
    correlation = np.array(phi).T.reshape(3, -1, 1, 1, 1, 1) * np.ones((3, len(seeds), 1, 4, 4, 3))
    query = ("frame", "seed", "cluster", "query_area")
    variables = {
        "own_area_attention": ((*query, "statistic"), own),
        "area_attention": ((*query, "key_area", "statistic"), attention),
        "feature_position": ((*query, "key_area", "statistic"), correlation),
    }
    coordinates = {"statistic": ["mean", "minimum", "maximum"], "time": ("frame", list(times))}
    return Trajectory(xarray.Dataset(variables, coordinates))


def kind(*seeds, **options):
    return tuple(each.kind for each in learned_regime(trajectory(*seeds), **options))


@pytest.mark.parametrize(
    ("areas", "regime"),
    [
        (LOCAL, "local"),
        (GLOBAL, "global"),
        ([(0.9, 0.05), (0.9, 0.05), (0.1, 0.8)], "mixed"),
        ([(0.35, 0.35)] * 3, "spread"),
        ([(0.51, 0.4), (0.9, 0.1), (0.9, 0.1)], "local"),
        ([(0.49, 0.4), (0.9, 0.1), (0.9, 0.1)], "mixed"),
        ([(0.4, 0.51), (0.1, 0.9), (0.1, 0.9)], "global"),
        ([(0.4, 0.49), (0.1, 0.9), (0.1, 0.9)], "mixed"),
        ([(0.9, 0.05), (0.9, 0.05), (NAN, NAN)], "local"),
        ([(0.1, 0.9), (0.1, 0.9), (NAN, NAN)], "global"),
        ([(0.9, 0.05), (0.1, 0.8), (NAN, NAN)], "mixed"),
        ([(0.9, 0.05), (0.9, 0.05), (NAN, 0.3)], "local"),
    ],
)
def test_one_seed(areas, regime):
    assert kind(rows(areas)) == (regime,)


def test_one_area_for_all_is_not_local_even_to_its_own_queries():
    assert kind(onto(2), onto(0), onto(2, 0.4)) == ("other", "global", "spread")
    swapped = onto(2)
    swapped[2] = onto(1)[2]
    assert kind(swapped) == ("other",)
    swapped[1] = onto(1)[1]
    assert kind(swapped) == ("mixed",)


def test_outputs_collapse_where_no_query_sees_a_visible_patch():
    assert kind(0.1 * START, 0.099 * START, 0.11 * START) == ("collapsed", "collapsed", "spread")
    alive = 0.05 * START
    alive[0] = 0.1
    assert kind(alive) == ("spread",)


def test_where_nothing_moved_nothing_is_learned():
    near, far = START.copy(), START.copy()
    near[1:, 0], far[1:, 0] = 0.1 + 0.099, 0.1 + 0.101
    assert kind(near, far) == ("unmoved", "spread")
    assert kind(rows(LOCAL), moved=0.9) == ("unmoved",)


def test_every_seed_by_itself_and_the_share_decides():
    seeds = rows(GLOBAL), rows(LOCAL), rows([(0.7, 0.2)] * 3)
    assert kind(*seeds) == ("global", "local", "local")
    assert kind(*seeds, share=0.8) == ("spread", "local", "spread")


def test_the_global_area_has_no_say():
    """Queries of the global area attend to their own area in both regimes."""
    made = rows(GLOBAL)
    made[0] = START[0]
    assert kind(made) == ("global",)


def test_a_regime_is_final_once_its_attention_has_come_to_rest():
    end, still = rows(LOCAL), rows([(0.9 - 3 * 0.06, 0.05), (0.9, 0.05), (0.9, 0.05)])
    assert learned_regime(trajectory(end))[0].is_final
    (moving,) = learned_regime(trajectory(end, before=still))
    assert not moving.is_final and str(moving) == "local, still moving"
    assert learned_regime(trajectory(end, before=still), settled=0.07)[0].is_final
    # nothing is known of the second half where no frame lies in the quarter before it
    assert not learned_regime(trajectory(end, times=(0.0, 51.0, 100.0)))[0].is_final


def test_without_correlations_nobody_knows_that_what_has_not_moved_will_not():
    whole = trajectory(START, rows(LOCAL))
    bare = Trajectory(whole.dataset.drop_vars("feature_position"))
    assert [str(each) for each in learned_regime(whole)] == ["unmoved", "local"]
    assert [str(each) for each in learned_regime(bare)] == ["unmoved, still moving", "local"]


def test_what_has_not_moved_yet_is_final_only_if_its_correlations_rest():
    phi = (0.0, 1.0, 1.04), (0.0, 1.0, 2.0), (0.0, 0.0, 0.0)
    assert [str(each) for each in learned_regime(trajectory(*[START] * 3, phi=phi))] == [
        "unmoved",
        "unmoved, still moving",
        "unmoved",
    ]
    assert learned_regime(trajectory(*[rows(LOCAL)] * 3, phi=phi))[1].is_final


def test_sensitivity_counts_the_seeds_that_a_threshold_decides():
    still = rows([(0.9, 0.05 - 0.045)] * 3)
    runs = [trajectory(rows([(0.6, 0.1)] * 3), rows(LOCAL)), trajectory(0.12 * START)]
    runs.append(trajectory(rows(LOCAL), before=still))
    found = regime_sensitivity(runs, factors=(0.5, 1.25))
    assert found["share", 1.25] == (1, 0) and found["vanished", 1.25] == (1, 0)
    assert found["settled", 0.5] == (0, 1)
    assert np.sum(list(found.values()), 0).tolist() == [2, 1]


def test_attention_moved_is_a_mean_over_local_areas():
    end = START.copy()
    end[2] = [0.1, 0.0, 0.3, 0.1]  # 0.1 from another area, 0.1 from masked patches
    assert np.allclose(attention_moved(trajectory(end)), [[0.0], [0.2 / 3], [0.2 / 3]])
