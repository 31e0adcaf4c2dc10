/* The phase diagram and the map of families: cells over two axes, or a curve over one. */

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false };
const TEXT = { family: '"Helvetica Neue", Arial, "DejaVu Sans", sans-serif', size: 12 };
const HEADER = null;

/** What all pictures share, in the colours of the page as it is now. */
function layout(more) {
  const axis = { gridcolor: colour("rule"), linecolor: colour("quiet"), zeroline: false, automargin: true, fixedrange: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false, showlegend: false,
    font: { ...TEXT, color: colour("ink") }, margin: { l: 8, r: 12, t: 8, b: 8 },
    hoverlabel: { font: TEXT, align: "left" }, ...more,
    xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
  };
}

class Diagram {
  constructor(sweep, open) {
    this.sweep = sweep;
    this.open = open;
    this.box = byId("diagram");
    this.cursor = { row: 0, column: 0 };
    this.box.addEventListener("keydown", (event) => this.key(event));
  }

  /** Draw what the state says: rows and columns of cells, a header row above each family. */
  draw(state) {
    this.state = state;
    const { sweep } = this;
    this.columns = sweep.order(state.x).map((place) => ({ place, label: sweep.label(state.x, place) }));
    this.rows = this.rowsOf(state);
    this.isReversed = state.y === null || state.view === "families" || !sweep.isNumeric(state.y);
    this.isCurve = state.y === null && state.quantity !== "regime";
    if (this.isCurve) this.drawCurve();
    else this.drawCells();
    this.write();
    this.moveTo(this.inside(this.cursor), false);
  }

  rowsOf({ view, y }) {
    const { sweep } = this;
    if (y === null) return [{ place: null, label: "" }];
    const row = (place) => ({ place, label: sweep.label(y, place) });
    if (view !== "families") return sweep.order(y).map(row);
    return Object.entries(sweep.families.groups).flatMap(([family, places]) => [
      { place: HEADER, label: family, isHeader: true }, ...places.map(row),
    ]);
  }

  /** The cell at a row and a column, null on a header. */
  cell(row, column) {
    if (this.rows[row].isHeader) return null;
    const at = [...this.state.at];
    at[this.state.x] = this.columns[column].place;
    if (this.state.y !== null) at[this.state.y] = this.rows[row].place;
    return this.sweep.index(at);
  }

  each(what) {
    return range(this.rows.length).map((row) => range(this.columns.length).map((column) => what(this.cell(row, column))));
  }

  drawCells() {
    const width = this.box.clientWidth || 600;
    const height = Math.min(56, Math.max(24, 460 / this.rows.length));
    const size = Math.min((width - 110) / this.columns.length, height);
    const look = this.state.quantity === "regime" ? this.regimes() : this.numbers();
    const told = (index) => (index === null ? "" : `${label(this.sweep.where(index), 60)}<br>${label(this.sweep.told(index, this.state.quantity), 60)}`);
    const trace = {
      type: "heatmap", x: range(this.columns.length), y: range(this.rows.length), xgap: size > 8 ? 2 : 0, ygap: size > 8 ? 2 : 0,
      hovertext: this.each(told), hovertemplate: "%{hovertext}<extra></extra>", hoverongaps: true, ...look,
      texttemplate: size > 15 ? "%{text}" : "", textfont: { ...TEXT, size: size > 30 ? 12 : 10 },
    };
    const ticks = (entries, room) => {
      const every = Math.ceil(entries.length / Math.max(1, room / 17));
      const kept = range(entries.length).filter((place) => place % every === 0);
      const text = kept.map((place) => (entries[place].isHeader ? `<b>${label(entries[place].label)}</b>` : label(entries[place].label)));
      return { tickvals: kept, ticktext: text, ticks: "", showgrid: false, range: [-0.5, entries.length - 0.5] };
    };
    const rows = ticks(this.rows, height * this.rows.length);
    if (this.isReversed) rows.range.reverse();
    const bar = this.state.quantity === "regime" ? 0 : 46;
    const more = {
      height: height * this.rows.length + 64 + bar, plot_bgcolor: colour("panel"),
      margin: { l: 8, r: 12, t: 8 + bar, b: 8 },
      xaxis: { ...ticks(this.columns, width - 110), title: { text: label(this.sweep.axes[this.state.x].name), standoff: 8 } },
      yaxis: { ...rows, title: this.state.y === null ? undefined : { text: label(this.sweep.axes[this.state.y].name), standoff: 8 } },
    };
    this.plot([trace, this.holes()], layout(more));
  }

  /** Regimes as categories: colours that all readers tell apart, and the first letter for who sees none. */
  regimes() {
    const { kinds } = this.sweep;
    const place = (index) => (index === null ? null : kinds.findIndex((kind) => kind.name === this.sweep.regime(index)?.kind));
    const z = this.each((index) => { const found = place(index); return found === null || found < 0 ? null : found; });
    const colorscale = kinds.flatMap((kind, number) => [[number / kinds.length, kind.colour], [(number + 1) / kinds.length, kind.colour]]);
    const text = this.each((index) => (index === null ? "" : letters(this.sweep.regime(index))));
    return { z, text, colorscale, zmin: -0.5, zmax: kinds.length - 0.5, showscale: false };
  }

