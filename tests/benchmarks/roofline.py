"""The picture of the benchmarks: achieved rates below the machine's ceilings, and time against P."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitdyn.plotting.style import (
    BLACK,
    GREEN,
    GREY,
    ORANGE,
    PAGE_WIDTH,
    PURPLE,
    SKY,
    VERMILLION,
    panel_title,
    styled,
)

LOOKS = {
    "naive": (GREY, "s"),
    "vmap": (PURPLE, "v"),
    "jax": (ORANGE, "D"),
    "jax_factored": (GREEN, "^"),
    "eager": (SKY, "P"),
    "ours": (VERMILLION, "o"),
}


def draw(found: dict, words: dict[str, str], path: Path) -> None:
    """Draw both panels into a file. ``words`` names the contenders to show."""
    with styled():
        figure = Figure(figsize=(PAGE_WIDTH, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        _roofline(left, found, words)
        _growth(right, found, words)
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        figure.savefig(path, dpi=200)


def _roofline(axes: Axes, found: dict, words: dict[str, str]) -> None:
    sgemm, copy = (found["machine"][key] / 1e9 for key in ("sgemm", "copy"))
    reach = np.geomspace(1, 400, 200)
    axes.loglog(reach, np.minimum(copy * reach, sgemm), color=BLACK, lw=1)
    # far left, as contenders may lie above the line
    axes.text(1.15, 1.4 * sgemm, f"matrix product, {sgemm:.0f} GFLOP/s", ha="left", va="bottom", fontsize=6.5)
    axes.text(2.4, copy * 1.5, f"copy, {copy:.1f} GB/s", fontsize=6.5, ha="left", va="top")
    for entry in found["cases"].values():
        case = entry["case"]
        if case["clusters"] > 1 or case["areas"] != 4:
            continue
        for name in words:
            if name not in entry["seconds"]:
                continue
            colour, marker = LOOKS[name]
            rate = entry["operations"] / entry["seconds"][name]["median"] / 1e9
            fill = colour if case["objective"] == "mae" else "white"
            axes.loglog(
                entry["operations"] / entry["bytes"], rate, marker, ms=3.6, mfc=fill, mec=colour, mew=0.9
            )
    axes.set_xlim(1, 400)
    axes.set_ylim(top=5 * sgemm)
    axes.set_xlabel("operations per compulsory byte")
    axes.set_ylabel("GFLOP/s, dense-equivalent")
    panel_title(axes, "a", "rate (filled MAE, open CL)")


def _growth(axes: Axes, found: dict, words: dict[str, str]) -> None:
    for name, label in words.items():
        colour, marker = LOOKS[name]
        for objective, style in (("mae", "-"), ("cl", ":")):
            points = [
                (entry["case"]["patches"], 1000 * entry["seconds"][name]["median"])
                for entry in found["cases"].values()
                if name in entry["seconds"]
                and (entry["case"]["objective"], entry["case"]["samples"]) == (objective, 64)
                and (entry["case"]["clusters"], entry["case"]["areas"]) == (1, 4)
            ]
            if points:
                fill = colour if objective == "mae" else "white"
                shown = label if objective == "mae" else None
                axes.loglog(
                    *zip(*points, strict=True), style, marker=marker, ms=3.6, color=colour, mfc=fill, lw=1, label=shown
                )  # fmt: skip
    axes.set_xticks([64, 128, 256, 1024], ["64", "128", "256", "1024"])
    axes.minorticks_off()
    axes.set_xlabel("P")
    axes.set_ylabel("ms per seed and step")
    panel_title(axes, "b", "64 samples (solid MAE, dotted CL)")
