"use strict";
/* What the page holds, unpacked, and how it is written in words. Names and errors of a sweep are data: they reach the
   page as text nodes, or escaped where plotly would read them as markup. */

const byId = (id) => document.getElementById(id);

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** Make an element with attributes and children; strings become text, never HTML. */
function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A number as a reader wants it: four digits, or fewer, and a true minus. */
function shown(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value !== "number") return String(value);
  const rounded = Number(value.toPrecision(digits));
  const isFar = rounded !== 0 && (Math.abs(rounded) < 1e-3 || Math.abs(rounded) >= 1e6);
  return (isFar ? rounded.toExponential().replace("e+", "e") : String(rounded)).replaceAll("-", "−");
}

/** Text for plotly, which reads some HTML in its labels; long words are set in lines. */
function label(text, width = 26) {
  const escaped = (part) => part.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const lines = [];
  for (let rest = String(text); rest; rest = rest.slice(width)) lines.push(escaped(rest.slice(0, width)));
  return lines.join("<br>");
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
/** Make an element of SVG with attributes and children. */
function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const isNumber = (value) => typeof value === "number";
const range = (count) => Array.from({ length: count }, (_, place) => place);

const MOVING = ", still moving";

/** The sweep: cells in C order over axes; `at` is a place on each axis. */
class Sweep {
  constructor(about, cells) {
    Object.assign(this, about, cells);
    this.sizes = this.axes.map((axis) => axis.labels.length);
  }

  index(at) {
    return at.reduce((sum, place, axis) => sum * this.sizes[axis] + place, 0);
  }

  at(index) {
    const places = [];
    for (const size of [...this.sizes].reverse()) {
      places.unshift(index % size);
      index = Math.floor(index / size);
    }
    return places;
  }

  isNumeric(axis) {
    return this.axes[axis].labels.every(isNumber);
  }

  /** Places on an axis in the order in which they are drawn: numbers by size, words as they come. */
  order(axis) {
    const { labels } = this.axes[axis];
    const places = range(labels.length);
    return this.isNumeric(axis) ? places.sort((one, other) => labels[one] - labels[other]) : places;
  }

  label(axis, place) {
    return shown(this.axes[axis].labels[place]);
  }

  where(index) {
    return this.at(index).map((place, axis) => `${this.axes[axis].name} = ${this.label(axis, place)}`).join(", ");
  }

  /** The regimes of a cell's seeds in their order: each with how many seeds have it, and whether one still moves. */
  regimesOf(index) {
    const counts = index === null ? {} : this.regimes[index] ?? {};
    return this.kinds.map((kind) => {
      const [settled, moving] = [counts[kind.name] ?? 0, counts[kind.name + MOVING] ?? 0];
      return { kind, count: settled + moving, letter: kind.name[0].toUpperCase() + (moving ? "…" : "") };
    }).filter((each) => each.count);
  }

  /** What a quantity is in a cell, in words: the number with the extremes of its seeds, or each regime's seeds. */
  told(index, quantity) {
    const status = this.status[index];
    if (status !== "done") return this.errors[index] ? `${status}: ${this.errors[index]}` : status;
    if (quantity === "regime") {
      const counts = Object.entries(this.regimes[index] ?? {});
      if (counts.length === 1) return counts[0][0];
      return counts.length ? counts.map(([name, count]) => `${name}: ${count}`).join("; ") : "no attention by area";
    }
    const { mean, low, high } = this.quantities[quantity];
    const spread = low[index] === high[index] ? "" : `  [${shown(low[index])}, ${shown(high[index])}]`;
    return shown(mean[index]) + spread;
  }

  title(quantity) {
    return quantity === "regime" ? "learned regime" : this.quantities[quantity].title;
  }

  counts() {
    const found = new Map();
    for (const each of this.status) found.set(each, (found.get(each) ?? 0) + 1);
    const parts = [...found].map(([status, count]) => `${count} ${status}`);
    return `${this.status.length} cells over ${this.axes.map((axis) => axis.name).join(", ")}: ${parts.join(", ")}`;
  }
}

/** A table of plain cells; it is made when its <details> is first opened, for few readers ask for it. */
function tableWhenOpened(details, caption, header, rows) {
  const summary = details.querySelector("summary");
  details.replaceChildren(summary);
  const fill = () => {
    if (!details.open || details.querySelector("table")) return;
    const cell = (tag, words) => made(tag, tag === "th" ? { scope: "col" } : {}, words);
    const line = (tag, cells) => made("tr", {}, ...cells.map((words) => cell(tag, words)));
    const table = made("table", {}, made("caption", { class: "quiet" }, caption),
      made("thead", {}, line("th", header)), made("tbody", {}, ...rows().map((cells) => line("td", cells))));
    details.append(made("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, table));
  };
  details.ontoggle = fill;
  fill();
}
