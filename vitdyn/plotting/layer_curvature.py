"""Curvature of the theory's layer: at the start against P, along training, and as a clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from vitdyn._errors import invalid_value
from vitdyn.data import AreaSizes, Distribution
from vitdyn.plotting.curves import attention_by_pair, by_pair
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style
from vitdyn.plotting.style import BLACK, BLUE, GREEN, GREY, ORANGE, PAGE_WIDTH, PURPLE, VERMILLION
from vitdyn.theory import RowCorrelations, reconstruction_hessian_at
from vitdyn.trajectory import Trajectory

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, BLACK)


@dataclass(frozen=True, kw_only=True)
class StartCurvature:
    """Curvature of one kind at Q = 0: exact at each of ``patches``, measured at the first few of them by seeds."""

    words: str
    patches: Float[np.ndarray, " size"]
    exact: Float[np.ndarray, " size"]
    measured: Float[np.ndarray, "few seed"]

    def __post_init__(self) -> None:
        if len(self.patches) != len(self.exact) or len(self.measured) > len(self.patches):
            raise invalid_value(
                "exact", len(self.exact), "must be as many as patches, and no fewer than measured"
            )


@dataclass(frozen=True, kw_only=True)
class CurvaturePath:
    """Curvatures over time by kind, the theory's beside them where it has them; ``events`` are times with words."""

    time: Float[np.ndarray, " frame"]
    measured: Mapping[str, Float[np.ndarray, "frame seed"]]
    predicted: Mapping[str, Float[np.ndarray, " frame"]] = field(default_factory=dict)
    events: Sequence[tuple[float, str]] = ()
    clocks: Sequence[tuple[float, str]] = ()
    """Lines 1/λ = t − origin, each (origin, words)."""


@drawn_in_style
def draw_layer_curvature(
    starts: Mapping[str, Sequence[StartCurvature]], paths: Mapping[str, CurvaturePath]
) -> Drawing:
    """Draw a column for each objective: |λ| at the start against P, λ over time, 1/λ over time.

    At the start lines are the theory's and markers measured; open markers and dashed lines are negative. Over time
    bands are measured and dotted lines the theory's.
    """
    drawing = Drawing.of_size(PAGE_WIDTH, 7.4)
    grid = drawing.figure.subplots(3, len(starts), squeeze=False)
    panels = np.array(drawing.panels(grid.ravel()), dtype=object).reshape(grid.shape)
    for column, (title, start) in enumerate(starts.items()):
        _draw_start(panels[0, column], title, start)
        _draw_path(panels[1, column], title, paths[title])
        _draw_clock(panels[2, column], title, paths[title])
    return drawing


def _draw_start(panel: LetteredAxes, title: str, curvatures: Sequence[StartCurvature]) -> None:
    axes = panel.axes
    for colour, each in zip(_COLOURS, curvatures, strict=False):
        axes.plot([], [], color=colour, label=each.words)
        for sign, dashes in ((1, "-"), (-1, "--")):
            line = np.where(sign * each.exact > 0, np.abs(each.exact), np.nan)
            axes.plot(each.patches, line, dashes, color=colour, linewidth=1.1)
        few = np.repeat(each.patches[: len(each.measured)], each.measured.shape[1])
        for x, value in zip(few, each.measured.ravel(), strict=True):
            fill = colour if value > 0 else "white"
            axes.plot(x, abs(value), "o", color=colour, markerfacecolor=fill, markersize=3.4)
        panel.note_points(f"exact {each.words}", each.patches, each.exact)
        panel.note_points(f"measured {each.words}", few, each.measured.ravel())
    axes.set(xscale="log", yscale="log", xlabel="P", ylabel="|λ| at Q = 0")
    panel.title(f"{title}: at the start")
    axes.legend(loc="upper center", ncols=2, columnspacing=1.0, handletextpad=0.5, **_BELOW)


def _draw_path(panel: LetteredAxes, title: str, path: CurvaturePath) -> None:
    axes = panel.axes
    for colour, (words, values) in zip(_COLOURS, path.measured.items(), strict=False):
        panel.curve(words, path.time, values, color=colour, label=words)
        if words in path.predicted:
            axes.plot(path.time, path.predicted[words], color=BLACK, linestyle=":", linewidth=1.0)
            panel.note_points(f"predicted {words}", path.time, path.predicted[words])
    for time, words in path.events:
        axes.axvline(time, color=GREY, linestyle=":", linewidth=0.9, zorder=0)
        axes.annotate(
            words, (time, 0.03), xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points",
            fontsize=6.5, color=GREY, in_layout=False,
        )  # fmt: skip
        panel.note_point(words, time, float("nan"))
    axes.axhline(0, color=BLACK, linewidth=0.5, zorder=0)
    axes.set(xscale="log", xlabel="time", ylabel="λ")
    panel.title(f"{title}: along training")
    axes.legend(loc="upper center", ncols=2, **_BELOW)


