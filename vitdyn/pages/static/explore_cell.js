/* A chosen cell: its coordinates, how to run it again, and its trajectories with bands over seeds. */

/* what is shown at once, in this order; the others are folded away */
const FIRST_PANELS = [
  "own_area_attention", "area_attention.global", "feature_position.own", "feature_position.global", "loss",
  "reconstruction_error",
];
const DASHES = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "11 4", longdashdot: "11 3 2 3" };
/* Okabe and Ito's colours but for yellow, which is too faint for a line; dashes differ too. */
const TINTS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"];

class CellView {
  constructor(sweep) {
    this.sweep = sweep;
    this.box = byId("cell");
    this.index = null;
    this.clock = null;
    this.isLog = null;
  }

  /** Show a cell; null says how to choose one. */
  show(index) {
    this.index = index;
    if (index === null) {
      const words = "No cell is chosen yet: its trajectories will be shown here.";
      this.box.replaceChildren(made("p", { class: "quiet" }, words));
      return;
    }
    const { sweep } = this;
    const heading = made("h2", { tabindex: "-1" }, sweep.where(index));
    const close = made("button", { type: "button", id: "close-cell", onclick: () => this.close() }, "Close (Esc)");
    const head = made("div", { class: "head" }, heading, close);
    this.box.replaceChildren(head, this.facts(), ...this.again(), ...this.pictures());
    this.drawAll();
  }

  close() {
    this.show(null);
    this.onClose?.();
  }

  facts() {
    const { sweep, index } = this;
    const list = made("dl");
    const fact = (name, value) => list.append(made("dt", {}, name), made("dd", {}, value));
    fact("status", sweep.status[index]);
    if (sweep.errors[index]) fact("error", made("span", { class: "error" }, sweep.errors[index]));
    if (sweep.keys[index]) fact("key", made("code", {}, sweep.keys[index]));
    if (sweep.status[index] === "done" && sweep.regimes[index]) fact("regime", sweep.told(index, "regime"));
    if (sweep.curves[index]) fact("seeds", String(sweep.curves[index].seeds));
    return list;
  }

  /** The lines of Python that run the cell again, and its JSON. */
  again() {
    const json = this.sweep.recipes[this.index];
    if (!json) return [];
    // a JSON string is a Python string too
    const experiment = `experiment = vd.Experiment.from_json(${JSON.stringify(json)})`;
    const python = `import vitdyn as vd\n\n${experiment}\ntrajectory = vd.run(experiment)\n`;
    // as it is: JavaScript would write 2.0 as 2, and the key would be another one
    const held = made("pre", { tabindex: "0", "aria-label": "JSON of the experiment" }, json);
    const copy = (words, text) => {
      const button = made("button", { type: "button" }, words);
      button.addEventListener("click", () => copied(button, text, held));
      return button;
    };
    return [
      made("div", { class: "buttons" }, copy("Copy Python to run it", python), copy("Copy JSON", json)),
      made("details", {}, made("summary", {}, "The experiment"), held),
    ];
  }

  pictures() {
    const curves = this.sweep.curves[this.index];
    if (!curves) {
      const isDone = this.sweep.status[this.index] === "done";
      const leftOut = "The trajectories of this cell were left out, to keep the page small.";
      return [made("p", { class: "quiet" }, isDone ? leftOut : "There is no trajectory.")];
    }
    const rank = (name) => (FIRST_PANELS.includes(name) ? FIRST_PANELS.indexOf(name) : FIRST_PANELS.length);
    const names = Object.keys(curves.panels).sort((one, other) => rank(one) - rank(other));
    const figures = names.map((name) => this.figure(name));
    this.series = [...new Set(names.flatMap((name) => curves.panels[name].series))].filter((name) => name);
    const more = figures.slice(FIRST_PANELS.length);
    const summary = made("summary", {}, `More variables (${more.length})`);
    const rest = made("details", { id: "more-panels" }, summary, made("div", { class: "charts" }, ...more));
    rest.addEventListener("toggle", () => this.drawAll());
    const bands = curves.seeds > 1 ? `Lines are medians of ${curves.seeds} seeds, bands their extremes.` : "One seed.";
    return [this.choices(curves), this.legend(), made("p", { class: "quiet" }, bands),
      made("div", { class: "charts" }, ...figures.slice(0, FIRST_PANELS.length)), ...(more.length ? [rest] : [])];
  }

