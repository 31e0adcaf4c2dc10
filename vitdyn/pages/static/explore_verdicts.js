/* Verdicts with their evidence: what a claim predicts against what was measured, each case and each control. */

class VerdictView {
  constructor(sweep) {
    this.sweep = sweep;
    this.box = byId("judged");
    this.chosen = "all";
    if (sweep.verdicts.length) this.make();
  }

  make() {
    const { verdicts } = this.sweep;
    const isControl = (each) => each.expected === "REFUTED";
    this.filters = new Map([
      ["all", () => true],
      ["SUPPORTED", (each) => each.status === "SUPPORTED"],
      ["REFUTED", (each) => each.status === "REFUTED"],
      ["INCONCLUSIVE", (each) => each.status === "INCONCLUSIVE"],
      ["cases", (each) => !isControl(each)],
      ["controls", isControl],
      ["not as expected", (each) => each.status !== each.expected],
    ]);
    const button = ([name, holds]) => {
      const look = { type: "button", "data-filter": name, "aria-pressed": String(name === this.chosen) };
      return made("button", { ...look, onclick: () => this.filter(name) }, `${name} (${verdicts.filter(holds).length})`);
    };
    const words = "Filter by words of claim or case";
    this.search = made("input", { type: "search", placeholder: "claim or case", "aria-label": words });
    this.search.addEventListener("input", () => this.fill());
    this.body = made("tbody");
    const header = ["claim", "case", "judged on", "predicted", "measured", "picture", "verdict", "remark"];
    const head = made("thead", {}, made("tr", {}, ...header.map((name) => made("th", { scope: "col" }, name))));
    this.count = made("p", { class: "quiet", role: "status" });
    const legend = "Shaded: the interval that the claim predicts; bar and mark: what was measured, with its interval. "
      + "A control must be refuted.";
    const group = { class: "buttons", role: "group", "aria-label": "Filter by status" };
    this.box.append(made("div", group, ...[...this.filters].map(button), this.search),
      this.count, made("p", { class: "quiet" }, legend),
      made("div", { class: "wide" }, made("table", {}, head, this.body)));
    this.fill();
  }

  filter(name) {
    this.chosen = name;
    for (const button of this.box.querySelectorAll("[data-filter]")) {
      button.setAttribute("aria-pressed", String(button.dataset.filter === name));
    }
    this.fill();
  }

  fill() {
    const words = this.search.value.toLowerCase();
    const hasWords = (each) => `${each.claim} ${each.case}`.toLowerCase().includes(words);
    const found = this.sweep.verdicts.filter(this.filters.get(this.chosen)).filter(hasWords);
    this.body.replaceChildren(...found.map((each) => this.row(each)));
    this.count.textContent = `${found.length} of ${this.sweep.verdicts.length} verdicts`;
  }

  row(verdict) {
    const { low, high, status } = verdict;
    const isControl = verdict.expected === "REFUTED";
    const control = status === "REFUTED" ? "control: as it must be" : "control: MUST BE REFUTED";
    const measured = `${shown(verdict.measured)}  [${shown(low)}, ${shown(high)}]`;
    const cells = {
      claim: link(verdict.claim), case: verdict.case, "judged on": verdict.basis, predicted: predicted(verdict),
      measured: [measured, verdict.interval_of].filter(Boolean).join(", "), picture: picture(verdict),
      verdict: made("span", { class: `status ${status}` }, status),
      remark: [isControl ? control : "", verdict.reason].filter(Boolean).join("; "),
    };
    const line = made("tr", { "data-status": verdict.status });
    for (const [name, cell] of Object.entries(cells)) {
      if (cell === "") line.append(made("td"));
      else line.append(made("td", ["picture", "verdict"].includes(name) ? {} : { "data-name": name }, cell));
    }
    return line;
  }
}

/** The claim's id, which leads to its statement where the page has that. */
const link = (id) => (byId(id)?.matches(".statement") ? made("a", { href: `#${id}` }, id) : id);

function predicted({ symbol, predicted_low: low, predicted_high: high }) {
  if (low === null && high === null) return `${symbol}: no prediction`;
  if (low === null) return `${symbol} < ${shown(high)}`;
  return high === null ? `${symbol} > ${shown(low)}` : `${shown(low)} < ${symbol} < ${shown(high)}`;
}

/** Draw the predicted interval as a band, open to where it has no end, and the measured one as a bar with its mark. */
function picture(verdict) {
  const { predicted_low: from, predicted_high: to, measured, low, high, status } = verdict;
  const words = `predicted: ${predicted(verdict)}; measured ${shown(measured)}, from ${shown(low)} to ${shown(high)}`;
  const drawn = svg("svg", { viewBox: "0 0 192 28", role: "img", "aria-label": words });
  const ends = [from, to, measured, low, high].filter((value) => value !== null);
  if (!ends.length) return drawn;
  const [least, most] = [Math.min(...ends), Math.max(...ends)];
  const room = (most - least || Math.abs(most) || 1) * 0.12;
  const x = (value) => 2 + (188 * (value - least + room)) / (most - least + 2 * room);
  const tint = `var(--${status})`;
  drawn.append(svg("line", { x1: 0, x2: 192, y1: 25.5, y2: 25.5, stroke: "var(--quiet)" }));
  if (from !== null || to !== null) {
    const [left, right] = [from === null ? 0 : x(from), to === null ? 192 : x(to)];
    const width = Math.max(right - left, 1);
    drawn.append(svg("rect", { x: left, y: 3, width, height: 22, fill: "var(--quiet)", opacity: 0.28 }));
  }
  if (low !== null && high !== null) {
    const [left, right] = [x(low), Math.max(x(high), x(low) + 1)];
    drawn.append(svg("line", { x1: left, x2: right, y1: 14, y2: 14, stroke: tint, "stroke-width": 4 }));
  }
  if (measured !== null) drawn.append(svg("circle", { cx: x(measured), cy: 14, r: 5, fill: tint, stroke: "var(--paper)" }));
  return drawn;
}