def _draw_clock(panel: LetteredAxes, title: str, path: CurvaturePath) -> None:
    axes, time = panel.axes, path.time
    limit = 1.05 * (time[-1] - min((origin for origin, _ in path.clocks), default=0.0))
    for colour, (words, values) in zip(_COLOURS, path.measured.items(), strict=False):
        # 1/λ is infinite where the curvature turns: no line is drawn across
        for sign in (-1, 1):
            inverse = np.where(sign * values > 1 / limit, 1 / values, np.nan)
            panel.curve(f"1/λ {words}", time, inverse, color=colour)
    for origin, words in path.clocks:
        axes.plot(time, time - origin, color=BLACK, linestyle=":", linewidth=1.0)
        axes.annotate(
            words,
            (time[-1], time[-1] - origin),
            ha="right",
            va="bottom",
            fontsize=6.5,
            color=GREY,
            in_layout=False,
        )
        panel.note_points(words, time, time - origin)
    axes.axhline(0, color=BLACK, linewidth=0.5, zorder=0)
    axes.set(xlabel="time", ylabel="1/λ", ylim=(-limit / 3, limit))
    panel.title(f"{title}: 1/λ{', a clock' if path.clocks else ''}")


def contrast_path(trajectory: Trajectory) -> CurvaturePath:
    """Return a run of contrast, with the time at which half of local queries' attention is on the global area."""
    time = trajectory["time"].to_numpy()
    half = time[np.argmax(attention_by_pair(trajectory, "local to global").mean(1) > 0.5)]
    return CurvaturePath(time=time, measured=_measured(trajectory), events=((float(half), "$A_1$ = 1/2"),))


def reconstruction_path(trajectory: Trajectory, sizes: AreaSizes, latents: Distribution) -> CurvaturePath:
    """Return a run of masked reconstruction, the theory at its own correlations, where its phases end, two clocks."""
    time, measured = trajectory["time"].to_numpy(), _measured(trajectory)
    moved = [by_pair(trajectory, "feature_position", f"local to {key}").mean(1) for key in _WORDS.values()]
    own, away = np.diff(moved)
    along_own, along_global = (each.mean(1) for each in measured.values())
    # between the last frame below 0 and the first above
    after = max(int(np.argmax(along_own > 0)), 1)
    ends = slice(after - 1, after + 1)
    turn = float(np.interp(0, along_own[ends], time[ends]))
    return CurvaturePath(
        time=time,
        measured=measured,
        predicted=_predicted(trajectory, sizes, latents),
        events=((float(time[np.argmax(own > -away)]), "II"), (turn, "$A_a$ = 1/3")),
        clocks=((time[-1] - 1 / along_own[-1], "t − T"), (-1 / along_global[0], "t + 1/λ_1(0)")),
    )


def _measured(trajectory: Trajectory) -> dict[str, np.ndarray]:
    return {words: trajectory[f"{area}_area_curvature"].to_numpy() for words, area in _WORDS.items()}


def _predicted(trajectory: Trajectory, sizes: AreaSizes, latents: Distribution) -> dict[str, np.ndarray]:
    """Return the theory's curvatures at each frame's own correlations, means over seeds."""
    values = {
        name: by_pair(trajectory, block, f"local to {key}").mean(1)
        for block, names in _ROW.items()
        for name, key in names.items()
    }
    itself = trajectory["position_position_self"].sel(statistic="mean").isel(query_area=slice(1, None))
    values["self_key"] = itself.mean(("seed", "cluster", "query_area")).to_numpy()
    frames = ({name: float(each[i]) for name, each in values.items()} for i in range(len(itself)))
    symmetric = [reconstruction_hessian_at(RowCorrelations(**row), sizes, latents)[0] for row in frames]
    return {
        words: np.array([each.along(f"Φ {area}")[1] for each in symmetric]) for words, area in _WORDS.items()
    }


_WORDS = {r"$\varphi_a$, own area": "own", r"$\varphi_1$, global area": "global"}
_ROW = {
    "feature_position": {"own": "own", "global_area": "global", "other": "other"},
    "position_position": {"own_key": "own", "global_key": "global", "other_key": "other"},
}
_BELOW: dict[str, Any] = {"bbox_to_anchor": (0.5, -0.24), "borderpad": 0, "borderaxespad": 0}