  /** Numbers on one scale for the whole sweep: a colour means the same at every place of the sliders. */
  numbers() {
    const { mean, title } = this.sweep.quantities[this.state.quantity];
    const known = mean.filter((value) => value !== null);
    const least = known.reduce((one, other) => Math.min(one, other), Infinity);
    const most = known.reduce((one, other) => Math.max(one, other), -Infinity);
    const [zmin, zmax] = !known.length ? [0, 1] : least === most ? [least - 0.5, most + 0.5] : [least, most];
    const z = this.each((index) => (index === null ? null : mean[index]));
    const narrow = this.columns.length > 12 || this.box.clientWidth / this.columns.length < 70;
    const text = z.map((row) => row.map((value) => (value === null || narrow ? "" : shown(value))));
    const colorbar = { orientation: "h", x: 0.5, xanchor: "center", y: 1, yanchor: "bottom", thickness: 12, len: 0.9, outlinewidth: 0, ypad: 6 };
    return { z, text, zmin, zmax, colorscale: "Cividis", colorbar, name: title };
  }

  /** Cells without a number: a cross where one failed, a dot where there is none yet. */
  holes() {
    const found = { x: [], y: [], symbol: [], hover: [] };
    this.each((index) => index).forEach((row, y) => row.forEach((index, x) => {
      if (index === null || this.sweep.status[index] === "done") return;
      found.x.push(x); found.y.push(y);
      found.symbol.push(this.sweep.errors[index] ? "x" : "circle-open");
      found.hover.push(`${label(this.sweep.where(index), 60)}<br>${label(this.sweep.told(index, ""), 60)}`);
    }));
    return {
      type: "scatter", mode: "markers", x: found.x, y: found.y, hovertext: found.hover, hovertemplate: "%{hovertext}<extra></extra>",
      marker: { symbol: found.symbol, size: 11, color: colour("REFUTED"), line: { color: colour("quiet"), width: 1.5 } },
    };
  }

  /** One axis: the mean over seeds as a line, their extremes as a band. */
  drawCurve() {
    const { sweep, state } = this;
    const column = sweep.quantities[state.quantity];
    const numeric = sweep.isNumeric(state.x);
    const values = this.columns.map(({ place }) => sweep.axes[state.x].labels[place]);
    this.xs = numeric ? values : range(values.length);
    const take = (name) => range(this.columns.length).map((place) => column[name][this.cell(0, place)]);
    const hover = range(this.columns.length).map((place) => {
      const index = this.cell(0, place);
      return `${label(sweep.where(index), 60)}<br>${label(sweep.told(index, state.quantity), 60)}`;
    });
    const line = { ...band(this.xs, take("mean"), take("low"), take("high"), colour("link")) };
    line.main = { ...line.main, mode: "lines+markers", marker: { size: 9 }, hovertext: hover, hovertemplate: "%{hovertext}<extra></extra>" };
    const isWide = numeric && Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 30;
    const ticks = numeric ? {} : { tickvals: this.xs, ticktext: this.columns.map((each) => label(each.label)) };
    const holes = range(this.columns.length).filter((place) => column.mean[this.cell(0, place)] === null);
    const rug = {
      type: "scatter", mode: "markers", x: holes.map((place) => this.xs[place]), y: holes.map(() => 0.03), yaxis: "y2",
      hovertext: holes.map((place) => hover[place]), hovertemplate: "%{hovertext}<extra></extra>",
      marker: { symbol: holes.map((place) => (sweep.errors[this.cell(0, place)] ? "x" : "circle-open")), size: 11, color: colour("REFUTED") },
    };
    const title = column.symbol ? `${column.symbol}` : column.title;
    this.plot([line.low, line.high, line.main, rug], layout({
      height: 400,
      xaxis: { type: isWide ? "log" : "linear", title: { text: label(sweep.axes[state.x].name), standoff: 8 }, ...ticks },
      yaxis: { title: { text: label(title), standoff: 8 } },
      yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
    }));
  }

  plot(traces, frame) {
    Plotly.react(this.box, traces, frame, CONFIG);
    this.box.removeAllListeners?.("plotly_click");
    this.box.on("plotly_click", ({ points: [point] }) => {
      const column = this.isCurve ? this.xs.indexOf(point.x) : point.x;
      this.moveTo({ row: this.isCurve ? 0 : point.y, column }, true);
    });
  }

