/* Verdicts with their evidence: what a claim predicts against what was measured, each case and each control. */

const SVG = "http://www.w3.org/2000/svg";

class VerdictView {
  constructor(sweep) {
    this.sweep = sweep;
    this.box = byId("verdicts");
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
    const buttons = [...this.filters].map(([name, holds]) => made("button", {
      type: "button", "data-filter": name, "aria-pressed": String(name === this.chosen), onclick: () => this.filter(name),
    }, `${name} (${verdicts.filter(holds).length})`));
    this.search = made("input", { type: "search", placeholder: "claim or case", "aria-label": "Filter by words of claim or case" });
    this.search.addEventListener("input", () => this.fill());
    this.body = made("tbody");
    const header = ["claim", "case", "judged on", "predicted", "measured", "predicted and measured", "verdict", "remark"];
    const head = made("thead", {}, made("tr", {}, ...header.map((name) => made("th", { scope: "col" }, name))));
    this.count = made("p", { class: "quiet", role: "status" });
    const legend = "Shaded: the interval that the claim predicts; bar and mark: what was measured. A control must be refuted.";
    this.box.append(made("div", { class: "buttons", role: "group", "aria-label": "Filter by status" }, ...buttons, this.search),
      this.count, made("p", { class: "quiet" }, legend),
      made("div", { class: "wide" }, made("table", {}, head, this.body)), made("h2", {}, "The claims"), ...this.claims());
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
    const found = this.sweep.verdicts.filter(this.filters.get(this.chosen)).filter((each) => `${each.claim} ${each.case}`.toLowerCase().includes(words));
    this.body.replaceChildren(...found.map((each) => this.row(each)));
    this.count.textContent = `${found.length} of ${this.sweep.verdicts.length} verdicts`;
  }

  row(verdict) {
    const known = this.sweep.claims.some((claim) => claim.id === verdict.claim);
    const claim = known ? made("a", { href: `#claim-${verdict.claim}`, onclick: (event) => goTo(event, `claim-${verdict.claim}`) }, verdict.claim) : verdict.claim;
    const control = verdict.expected !== "REFUTED" ? "" : verdict.status === "REFUTED" ? "control: as it must be" : "control: MUST BE REFUTED";
    const { low, high } = verdict;
    const measured = `${shown(verdict.measured)}  [${shown(low)}, ${shown(high)}], ${verdict.interval_of}`;
    const cells = {
      claim, case: verdict.case, "judged on": verdict.basis, predicted: predicted(verdict), measured, picture: picture(verdict),
      verdict: made("span", { class: `status ${verdict.status}` }, verdict.status),
      remark: [control, verdict.reason].filter(Boolean).join("; "),
    };
    const line = made("tr", { "data-status": verdict.status });
    for (const [name, cell] of Object.entries(cells)) {
      if (cell === "") line.append(made("td"));
      else line.append(made("td", ["picture", "verdict"].includes(name) ? {} : { "data-name": name }, cell));
    }
    return line;
  }

  claims() {
    return this.sweep.claims.map((claim) => made("article", { class: "statement", id: `claim-${claim.id}`, tabindex: "-1" },
      made("h3", {}, claim.id), made("p", {}, claim.statement), made("p", { class: "quiet" }, `${claim.source}. Checked at: ${claim.check}`)));
  }
}

/* a link of its own, for the address after # holds what is shown */
function goTo(event, id) {
  event.preventDefault();
  byId(id).scrollIntoView();
  byId(id).focus();
}

function predicted({ symbol, predicted_low: low, predicted_high: high }) {
  if (low === null && high === null) return `${symbol}: no prediction`;
  if (low === null) return `${symbol} < ${shown(high)}`;
  return high === null ? `${symbol} > ${shown(low)}` : `${shown(low)} < ${symbol} < ${shown(high)}`;
}

/** Draw the predicted interval as a band, open to where it has no end, and the measured one as a bar with its mark. */
function picture(verdict) {
  const { predicted_low: from, predicted_high: to, measured, low, high } = verdict;
  const ends = [from, to, measured, low, high].filter((value) => value !== null);
  const drawn = document.createElementNS(SVG, "svg");
  const words = `predicted: ${predicted(verdict)}; measured ${shown(measured)}, from ${shown(low)} to ${shown(high)}`;
  for (const [name, value] of Object.entries({ viewBox: "0 0 192 28", role: "img", "aria-label": words })) drawn.setAttribute(name, value);
  if (!ends.length) return drawn;
  const least = Math.min(...ends), most = Math.max(...ends);
  const room = (most - least || Math.abs(most) || 1) * 0.12;
  const x = (value) => 2 + (188 * (value - least + room)) / (most - least + 2 * room);
  const put = (tag, attributes) => {
    const part = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
    drawn.append(part);
  };
  if (from !== null || to !== null) {
    const left = from === null ? 0 : x(from), right = to === null ? 192 : x(to);
    put("rect", { x: left, y: 3, width: Math.max(right - left, 1), height: 22, fill: "var(--quiet)", opacity: 0.28 });
  }
  const tint = `var(--${verdict.status})`;
  if (low !== null && high !== null) put("line", { x1: x(low), x2: Math.max(x(high), x(low) + 1), y1: 14, y2: 14, stroke: tint, "stroke-width": 4 });
  if (measured !== null) put("circle", { cx: x(measured), cy: 14, r: 5, fill: tint, stroke: "var(--paper)", "stroke-width": 1 });
  return drawn;
}
