/* The map: reference cells, the mapped cells above them, and the one that is pointed at. */

import { element, legend } from "../ui/dom.js";
import { Scatter } from "../ui/scatter.js";
import { CellCard } from "./cell_card.js";
import { drawCells, drawSelected } from "./cell_layer.js";
import { Panel } from "./panel.js";
import { countCells } from "./summary.js";

const REACH = 24; // pixels from a cell within which it is meant
// by how many cells keys go on
const STEPS = {
  ArrowRight: 1,
  ArrowDown: 1,
  ArrowLeft: -1,
  ArrowUp: -1,
  PageDown: 50,
  PageUp: -50,
};
const ALONE = "Cells of the reference.";
const MAPPED =
  "Faint: cells of the reference. Filled: your cells, in the colour of their label. Open: your " +
  "cells that are not in the reference.";

/** A map on which a cell can be pointed at, with the keyboard too. */
export class MapView extends Panel {
  /**
   * @param {function(number)} onSelect is told of the cell
   */
  constructor(onSelect) {
    super("map-panel", "Map");
    this.onSelect = onSelect;
    this.reference = this.result = this.picture = this.certified = null;
    this.cell = -1;
    this.card = new CellCard();
    const column = element("div", { class: "rpumap-map-column" });
    this.scatter = new Scatter(column, { label: "Map", draw: (pen) => this.draw(pen) });
    this.box.append(element("div", { class: "rpumap-map-and-cell" }, column, this.card.box));
    this.explanation = element("p", { class: "rpumap-note" });
    this.legend = element("div");
    this.box.append(this.legend, this.explanation);
    this.box.hidden = true;
    this.listen(this.scatter.above);
  }

  listen(canvas) {
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse") this.point(event);
    });
    canvas.addEventListener("click", (event) => this.point(event));
    canvas.addEventListener("focus", () => {
      if (this.result && this.cell < 0) this.select(0, true);
    });
    canvas.addEventListener("keydown", (event) => this.walk(event));
  }

  point(event) {
    if (!this.result) return;
    const cell = this.scatter.nearest(event, this.result.coordinates, REACH);
    if (cell >= 0) this.select(cell, false);
  }

  walk(event) {
    const { key } = event;
    if (!this.result || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.result.n - 1;
    if (key in STEPS) this.select(Math.min(last, Math.max(0, this.cell + STEPS[key])), true);
    else if (key === "Home") this.select(0, true);
    else if (key === "End") this.select(last, true);
    else return;
    event.preventDefault();
  }

  select(cell, isByKey) {
    if (cell === this.cell) return;
    this.cell = cell;
    this.certified = null;
    this.isByKey = isByKey;
    this.showCell();
    this.onSelect(cell);
  }

  showCell() {
    this.scatter.request();
    this.card.show(this.result, this.cell, this.certified);
    if (this.isByKey) this.card.speak();
  }

  /**
   * @param {import("./session.js").ReferenceView & {name: string}} reference
   */
  showReference(reference) {
    this.reference = reference;
    this.showResult(null);
    this.box.hidden = false;
  }

  /**
   * @param {import("./session.js").Result|null} result null: the reference alone
   */
  showResult(result) {
    if (!this.reference) return;
    const { name, coordinates, codes, labels } = this.reference;
    this.result = result;
    this.picture = this.certified = null;
    this.cell = -1;
    const canvas = this.scatter.above;
    if (result) {
      // screen readers pass arrow keys to an application only
      canvas.setAttribute("role", "application");
      canvas.setAttribute("aria-label", `Map of ${result.n} cells on the reference ${name}`);
    } else {
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Map of the reference ${name}`);
    }
    this.card.clear(result !== null);
    const extent = result?.coordinates ?? [];
    this.scatter.setPoints(coordinates, codes, { faint: Boolean(result), extent });
    const shown = result ? countCells(result).byLabel.map(({ code }) => code) : undefined;
    this.legend.replaceChildren(legend(labels, shown));
    this.explanation.textContent = result ? MAPPED : ALONE;
  }

  /**
   * @param {{lower: ArrayLike<number>, upper: ArrayLike<number>}} box of the cell pointed at
   */
  showBox(box) {
    this.certified = box;
    this.showCell();
  }

  draw(pen) {
    const { scatter, result } = this;
    if (!result) return;
    const { width, height } = scatter.above;
    if (this.picture?.width !== width || this.picture?.height !== height) {
      this.picture = drawCells(scatter, result);
    }
    pen.drawImage(this.picture, 0, 0, scatter.width, scatter.height);
    if (this.cell >= 0) drawSelected(pen, scatter, result, this.cell, this.certified);
  }
}