  /** Say in words what the picture shows, for who cannot see it, with a table of its numbers. */
  write() {
    const { sweep, state } = this;
    const over = [state.x, state.y].filter((axis) => axis !== null).map((axis) => sweep.axes[axis].name).join(" and ");
    const fixed = sweep.axes.map((axis, number) => [axis, number]).filter(([axis, number]) => number !== state.x && number !== state.y && axis.labels.length > 1)
      .map(([axis, number]) => `${axis.name} = ${sweep.label(number, state.at[number])}`).join(", ");
    const words = `${sweep.title(state.quantity)} over ${over}${fixed ? `, at ${fixed}` : ""}`;
    byId("diagram-title").textContent = words;
    this.box.setAttribute("aria-label", `${words}. ${this.rows.filter((row) => !row.isHeader).length} by ${this.columns.length} cells.`);
    const quantity = sweep.quantities[state.quantity];
    byId("diagram-words").textContent = state.quantity === "regime"
      ? "What the seeds of a cell have learned at the end (vd.learned_regime); … where one still moves."
      : `${quantity.symbol ? `${quantity.symbol}: ` : ""}${quantity.meaning || quantity.title}; at the last frame, mean over seeds [extremes].`;
    this.writeLegend();
    const header = [state.y === null ? "" : sweep.axes[state.y].name, ...this.columns.map((each) => each.label)];
    const rows = () => range(this.rows.length).map((row) => [this.rows[row].label,
      ...range(this.columns.length).map((column) => (this.cell(row, column) === null ? "" : sweep.told(this.cell(row, column), state.quantity)))]);
    tableWhenOpened(byId("diagram-table"), words, header, rows);
  }

  writeLegend() {
    const { sweep, state } = this;
    const there = new Set(this.each((index) => (index === null ? null : sweep.regime(index)?.kind)).flat());
    const entries = state.quantity !== "regime" ? [] : sweep.kinds.filter((kind) => there.has(kind.name)).map((kind) => {
      const swatch = made("span", { class: "swatch", style: `background:${kind.colour};color:${kind.light ? "#fff" : "#000"}` }, letters({ kind: kind.name }));
      return made("span", {}, swatch, kind.name);
    });
    const statuses = new Set(this.each((index) => (index === null ? "done" : sweep.status[index])).flat());
    const marks = [...statuses].filter((status) => status !== "done").map((status) =>
      made("span", {}, ["missing", "absent"].includes(status) ? "○" : "✕", status));
    byId("legend").replaceChildren(...entries, ...marks);
  }

  inside({ row, column }) {
    const rows = range(this.rows.length).filter((each) => !this.rows[each].isHeader);
    const nearest = rows.reduce((one, other) => (Math.abs(other - row) < Math.abs(one - row) ? other : one));
    return { row: nearest, column: Math.min(column, this.columns.length - 1) };
  }

  /** Put the cursor on a cell, tell of it, and open it if asked to. */
  moveTo(place, opens) {
    if (this.rows[place.row]?.isHeader || place.row < 0 || place.row >= this.rows.length) return;
    if (place.column < 0 || place.column >= this.columns.length) return;
    this.cursor = place;
    const index = this.cell(place.row, place.column);
    const { column, row } = place;
    const across = this.isCurve
      ? { type: "line", x0: this.xs[column], x1: this.xs[column], yref: "paper", y0: 0, y1: 1, line: { color: colour("ink"), width: 2, dash: "dot" } }
      : { type: "rect", x0: column - 0.5, x1: column + 0.5, y0: row - 0.5, y1: row + 0.5, line: { color: colour("ink"), width: 3 } };
    Plotly.relayout(this.box, { shapes: [across] });
    byId("cursor").textContent = `${this.sweep.where(index)}: ${this.sweep.told(index, this.state.quantity)}`;
    if (opens) this.open(index);
  }

  key(event) {
    const { row, column } = this.cursor;
    const down = this.isReversed ? 1 : -1;
    const steps = {
      ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-down, 0], ArrowDown: [down, 0],
      Home: [0, -column], End: [0, this.columns.length - 1 - column],
    };
    if (event.key === "Enter" || event.key === " ") this.open(this.cell(row, column), true);
    else if (event.key in steps) this.step(...steps[event.key]);
    else return;
    event.preventDefault();
  }

  step(down, right) {
    let row = this.cursor.row + down;
    while (this.rows[row]?.isHeader) row += down;
    this.moveTo({ row, column: this.cursor.column + right }, false);
  }
}

function letters(regime) {
  if (!regime) return "";
  return (regime.kind === DIFFER ? "≠" : regime.kind[0].toUpperCase()) + (regime.moves ? "…" : "");
}

/** A line between two others that are filled: median or mean, and extremes of the seeds. */
function band(x, main, low, high, tint, dash = "solid") {
  const edge = { type: "scatter", mode: "lines", x, line: { width: 0, color: tint }, hoverinfo: "skip", connectgaps: false };
  return {
    low: { ...edge, y: low },
    high: { ...edge, y: high, fill: "tonexty", fillcolor: `${tint}33` },
    main: { ...edge, y: main, line: { width: 2, color: tint, dash }, hoverinfo: undefined },
  };
}
