// The elements of the certificate explorer: made once, and updated from the state.

import { element, legend } from "../ui/dom.js";
import { Scatter } from "../ui/scatter.js";
import { Controls } from "./controls.js";
import { Guide } from "./guide.js";
import { Key } from "./key.js";
import { ResultTable } from "./table.js";
import { setText } from "./update.js";

const NOTE =
  "Computed in this browser in double precision, not certified against rounding; " +
  "rpumap.certify is.";
const AROUND = 0.12; // of the map, at each side
const [FLATTEST, HIGHEST] = [0.7, 0.95]; // height of the picture over its width
let nViews = 0;

export class View {
  /**
   * Fill a mount.
   *
   * @param {HTMLElement} mount what is in it is replaced; with `data-inset` by fewer elements
   * @param {import("./data.js").Certificate} data
   * @param {object} on what is called: `click(event)` and `key(event)` on the map; `eps(number)`,
   *   `model(number)`, `norm(string)`, `step(number)` where one is chosen
   */
  constructor(mount, data, on) {
    const id = `rpumap-certificate-${nViews++}`;
    const isInset = mount.hasAttribute("data-inset");
    this.data = data;
    this.guide = new Guide(on.step);
    this.controls = new Controls(id, data, on, !isInset);
    this.key = new Key();
    this.table = new ResultTable();
    this.cell = element("p", { class: "rpumap-certificate-cell" });
    this.sentence = element("p", { class: "rpumap-certificate-sentence", "aria-live": "polite" });
    this.sentence.id = `${id}-sentence`;
    this.#fill(mount, isInset, on);
  }

  #fill(mount, isInset, on) {
    const { controls, data, guide, key, sentence, table } = this;
    const map = element("div", { class: "rpumap-certificate-map" });
    const side = [...controls.elements, this.cell, key.element];
    const beside = element("div", { class: "rpumap-certificate-controls" }, ...side);
    const parts = [guide.element, map, beside, legend(data.labels), sentence];
    if (!isInset) parts.push(table.element, noteOn(data));
    const grid = element("div", { class: "rpumap-certificate-grid" }, ...parts);
    mount.replaceChildren(element("div", { class: "rpumap-certificate" }, grid));
    this.scatter = this.#map(map, on);
  }

  #map(parent, on) {
    const { codes, models, nCells } = this.data;
    const range = rangeOfAll(models);
    const [width, height] = [range[2] - range[0], range[3] - range[1]];
    const label = `Map of ${nCells} cells. Arrow keys choose the next cell in their direction.`;
    const aspect = Math.min(Math.max(height / width, FLATTEST), HIGHEST);
    const scatter = new Scatter(parent, { label, aspect });
    // arrow keys are for the map, and not for moving on in the page
    scatter.above.setAttribute("role", "application");
    scatter.above.setAttribute("aria-describedby", this.sentence.id);
    scatter.above.addEventListener("click", on.click);
    scatter.above.addEventListener("keydown", on.key);
    const around = [-AROUND * width, -AROUND * height, AROUND * width, AROUND * height];
    const extent = range.map((end, i) => end + around[i]);
    scatter.setPoints(models[0].map, codes, { faint: true, extent });
    return scatter;
  }

  /**
   * @param {import("./state.js").State} state
   * @param {number} [label] of its place on the map, where it is known
   */
  showState(state, label) {
    this.controls.show(state);
    const { labels, codes } = this.data;
    const there = label === undefined ? "…" : labels[label];
    const text = `Cell ${state.cell}: ${labels[codes[state.cell]]}. Label on the map: ${there}.`;
    setText(this.cell, text);
  }

  /** @param {string} text read to those who do not see the map */
  showSentence(text) {
    setText(this.sentence, text);
  }
}

function noteOn({ nCells, source }) {
  const text = `${NOTE} Labels are those of the 15 nearest of the ${nCells} cells shown. `;
  return element("p", { class: "rpumap-note", text: `${text}Cells: ${source}.` });
}

function rangeOfAll(models) {
  const ends = [0, 1, 2, 3].map((i) => models.map(({ range }) => range[i]));
  return ends.map((values, i) => (i < 2 ? Math.min : Math.max)(...values));
}