  /** What runs along the pictures: steps or time, evenly or by its logarithm. */
  choices(curves) {
    const clock = this.sweep.clocks[curves.clock];
    this.clock ??= clock.of;
    const first = clock[this.clock].find((value) => value > 0);
    this.isLog ??= clock[this.clock].at(-1) / first > 200;
    const toggle = (words, value, isOn, set) => made("button", {
      type: "button", "aria-pressed": String(isOn), "data-clock": value,
      onclick: () => { set(); this.show(this.index); this.box.querySelector(`[data-clock="${value}"]`).focus(); },
    }, words);
    return made("div", { class: "buttons" },
      toggle("steps", "step", this.clock === "step", () => { this.clock = "step"; }),
      toggle("time", "time", this.clock === "time", () => { this.clock = "time"; }),
      toggle("logarithmic", "log", this.isLog, () => { this.isLog = !this.isLog; }));
  }

  look(name) {
    if (!name) return { tint: colour("link"), dash: "solid" };
    if (name === "global") return { tint: colour("ink"), dash: "solid" };
    const place = this.series.filter((each) => each !== "global").indexOf(name);
    const names = Object.keys(DASHES);
    // the second time through, each colour has another dash
    const dash = names[(place + Math.floor(place / names.length)) % names.length];
    return { tint: TINTS[place % TINTS.length], dash };
  }

  legend() {
    const entry = (name) => {
      const { tint, dash } = this.look(name);
      const stroke = { stroke: tint, "stroke-width": 2.5, "stroke-dasharray": DASHES[dash] };
      const line = svg("line", { x1: 0, y1: 4, x2: 28, y2: 4, ...stroke });
      return made("span", {}, svg("svg", { width: 28, height: 8 }, line), name);
    };
    return made("div", { class: "legend", "aria-label": "Areas of the queries" }, ...this.series.map(entry));
  }

  figure(name) {
    const { title, symbol, meaning } = this.sweep.panels[name];
    const picture = made("div", { class: "picture", role: "img", "data-panel": name });
    const table = made("details", {}, made("summary", {}, "Table"));
    return made("figure", {}, made("p", { class: "chart-title" }, title), picture,
      made("figcaption", {}, [symbol, meaning].filter(Boolean).join(": ")), table);
  }

  /** Draw the pictures that are open and not drawn yet. */
  drawAll() {
    for (const picture of this.box.querySelectorAll(".picture")) {
      const isHidden = picture.closest("details:not([open])") !== null;
      if (!isHidden && !picture.dataset.drawn) this.draw(picture, picture.dataset.panel);
    }
  }

  draw(picture, name) {
    const curves = this.sweep.curves[this.index];
    const { series, values } = curves.panels[name];
    const { title } = this.sweep.panels[name];
    const x = this.sweep.clocks[curves.clock][this.clock];
    const traces = series.flatMap((each, place) => this.traces(x, each, values.map((part) => part[place])));
    const xaxis = { title: { text: `${this.clock}${this.clock === "step" ? "s" : ""}`, standoff: 4 }, nticks: 6 };
    Plotly.newPlot(picture, traces, layout({
      height: 230, xaxis: { ...xaxis, type: this.isLog ? "log" : "linear" }, yaxis: { nticks: 6, ...shares(name) },
    }), CONFIG);
    picture.dataset.drawn = "yes";
    const ends = (place) => `from ${shown(values[0][place][0])} to ${shown(values[0][place].at(-1))}`;
    const told = series.map((each, place) => `${each ? `${each} ` : ""}${ends(place)}`);
    picture.setAttribute("aria-label", `${title} by ${this.clock}: ${told.join("; ")}`);
    const header = [this.clock, ...series.map((each) => each || title)];
    const row = (at) => series.map((_, place) => extremes(values.map((part) => part[place][at])));
    const rows = () => x.map((value, at) => [shown(value), ...row(at)]);
    tableWhenOpened(picture.closest("figure").querySelector("details"), title, header, rows);
  }

  /** The curves of one series: median, least and greatest of the seeds. */
  traces(x, name, [median, least, greatest]) {
    const { tint, dash } = this.look(name);
    const { low, high, main } = band(x, median, least, greatest, tint, dash);
    const text = x.map((_, at) => extremes([median[at], least[at], greatest[at]]));
    return [low, high, { ...main, text, hovertemplate: `${label(name)} %{text}<br>${this.clock} %{x}<extra></extra>` }];
  }
}

const extremes = ([median, low, high]) =>
  (low === high ? shown(median) : `${shown(median)} [${shown(low)}, ${shown(high)}]`);

/** Attention is a share: on one scale cells can be compared by eye. */
const shares = (name) => (/attention/.test(name) ? { range: [-0.02, 1.02] } : {});

/** Copy a text, and say so on the button; where the browser forbids it, select what can be copied by hand. */
async function copied(button, text, held) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    held.parentElement.open = true;
    getSelection().selectAllChildren(held);
    button.textContent = "Selected below: copy it by hand";
  }
  setTimeout(() => { button.textContent = before; }, 2000);
}
