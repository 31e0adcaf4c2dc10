"""Encoders trained on real images by many methods: where each ends, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from vitdyn._errors import invalid_value
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style
from vitdyn.plotting.style import BLUE, GREY, ORANGE, PAGE_WIDTH, VERMILLION
from vitdyn.trajectory import Trajectory
from vitdyn.vits import METHODS, by_method, interval
from vitdyn.vits.pretraining import UNTRAINED

PANELS = (
    ("mutual_information", "mutual\ninformation", "log"),
    ("token_similarity", "token\nsimilarity", "linear"),
    ("high_frequency", "high\nfrequency", "linear"),
    ("attention_distance", "attention\ndistance, px", "linear"),
    ("linear_accuracy", "linear\nprobe", "linear"),
    ("neighbour_accuracy", "nearest\nneighbours", "linear"),
)
"""Metric, title and scale of each panel."""

_COLOURS = {"patches": BLUE, "image": VERMILLION, "both": ORANGE}
_WORDS = {"patches": "loss of single patches", "image": "of whole images", "both": "of both"}
_MARKERS = "o^Dv"


@drawn_in_style
def draw_methods(groups: Mapping[str, Sequence[Trajectory]]) -> Drawing:
    """Draw what each method ends with in the last block: mean and 95 % interval over seeds, a marker for each group.

    Blue methods have losses of single patches, red ones of whole images. The grey line is the untrained encoder, its
    band the interval. Raises ``ValueError`` where there is no record.
    """
    if not groups or not all(groups.values()):
        raise invalid_value("groups", sorted(groups), "must hold at least one run each")
    drawing = Drawing.of_size(PAGE_WIDTH, 3.1)
    present = [name for name in METHODS if any(name in by_method(each, "lidar") for each in groups.values())]
    first = None
    for index, (metric, title, scale) in enumerate(PANELS):
        axes = drawing.figure.add_subplot(1, len(PANELS), index + 1, sharey=first)
        first = first or axes
        panel = LetteredAxes(drawing, axes, "abcdef"[index])
        axes.set_xscale(scale)
        for number, (group, records) in enumerate(groups.items()):
            shift = 0.18 * (2 * number - len(groups) + 1)
            _draw_group(panel, metric, records, present, (group, _MARKERS[number], shift))
        panel.title(title)
        if scale == "log":
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(axis="y", length=0, labelleft=index == 0)
        axes.set_yticks(range(len(present)), [METHODS[method].__name__ for method in present])
    assert first is not None
    first.invert_yaxis()
    looks = [(GREY, _MARKERS[number], group) for number, group in enumerate(groups)]
    looks += [(colour, "s", _WORDS[reads]) for reads, colour in _COLOURS.items()]
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, linestyle="none", label=label)
        for colour, marker, label in looks
    ]
    drawing.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return drawing


def _draw_group(
    panel: LetteredAxes,
    metric: str,
    records: Sequence[Trajectory],
    present: Sequence[str],
    look: tuple[str, str, float],
) -> None:
    """Draw one metric of the runs of one group; an interval that is not finite is left out."""
    group, marker, shift = look
    for method, values in by_method(records, metric).items():
        mean, low, high = (float(each[-1]) for each in interval(values))
        if not np.isfinite(high):
            low = high = np.nan
        panel.drawing.rows.append((panel.letter, f"{metric}, {method}, {group}", mean, "", mean, low, high))
        if method == UNTRAINED:
            panel.axes.axvline(mean, color=GREY, linewidth=0.8)
            panel.axes.axvspan(low, high, color=GREY, alpha=0.12, linewidth=0)
            continue
        colour, row = _COLOURS[METHODS[method].reads], present.index(method) + shift
        panel.axes.plot([low, high], [row, row], color=colour, linewidth=1.1)
        panel.axes.plot(mean, row, color=colour, marker=marker, markersize=3)
