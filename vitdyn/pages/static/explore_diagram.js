/* The phase diagram and the map of families: cells over two axes, or a curve over one. */

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false };
const TEXT = { family: '"Helvetica Neue", Arial, "DejaVu Sans", sans-serif', size: 12 };
const HALF = 0.46; // of a cell's width: the rest is the gap between cells
const MOST_STRIPES = 12;

/** What all pictures share, in the colours of the page as it is now. */
function layout(more) {
  const axis = {
    gridcolor: colour("rule"), linecolor: colour("quiet"), zeroline: false, automargin: true, fixedrange: true,
  };
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
    const families = Object.entries(sweep.families.groups);
    return families.flatMap(([family, places]) => [{ label: family, isHeader: true }, ...places.map(row)]);
  }

  /** The cell at a row and a column, null on a header. */
  cell(row, column) {
    if (this.rows[row].isHeader) return null;
    const at = [...this.state.at];
    at[this.state.x] = this.columns[column].place;
    if (this.state.y !== null) at[this.state.y] = this.rows[row].place;
    return this.sweep.index(at);
  }

  /** What a function of a cell says of all of them: rows of columns. */
  each(what) {
    const across = (row) => range(this.columns.length).map((column) => what(this.cell(row, column)));
    return range(this.rows.length).map(across);
  }

  hover(index) {
    if (index === null) return "";
    return `${label(this.sweep.where(index), 60)}<br>${label(this.sweep.told(index, this.state.quantity), 60)}`;
  }

  drawCells() {
    const { sweep, state } = this;
    const isRegime = state.quantity === "regime";
    const height = Math.min(56, Math.max(24, 460 / this.rows.length));
    this.width = ((this.box.clientWidth || 600) - 110) / this.columns.length;
    const traces = isRegime ? this.regimes() : [this.numbers()];
    const rows = this.ticks(this.rows, height);
    if (this.isReversed) rows.range.reverse();
    const bar = isRegime ? 0 : 46;
    const title = (axis) => (axis === null ? undefined : { text: label(sweep.axes[axis].name), standoff: 8 });
    this.plot([...traces, this.holes()], layout({
      height: height * this.rows.length + 64 + bar, plot_bgcolor: colour("panel"),
      margin: { l: 8, r: 12, t: 8 + bar, b: 8 },
      xaxis: { ...this.ticks(this.columns, this.width), title: title(state.x) },
      yaxis: { ...rows, title: title(state.y) },
    }));
  }

  /** Labels of rows or columns of a size in pixels, as many as there is room for. */
  ticks(entries, size) {
    const every = Math.ceil(17 / size);
    const kept = range(entries.length).filter((place) => place % every === 0);
    const words = ({ label: name, isHeader }) => (isHeader ? `<b>${label(name)}</b>` : label(name));
    const ticktext = kept.map((place) => words(entries[place]));
    return { tickvals: kept, ticktext, ticks: "", showgrid: false, range: [-0.5, entries.length - 0.5] };
  }

  /** Regimes by colours that all readers tell apart, a stripe for each seed, and the first letter of each regime. */
  regimes() {
    const { sweep } = this;
    const runs = this.each((index) => sweep.regimesOf(index));
    const seeds = runs.flat().map((cell) => cell.reduce((sum, each) => sum + each.count, 0));
    const stripes = Math.max(1, Math.min(MOST_STRIPES, seeds.reduce((one, other) => Math.max(one, other), 1)));
    const inner = range(stripes + 1).map((edge) => HALF * ((2 * edge) / stripes - 1));
    const edges = (column) => [-0.5, ...inner].map((edge) => column + edge);
    const x = [...range(this.columns.length).flatMap(edges), this.columns.length - 0.5];
    const of = (cell) => {
      const kinds = cell.flatMap(({ kind, count }) => Array(count).fill(sweep.kinds.indexOf(kind)));
      const at = (stripe) => kinds[Math.floor(((stripe + 0.5) * kinds.length) / stripes)] ?? null;
      return [null, ...range(stripes).map(at), null];
    };
    const hovertext = this.each((index) => Array(stripes + 2).fill(this.hover(index))).map((row) => row.flat());
    const last = sweep.kinds.length;
    const step = ({ colour: fill }, place) => [[place / last, fill], [(place + 1) / last, fill]];
    const colorscale = sweep.kinds.flatMap(step);
    const tiles = {
      type: "heatmap", x, y: range(this.rows.length), z: runs.map((row) => row.flatMap(of)), ygap: 2,
      hovertext, hovertemplate: "%{hovertext}<extra></extra>", hoverongaps: true,
      colorscale, zmin: -0.5, zmax: last - 0.5, showscale: false,
    };
    return [tiles, this.letters(runs)];
  }

  letters(runs) {
    const found = { x: [], y: [], text: [], color: [] };
    runs.forEach((row, y) => row.forEach((cell, column) => {
      const total = cell.reduce((sum, each) => sum + each.count, 0);
      let before = 0;
      for (const { kind, count, letter } of cell) {
        const middle = (before + count / 2) / total;
        before += count;
        if ((this.width * count) / total < 10 + 8 * letter.length) continue; // no room for it
        found.x.push(column + HALF * (2 * middle - 1));
        found.y.push(y);
        found.text.push(letter);
        found.color.push(kind.light ? "#fff" : "#000");
      }
    }));
    const { x, y, text, color } = found;
    return { type: "scatter", mode: "text", x, y, text, textfont: { ...TEXT, size: 11, color }, hoverinfo: "skip" };
  }

  /** Numbers on one scale for the whole sweep: a colour means the same at every place of the sliders. */
  numbers() {
    const { mean } = this.sweep.quantities[this.state.quantity];
    const known = mean.filter((value) => value !== null);
    const least = known.reduce((one, other) => Math.min(one, other), Infinity);
    const most = known.reduce((one, other) => Math.max(one, other), -Infinity);
    // what spans decades (times do) is coloured by its logarithm, but for shares, which compare to 1
    const isWide = least > 0 && most / least > 100 && !/attention/.test(this.state.quantity);
    const scaled = (value) => (value !== null && isWide ? Math.log10(value) : value);
    const [low, high] = [scaled(least), scaled(most)];
    const [zmin, zmax] = !known.length ? [0, 1] : low === high ? [low - 0.5, high + 0.5] : [low, high];
    const values = this.each((index) => (index === null ? null : mean[index]));
    const z = values.map((row) => row.map(scaled));
    const text = values.map((row) => row.map((value) => (value === null ? "" : shown(value, 2))));
    const powers = range(Math.floor(zmax) - Math.ceil(zmin) + 1).map((step) => Math.ceil(zmin) + step);
    const ticks = isWide ? { tickvals: powers, ticktext: powers.map((power) => `10<sup>${power}</sup>`) } : {};
    return {
      type: "heatmap", x: range(this.columns.length), y: range(this.rows.length), z, zmin, zmax, colorscale: "Cividis",
      text, texttemplate: this.width > 44 ? "%{text}" : "", textfont: { ...TEXT, size: 11 },
      hovertext: this.each((index) => this.hover(index)), hovertemplate: "%{hovertext}<extra></extra>",
      hoverongaps: true, xgap: this.width > 8 ? 2 : 0, ygap: 2,
      colorbar: {
        orientation: "h", x: 0.5, xanchor: "center", y: 1, yanchor: "bottom",
        thickness: 12, len: 0.9, outlinewidth: 0, ypad: 6, ...ticks,
      },
    };
  }

  /** Cells without a result: a cross where one failed, a circle where there is none yet. */
  holes() {
    const found = { x: [], y: [], symbol: [], hovertext: [] };
    this.each((index) => index).forEach((row, y) => row.forEach((index, x) => {
      if (index === null || this.sweep.status[index] === "done") return;
      found.x.push(x);
      found.y.push(y);
      found.symbol.push(this.mark(index));
      found.hovertext.push(this.hover(index));
    }));
    const { x, y, symbol, hovertext } = found;
    const marker = { symbol, size: 10, color: colour("REFUTED"), line: { color: colour("quiet"), width: 1.5 } };
    return { type: "scatter", mode: "markers", x, y, marker, hovertext, hovertemplate: "%{hovertext}<extra></extra>" };
  }

  mark(index) {
    return this.sweep.errors[index] ? "x" : "circle-open";
  }

  /** One axis: the mean over seeds as a line, their extremes as a band; holes stand at the foot. */
  drawCurve() {
    const { sweep, state } = this;
    const column = sweep.quantities[state.quantity];
    const isNumeric = sweep.isNumeric(state.x);
    const cells = range(this.columns.length).map((place) => this.cell(0, place));
    const values = this.columns.map(({ place }) => sweep.axes[state.x].labels[place]);
    this.xs = isNumeric ? values : range(values.length);
    const take = (name) => cells.map((index) => column[name][index]);
    const { low, high, main } = band(this.xs, take("mean"), take("low"), take("high"), colour("link"));
    const hovers = { hovertext: cells.map((index) => this.hover(index)), hovertemplate: "%{hovertext}<extra></extra>" };
    const holes = {
      type: "scatter", mode: "markers", x: this.xs, yaxis: "y2", ...hovers,
      y: cells.map((index) => (column.mean[index] === null ? 0.03 : null)),
      marker: { symbol: cells.map((index) => this.mark(index)), size: 11, color: colour("REFUTED") },
    };
    const title = (words) => ({ text: label(words), standoff: 8 });
    const isWide = isNumeric && values[0] > 0 && values.at(-1) / values[0] > 30;
    const ticks = isNumeric ? {} : { tickvals: this.xs, ticktext: this.columns.map((each) => label(each.label)) };
    this.plot([low, high, { ...main, mode: "lines+markers", marker: { size: 9 }, ...hovers }, holes], layout({
      height: 400,
      xaxis: { type: isWide ? "log" : "linear", title: title(sweep.axes[state.x].name), ...ticks },
      yaxis: { title: title(column.symbol || column.title) },
      yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
    }));
  }

  plot(traces, frame) {
    Plotly.react(this.box, traces, frame, CONFIG);
    this.box.removeAllListeners("plotly_click");
    this.box.on("plotly_click", ({ points: [point] }) => {
      const column = this.isCurve ? this.xs.indexOf(point.x) : Math.round(point.x);
      this.moveTo({ row: this.isCurve ? 0 : point.y, column }, true);
    });
  }

  /** Say in words what the picture shows, for who cannot see it, with a table of its numbers. */
  write() {
    const { sweep, state } = this;
    const drawn = [state.x, state.y].filter((axis) => axis !== null);
    const over = drawn.map((axis) => sweep.axes[axis].name).join(" and ");
    const others = range(sweep.axes.length).filter((axis) => !drawn.includes(axis) && sweep.sizes[axis] > 1);
    const at = others.map((axis) => `${sweep.axes[axis].name} = ${sweep.label(axis, state.at[axis])}`).join(", ");
    const words = `${sweep.title(state.quantity)} over ${over}${at ? `, at ${at}` : ""}`;
    const rows = range(this.rows.length);
    byId("diagram-title").textContent = words;
    const count = rows.filter((row) => !this.rows[row].isHeader).length;
    this.box.setAttribute("aria-label", `${words}. ${count} by ${this.columns.length} cells.`);
    byId("diagram-words").textContent = this.meaning();
    this.writeLegend();
    const told = (index) => (index === null ? "" : sweep.told(index, state.quantity));
    const header = [state.y === null ? "" : sweep.axes[state.y].name, ...this.columns.map((each) => each.label)];
    const table = () => this.each(told).map((row, place) => [this.rows[place].label, ...row]);
    tableWhenOpened(byId("diagram-table"), words, header, table);
  }

  meaning() {
    if (this.state.quantity === "regime") {
      return "What each seed of a cell has learned at the end (vd.learned_regime), one stripe a seed; … where one still moves.";
    }
    const { symbol, meaning, title } = this.sweep.quantities[this.state.quantity];
    return `${symbol ? `${symbol}: ` : ""}${meaning || title}; at the last frame, mean over seeds [extremes].`;
  }

  writeLegend() {
    const { sweep, state } = this;
    const there = new Set(this.each((index) => sweep.regimesOf(index)).flat(2).map(({ kind }) => kind));
    const swatch = ({ name, colour: fill, light }) => {
      const style = `background:${fill};color:${light ? "#fff" : "#000"}`;
      return made("span", {}, made("span", { class: "swatch", style }, name[0].toUpperCase()), name);
    };
    const entries = state.quantity === "regime" ? sweep.kinds.filter((kind) => there.has(kind)).map(swatch) : [];
    const cells = this.each((index) => index).flat().filter((index) => index !== null);
    const holes = cells.filter((index) => sweep.status[index] !== "done");
    const marks = new Map(holes.map((index) => [sweep.status[index], sweep.errors[index] ? "✕" : "○"]));
    const told = [...marks].map(([status, mark]) => made("span", {}, `${mark} ${status}`));
    byId("legend").replaceChildren(...entries, ...told);
  }

  /** The place nearest to one that the picture may no longer have. */
  inside({ row, column }) {
    const rows = range(this.rows.length).filter((each) => !this.rows[each].isHeader);
    const nearest = rows.reduce((one, other) => (Math.abs(other - row) < Math.abs(one - row) ? other : one));
    return { row: nearest, column: Math.min(column, this.columns.length - 1) };
  }

  /** Put the cursor on a cell, tell of it, and open it if asked to. */
  moveTo({ row, column }, opens) {
    const isCell = row in this.rows && column in this.columns && !this.rows[row].isHeader;
    if (!isCell) return;
    this.cursor = { row, column };
    Plotly.relayout(this.box, { shapes: this.outline(row, column) });
    const index = this.cell(row, column);
    byId("cursor").textContent = `${this.sweep.where(index)}: ${this.sweep.told(index, this.state.quantity)}`;
    if (opens) this.open(index);
  }

  outline(row, column) {
    const [ink, paper] = [colour("ink"), colour("paper")];
    if (this.isCurve) {
      const x = this.xs[column];
      return [{ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: ink, width: 2, dash: "dot" } }];
    }
    const box = { type: "rect", x0: column - 0.5, x1: column + 0.5, y0: row - 0.5, y1: row + 0.5 };
    // a light line about a dark one is seen on every colour
    return [{ ...box, line: { color: paper, width: 7 } }, { ...box, line: { color: ink, width: 3 } }];
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

/** A line between two others that are filled: median or mean, and extremes of the seeds. */
function band(x, main, low, high, tint, dash = "solid") {
  const edge = { type: "scatter", mode: "lines", x, line: { width: 0, color: tint }, hoverinfo: "skip" };
  return {
    low: { ...edge, y: low },
    high: { ...edge, y: high, fill: "tonexty", fillcolor: `${tint}33` },
    main: { ...edge, y: main, line: { width: 2, color: tint, dash }, hoverinfo: "all" },
  };
}
