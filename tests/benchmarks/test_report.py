"""The page and the picture of the benchmarks, from invented numbers; and that turns are taken as told."""

import pytest
from measure import in_turn, ratios, side_by_side, spread
from problems import Case
from report import cell, write
from test_step_cost import CASES, MEMORY


def invented(*, threads, absent=()):
    """Results of a session in which the contenders' costs are as 1000 : 100 : 10 : 1."""
    costs = {"naive": 1.0, "jax": 0.1, "eager": 0.01, "ours": 0.001}
    costs = {name: cost for name, cost in costs.items() if name not in absent}

    def entry(case):
        times = {name: [cost * case.patches**2 / 64**2] * 3 for name, cost in costs.items()}
        bases = [base for base in ("naive", "jax") if base in times]
        return {
            "case": {field: getattr(case, field) for field in case.__dataclass_fields__},
            "operations": case.operations,
            "bytes": case.compulsory_bytes,
            "share of a core": 1.0,
            "times usual": spread([1.2, 1.3, 1.4]),
            "left out": {"naive": "needs some 99 GiB"} if case.patches == 1024 else {},
            "seconds": {name: spread(values) for name, values in times.items()},
            "times less": {
                base: {name: ratios(times[base], values) for name, values in times.items()} for base in bases
            },
        }

    machine = {
        "processor": "P",
        "vectors": "AVX-512",
        "cores": 2,
        "date": "1 May",
        "versions": {"torch": "2"},
    }
    return {
        "machine": machine | {"sgemm": 1e11, "copy": 1e10},
        "cases": {str(case): entry(case) for case in CASES},
        "memory": {f"{name} {case}": 12.3 if name == "ours" else None for name, case in MEMORY},
        "threads": threads,
        "drawing": {
            "seconds": {"drawn": spread([2e-4]), "alone": spread([1e-4])},
            "ratio": spread([2.0]),
            "times less": spread([500.0, 510.0, 520.0]),
        },
    }


@pytest.mark.parametrize(("threads", "absent"), [(spread([1.7, 1.8, 1.9]), ()), (None, ("jax",))])
def test_page_and_picture(tmp_path, threads, absent):
    write(invented(threads=threads, absent=absent), tmp_path)
    text = (tmp_path / "speed-avx512.md").read_text()
    assert "| 64, 64, 8 | 1000 [1000, 1000] |" in text and "1000 [1000, 1000]" in text
    assert ("100 [100, 100]" in text) == ("jax" not in absent)
    assert ("1.80 [1.75, 1.85] times faster" in text) == (threads is not None)
    assert "1.30 [1.25, 1.35] |" in text and "takes 510 [505, 515] times as long" in text
    assert "needs some 99 GiB" in text and "MAE, 128 to 256 | 2.00 |" in text
    assert (tmp_path / "speed-avx512.png").stat().st_size > 10_000
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert min(widths) >= 3 and "{" not in text.replace("R^{d×d}", "")


def test_operations_are_dense_equivalent():
    assert Case(patches=10, samples=3).operations == 4 * 100 * 3
    assert Case(patches=10, samples=3, objective="cl").operations == 6 * 100 * 3


def test_slow_calls_are_not_made_again_and_others_take_turns():
    made = {"fast": 0, "slow": 0}

    def call(name):
        return lambda: made.__setitem__(name, made[name] + sum(range(20_000)) * 0 + 1)

    found, _ = in_turn({name: call(name) for name in made}, 0.0, {"fast": 1e-4, "slow": 9.0})
    assert made["slow"] == 0 and found["slow"] == [9.0]
    assert len(found["fast"]) == 3 and made["fast"] > 3
    assert cell(spread(found["slow"])) == "9.00 (once)"


def test_each_thread_has_its_own_work():
    import os

    done, cores = [], sorted(os.sched_getaffinity(0))
    assert side_by_side([lambda: done.append(1), lambda: done.append(2)], [cores[0], cores[-1]]) > 0
    assert sorted(done) == [1, 2] and sorted(os.sched_getaffinity(0)) == cores
