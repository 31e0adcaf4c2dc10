"""What one gradient costs beside other ways to take it (``make bench``). Ratios carry over, seconds do not.

The environment variable VITDYN_BENCH_SECONDS says how long the contenders take turns at each size (8 by default).
No time is asserted. Where all is measured, the page of this kind of machine in ``theory_notes`` is written.
"""

import os
from dataclasses import replace

import pytest
import torch
from contenders import contenders
from measure import (
    available_bytes,
    cores,
    in_turn,
    machine,
    peak_mebibytes,
    ratios,
    side_by_side,
    spent,
    spread,
)
from problems import SHAPES, Case, Problem
from report import write
from test_contenders import require_same_gradient

SECONDS = float(os.environ.get("VITDYN_BENCH_SECONDS", "8"))
CASES = [
    Case(objective=objective, patches=patches, samples=samples, seeds=seeds)
    for objective in ("mae", "cl")
    for patches, samples, seeds in SHAPES
] + [Case(clusters=4), Case(patches=1024, seeds=1, areas=100)]
MEMORY = [
    (name, case)
    for case in (CASES[3], CASES[8])
    for name in ("naive", "vmap", "jax", "jax_factored", "eager", "ours")
] + [(name, CASES[4]) for name in ("naive", "jax", "ours")]
OTHERS = ("threads", "drawing")


@pytest.fixture(scope="module")
def given():
    """The cores of this process, of which it keeps one: a library that starts threads finds no other."""
    before, threads = cores(), torch.get_num_threads()
    os.sched_setaffinity(0, before[-1:])
    torch.set_num_threads(1)
    yield before
    os.sched_setaffinity(0, before)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def results(given):
    """What was found, written to the notes once nothing is missing."""
    found = {"machine": machine() | {"cores": len(given)}, "cases": {}, "memory": {}}
    yield found
    if (
        len(found["cases"]) == len(CASES)
        and len(found["memory"]) == len(MEMORY)
        and found.keys() >= {*OTHERS}
    ):
        write(found)


def reason_to_leave_out(name: str, case: Case) -> str | None:
    """Say why a contender is not measured: full attention of one seed does not fit, or nothing new would be seen."""
    if name in ("naive", "vmap") and case.areas > 4:
        return "costs what it costs with 4 areas"
    needed = case.dense_bytes * {"naive": 1, "vmap": 2 * case.seeds}.get(name, 0)
    if needed > 0.7 * available_bytes():
        return f"needs some {needed / 2**30:.0f} GiB"
    return None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient(benchmark, case, results):
    """All contenders in turn, each checked against ours first; pytest-benchmark's own table shows ours."""
    problem, left_out, steps, known = Problem.draw(case), {}, {}, {}
    ours = contenders()["ours"](problem)
    truth = ours.step().map(torch.clone)
    for name, kind in contenders().items():
        if not kind.takes(case):
            continue
        if reason := reason_to_leave_out(name, case):
            left_out[name] = reason
            continue
        one, found = kind(problem), []
        known[name], _ = spent(lambda: found.append(one.step()))  # noqa: B023
        require_same_gradient(name, one, found.pop(), truth)
        steps[name] = one.step
    usual = replace(case, clusters=1, areas=4)
    if usual != case:  # in the same turns, or a drift of the machine between two tests would look like a cost
        steps["usual"] = contenders()["ours"](Problem.draw(usual)).step
    samples, share = in_turn(steps, SECONDS, known)
    more = ratios(samples["ours"], samples.pop("usual")) if usual != case else None
    results["cases"][str(case)] = {
        "case": {field: getattr(case, field) for field in case.__dataclass_fields__},
        "operations": case.operations,
        "bytes": case.compulsory_bytes,
        "share of a core": share,
        "left out": left_out,
        "times usual": more,
        "seconds": {name: spread([one / case.seeds for one in values]) for name, values in samples.items()},
        "times less": {
            base: {name: ratios(samples[base], values) for name, values in samples.items()}
            for base in ("naive", "jax")
            if base in samples
        },
    }
    benchmark.extra_info |= results["cases"][str(case)]
    benchmark.pedantic(steps["ours"], rounds=10, warmup_rounds=1)


@pytest.mark.parametrize(("name", "case"), MEMORY, ids=str)
def test_peak_memory(benchmark, name, case, results):
    """Peak resident memory above the imports, each in a process of its own."""
    found = None
    if name in contenders() and not reason_to_leave_out(name, case):
        found = benchmark.pedantic(peak_mebibytes, (name, case), rounds=1)
    else:
        benchmark.pedantic(lambda: None, rounds=1)
    results["memory"][f"{name} {case}"] = found


def test_two_threads(benchmark, given, results):
    """Two seeds at (256, 256): one thread for both, and a thread with a core of its own for each. Time that passed."""
    problem, steps = Problem.draw(Case(samples=256, seeds=2)), 20
    works = [contenders()["ours"](problem.seed(index)).step for index in (0, 1)]
    repeated = [lambda work=work: [work() for _ in range(steps)] for work in works]
    both = lambda: [work() for work in repeated]  # noqa: E731
    turns = [
        (side_by_side([both], given[:1]), side_by_side(repeated, given[:2]))
        for _ in range(25)
        if len(given) > 1
    ]
    results["threads"] = spread([one / two for one, two in turns]) if turns else None
    benchmark.extra_info["times less with two threads"] = results["threads"]
    benchmark.pedantic(both, rounds=3)


def test_drawing_data(benchmark, results):
    """The gradient at (256, 64, 4) with the drawing of its batch, and without; beside the module, data given."""
    case = Case()
    problem, source, step = Problem.draw(case), case.source(), iter(range(10**9))
    alone, with_data = contenders()["ours"](problem), contenders()["ours"](problem)

    def drawn():
        batch, views = source.training(next(step), None)
        with_data.problem = Problem(case, batch, views, problem.correlations)
        return with_data.step()

    naive = contenders()["naive"](problem).step
    known = {"naive": spent(naive)[0]}
    samples, share = in_turn({"naive": naive, "alone": alone.step, "drawn": drawn}, SECONDS, known)
    results["drawing"] = {
        "share of a core": share,
        "seconds": {name: spread([one / case.seeds for one in values]) for name, values in samples.items()},
        "ratio": ratios(samples["drawn"], samples["alone"]),
        "times less": ratios(samples["naive"], samples["drawn"]),
    }
    benchmark.extra_info |= results["drawing"]
    benchmark.pedantic(drawn, rounds=10)
