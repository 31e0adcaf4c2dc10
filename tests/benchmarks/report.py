"""Writes what the benchmarks found into the notes: a page for each kind of machine, its picture and the numbers.

``python tests/benchmarks/report.py`` writes pages and pictures again from the numbers of the last measurements.
"""

import json
from itertools import pairwise
from math import log
from pathlib import Path

from contenders import contenders
from roofline import draw

TEMPLATE = Path(__file__).with_name("speed_template.md")
NOTES = Path(__file__).parents[2] / "theory_notes"
OBJECTIVES = {"mae": "Masked reconstruction", "cl": "Contrast"}

WHO = {
    "naive": "a module with Q in R^{d×d}, tokens in R^d, softmax over all keys, autograd, one seed after another",
    "vmap": "the same module, functional, `vmap` of `grad` over seeds",
    "jax": "Φ and Υ only, softmax over all keys, `lax.map` over seeds, one compiled `value_and_grad`; as many samples "
    "at a time as fit the cache",
    "jax_factored": "the factored evaluation of [gradients.md](gradients.md#factored-evaluation), in JAX: what the "
    "algebra alone brings",
    "eager": "the factored evaluation in torch operations (`composed.by_areas`), autograd through them",
    "ours": "`vitdyn.dynamics.loss_gradient`, what training runs",
}


def number(value: float, digits: int = 3) -> str:
    """So many digits, no exponent."""
    return f"{value:.0f}" if value >= 10 ** (digits - 1) else f"{value:#.{digits}g}"


def cell(found: dict | None, scale: float = 1.0) -> str:
    """Median and quartiles."""
    if found is None:
        return "—"
    middle, low, high = (number(scale * found[key]) for key in ("median", "low", "high"))
    return f"{middle} (once)" if found["count"] == 1 else f"{middle} [{low}, {high}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def size(entry: dict) -> str:
    return "{patches}, {samples}, {seeds}".format(**entry["case"])


def plain(found: dict, objective: str) -> list[dict]:
    """The cases of one objective at one cluster and four areas, by size."""
    entries = [entry for entry in found["cases"].values() if entry["case"]["objective"] == objective]
    return [entry for entry in entries if entry["case"]["clusters"] == 1 and entry["case"]["areas"] == 4]


def words(name: str) -> str:
    kinds = contenders()
    return kinds[name].words if name in kinds else name


def names(found: dict) -> list[str]:
    measured = {name for entry in found["cases"].values() for name in entry["seconds"]}
    return [name for name in WHO if name in measured]


