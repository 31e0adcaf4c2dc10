/* The page: what is chosen, the controls that choose it, and the address that keeps it. */

class Page {
  constructor(sweep) {
    this.sweep = sweep;
    this.cell = new CellView(sweep);
    this.diagram = new Diagram(sweep, (index, takesFocus) => this.openCell(index, takesFocus));
    this.verdicts = new VerdictView(sweep);
    this.state = this.restored(this.atStart());
    this.cell.onClose = () => { this.keep(); this.diagram.box.focus(); };
    this.writeHead();
    this.listen();
    this.cell.show(this.state.cell ?? null);
    this.choose({});
  }

  /** Numbers with many values lie across, what has many values next to them upwards. */
  atStart() {
    const { axes, families } = this.sweep;
    const places = range(axes.length).sort((one, other) => this.sweep.sizes[other] - this.sweep.sizes[one]);
    const x = places.find((axis) => this.sweep.isNumeric(axis) && this.sweep.sizes[axis] > 1) ?? places[0];
    const y = places.find((axis) => axis !== x && this.sweep.sizes[axis] > 1) ?? null;
    const knows = this.sweep.regimes.some((each) => each !== null);
    const quantity = knows ? "regime" : Object.keys(this.sweep.quantities)[0] ?? "regime";
    const view = axes.length > 1 && families && axes.length === 2 && families.axis === y ? "families" : "diagram";
    return { view, x, y, quantity, at: axes.map(() => 0), cell: null };
  }

  /** What the address says, where it says something that there is. */
  restored(start) {
    try {
      const held = JSON.parse(decodeURIComponent(location.hash.slice(1)));
      return this.isSound(held) ? held : start;
    } catch {
      return start;
    }
  }

  isSound({ view, x, y, quantity, at, cell }) {
    const { axes, quantities, status } = this.sweep;
    const isIn = (place, list) => Number.isInteger(place) && place in list;
    return this.views().includes(view) && isIn(x, axes) && x !== y && (y === null || isIn(y, axes))
      && (quantity === "regime" || Object.hasOwn(quantities, quantity)) && (cell === null || isIn(cell, status))
      && at.length === axes.length && axes.every((axis, number) => isIn(at[number], axis.labels));
  }

  keep() {
    this.state.cell = this.cell.index;
    history.replaceState(null, "", `#${encodeURIComponent(JSON.stringify(this.state))}`);
  }

  views() {
    const { axes, families, verdicts } = this.sweep;
    return ["diagram", ...(families && axes.length > 1 ? ["families"] : []), ...(verdicts.length ? ["verdicts"] : [])];
  }

  writeHead() {
    byId("name").textContent = this.sweep.name;
    byId("counts").textContent = this.sweep.counts();
    byId("left-out").hidden = !this.sweep.left_out.length;
    byId("left-out").textContent = `To keep the page small ${this.sweep.left_out.join("; ")}.`;
    for (const button of byId("views").children) button.hidden = !this.views().includes(button.dataset.view);
    byId("views").hidden = this.views().length === 1;
  }