def machine_line(found: dict) -> str:
    told = found["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    kind = "core" if told["cores"] == 1 else "cores"
    return f"*{told['processor']} ({told['vectors']}), {told['cores']} {kind}; {libraries}; {told['date']}.*"


def cost_tables(found: dict) -> str:
    parts = []
    for objective, title in OBJECTIVES.items():
        head = ["P, samples, seeds", *(words(name) for name in names(found)), "naive / ours", "JAX / ours"]
        rows = []
        for entry in plain(found, objective):
            times, less = entry["seconds"], entry["times less"]
            costs = [entry["left out"].get(name, cell(times.get(name), 1000)) for name in names(found)]
            gains = [cell(less.get(base, {}).get("ours")) for base in ("naive", "jax")]
            rows.append([size(entry), *costs, *gains])
        parts.append(f"## {title}\n\nMilliseconds for one seed and step.\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def growth_table(found: dict) -> str:
    rows = []
    for objective in OBJECTIVES:
        entries = [entry for entry in plain(found, objective) if entry["case"]["samples"] == 64]
        for one, two in pairwise(entries):
            a, b = one["case"]["patches"], two["case"]["patches"]
            slopes = [
                f"{log(two['seconds'][name]['median'] / one['seconds'][name]['median']) / log(b / a):.2f}"
                if name in one["seconds"] and name in two["seconds"]
                else "—"
                for name in names(found)
            ]
            rows.append([f"{objective.upper()}, {a} to {b}", *slopes])
    head = ["P", *(words(name) for name in names(found))]
    return f"## Growth with P\n\nThe power of P with which the time grows, 64 samples.\n\n{table(head, rows)}"


def shape_table(found: dict) -> str:
    rows, turns = [], ""
    for entry in found["cases"].values():
        case = entry["case"]
        if case["clusters"] == 1 and case["areas"] == 4:
            continue
        changed = {"clusters": 1, "areas": 4}
        other = next(x for x in found["cases"].values() if x["case"] == case | changed)
        what = f"{case['clusters']} clusters" if case["clusters"] > 1 else f"{case['areas']} areas"
        both = [name for name in names(found) if name in entry["seconds"] and name in other["seconds"]]
        costs = {name: entry["seconds"][name]["median"] / other["seconds"][name]["median"] for name in both}
        cells = [f"{costs[name]:.2f}" if name in costs else "—" for name in names(found)]
        if entry.get("times usual"):
            cells[names(found).index("ours")] = cell(entry["times usual"])
            turns = ", for us in the same turns"
        rows.append([f"{what}, at {size(entry)}", cell(entry["seconds"]["ours"], 1000), *cells])
    head = ["MAE", "ours, ms", *(words(name) for name in names(found))]
    text = f"Time over that of one cluster of 4 areas at the same size{turns}; first, ours in milliseconds."
    return f"## Several clusters, many areas\n\n{text}\n\n{table(head, rows)}"


def memory_table(found: dict) -> str:
    by_case: dict[str, dict[str, float | None]] = {}
    for key, value in found["memory"].items():
        name, case = key.split(" ")
        by_case.setdefault(case, {})[name] = value
    rows = []
    for case, values in by_case.items():
        cells = [number(value) if (value := values.get(name)) is not None else "—" for name in names(found)]
        entry = found["cases"][case]
        rows.append([f"{entry['case']['objective'].upper()}, {size(entry)}", *cells])
    text = (
        "MiB of resident memory at the peak of drawing a batch and taking three steps (one at P = 1024), all seeds of "
        "the row, each contender in a new process, above what its imports and compiled code take."
    )
    head = ["P, samples, seeds", *(words(name) for name in names(found))]
    return f"## Memory\n\n{text}\n\n{table(head, rows)}"


def threads_and_drawing(found: dict) -> str:
    two = found.get("threads")
    told = (
        f"Two threads, a seed and a core for each, take the two seeds of (256, 256, 2) {cell(two)} times faster than "
        "one thread takes both (time that passed)."
        if two
        else "Two threads were not compared with one: the process was given a single core."
    )
    drawn = found["drawing"]
    beside = ""
    if drawn.get("times less"):
        less = cell(drawn["times less"])
        beside = f" The module, which is given its data, takes {less} times as long as the two together."
    return (
        "## Threads, and the drawing of data\n\n"
        f"{told}\n\n"
        f"With the drawing of its batch (latents, masks) a gradient at (256, 64, 4) takes "
        f"{cell(drawn['seconds']['drawn'], 1000)} ms a seed and step, without it "
        f"{cell(drawn['seconds']['alone'], 1000)} ms: {cell(drawn['ratio'])} times as much.{beside}"
    )


def rate_table(found: dict) -> str:
    rows = []
    for entry in found["cases"].values():
        rates = {name: entry["operations"] / time["median"] for name, time in entry["seconds"].items()}
        cells = [
            f"{number(100 * rates[name] / found['machine']['sgemm'], 2)} %" if name in rates else "—"
            for name in names(found)
        ]
        case = entry["case"]
        extra = "".join(
            f", {case[field]} {field}"
            for field, usual in (("clusters", 1), ("areas", 4))
            if case[field] != usual
        )
        rows.append([f"{case['objective'].upper()}, {size(entry)}{extra}", *cells])
    return table(["P, samples, seeds", *(words(name) for name in names(found))], rows)


def page(found: dict) -> str:
    shares = sorted(entry["share of a core"] for entry in found["cases"].values())
    sgemm, copy = (found["machine"][key] / 1e9 for key in ("sgemm", "copy"))
    intensity = [entry["operations"] / entry["bytes"] for entry in found["cases"].values()]
    return TEMPLATE.read_text().format(
        machine=machine_line(found),
        stem=stem(found),
        vectors=found["machine"]["vectors"],
        share=shares[len(shares) // 2],
        who="\n".join(f"| {words(name)} | {WHO[name]} |" for name in names(found)),
        tables=cost_tables(found),
        growth=growth_table(found),
        shape=shape_table(found),
        memory=memory_table(found),
        threads=threads_and_drawing(found),
        sgemm=sgemm,
        copy=copy,
        ridge=sgemm / copy,
        least=min(intensity),
        most=max(intensity),
        rate=rate_table(found),
    )


def stem(found: dict) -> str:
    """The name of a machine's page, by its vectors: ``speed-avx2``, ``speed-avx512``."""
    return "speed-" + found["machine"]["vectors"].lower().replace("-", "")


def write(found: dict, folder: Path = NOTES) -> None:
    """Write numbers, page and picture."""
    name = stem(found)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / f"{name}.md").write_text(page(found))
    draw(found, {name: words(name).replace("`", "") for name in names(found)}, folder / f"{name}.png")


if __name__ == "__main__":
    for numbers in NOTES.glob("speed-*.json"):
        write(json.loads(numbers.read_text()))