  listen() {
    for (const button of byId("views").children) {
      button.addEventListener("click", () => this.choose({ view: button.dataset.view }));
    }
    byId("save-picture").addEventListener("click", () => {
      const { box } = this.diagram;
      Plotly.downloadImage(box, { format: "svg", filename: this.sweep.name, width: 900, height: box.clientHeight });
    });
    byId("theme").addEventListener("click", () => this.theme(this.isDark() ? "light" : "dark"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.cell.index !== null) this.cell.close();
    });
    let width = innerWidth;
    addEventListener("resize", () => {
      // a phone's bars change its height alone, as one scrolls
      if (innerWidth !== width) this.redraw();
      width = innerWidth;
    });
    this.nameTheme();
  }

  isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  theme(name) {
    document.documentElement.dataset.theme = name;
    this.redraw();
  }

  nameTheme() {
    byId("theme").textContent = this.isDark() ? "Light" : "Dark";
    byId("theme").setAttribute("aria-label", this.isDark() ? "Change to light colours" : "Change to dark colours");
  }

  /** Draw all pictures again: in other colours, or at another width. */
  redraw() {
    this.nameTheme();
    if (this.state.view !== "verdicts") this.diagram.draw(this.state);
    this.cell.show(this.cell.index);
  }

  openCell(index, takesFocus = false) {
    this.cell.show(index);
    this.keep();
    const isBelow = matchMedia("(max-width: 62rem)").matches;
    if (takesFocus || isBelow) this.cell.box.querySelector("h2").focus({ preventScroll: true });
    if (isBelow) this.cell.box.scrollIntoView({ block: "start" });
  }

  /** Take a choice over: two axes never show the same, and families run upwards. */
  choose(changes) {
    const before = this.state;
    const state = { ...before, ...changes };
    if (state.view === "families") state.y = this.sweep.families.axis;
    if (state.x === state.y) {
      // the two change places, where they can
      if ("x" in changes && state.view !== "families") state.y = before.x;
      else state.x = before.y !== null && before.y !== state.y ? before.y : this.otherThan(state.y);
    }
    this.state = state;
    for (const button of byId("views").children) {
      button.setAttribute("aria-current", String(button.dataset.view === state.view));
    }
    byId("sweep").hidden = state.view === "verdicts";
    byId("verdicts").hidden = state.view !== "verdicts";
    if (state.view !== "verdicts") {
      this.writeControls();
      this.diagram.draw(state);
    }
    this.keep();
  }

  otherThan(axis) {
    const others = range(this.sweep.axes.length).filter((each) => each !== axis);
    return others.find((each) => this.sweep.sizes[each] > 1) ?? others[0];
  }

  writeControls() {
    const { sweep, state } = this;
    const focused = document.activeElement?.id;
    const axes = sweep.axes.map((axis, number) => [number, axis.name]);
    const parts = [this.quantitySelect()];
    if (axes.length > 1) {
      const isFamilies = state.view === "families";
      const across = isFamilies ? axes.filter(([axis]) => axis !== sweep.families.axis) : axes;
      parts.push(select("choose-x", "across", across, state.x, (value) => this.choose({ x: Number(value) })));
      const upwards = [["none", "nothing: a curve"], ...axes];
      const set = (value) => this.choose({ y: value === "none" ? null : Number(value) });
      if (!isFamilies) parts.push(select("choose-y", "upwards", upwards, state.y ?? "none", set));
    }
    for (const [axis] of axes) {
      if (axis !== state.x && axis !== state.y && sweep.sizes[axis] > 1) parts.push(this.other(axis));
    }
    byId("controls").replaceChildren(...parts);
    byId("controls").onsubmit = (event) => event.preventDefault();
    if (focused && focused !== document.activeElement?.id) byId(focused)?.focus();
  }

  quantitySelect() {
    const entries = Object.entries(this.sweep.quantities).map(([name, quantity]) => [name, quantity.title]);
    const regime = this.sweep.regimes.some((each) => each !== null) ? [["regime", "learned regime"]] : [];
    const set = (quantity) => this.choose({ quantity });
    return select("choose-quantity", "drawn", [...regime, ...entries], this.state.quantity, set);
  }

  /** An axis that is not drawn: a slider for numbers, a list of words. */
  other(axis) {
    const { sweep, state } = this;
    const id = `choose-at-${axis}`;
    const set = (place) => this.choose({ at: this.state.at.with(axis, place) });
    const order = sweep.order(axis);
    const { name } = sweep.axes[axis];
    if (!sweep.isNumeric(axis)) {
      const entries = order.map((place) => [place, sweep.label(axis, place)]);
      return select(id, name, entries, state.at[axis], (value) => set(Number(value)));
    }
    const now = sweep.label(axis, state.at[axis]);
    const value = order.indexOf(state.at[axis]);
    const slider = made("input", { type: "range", id, min: 0, max: order.length - 1, step: 1, value, "aria-valuetext": now });
    const told = made("output", { for: id }, now);
    // the slider itself stays: a new one would be dropped by the hand that drags it
    slider.addEventListener("input", () => {
      const place = order[Number(slider.value)];
      told.textContent = sweep.label(axis, place);
      slider.setAttribute("aria-valuetext", told.textContent);
      this.state = { ...this.state, at: this.state.at.with(axis, place) };
      this.diagram.draw(this.state);
      this.keep();
    });
    return made("label", { for: id }, made("span", {}, `${name} = `, told), slider);
  }
}

function select(id, words, entries, chosen, set) {
  const list = made("select", { id }, ...entries.map(([value, text]) => made("option", { value }, text)));
  list.value = String(chosen);
  list.addEventListener("change", () => set(list.value));
  return made("label", { for: id }, words, list);
}

Promise.all([unpacked("about"), unpacked("cells")]).then(([about, cells]) => {
  window.explorer = new Page(new Sweep(about, cells));
}).catch((error) => {
  byId("broken").hidden = false;
  byId("broken").textContent = `This page could not be drawn (${error.message}): a browser of 2023 or later is needed.`;
  throw error;
});
