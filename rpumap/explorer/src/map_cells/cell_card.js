/* What is said of one cell, in words. */

import { verdictName } from "../core/cell_mapper.js";
import { digits, element, percent } from "../ui/dom.js";
import { Facts } from "./panel.js";

const PAUSE = 500; // milliseconds after which what a key chose is read aloud

const HINT = "Point at a cell, tap it, or walk through all with the arrow keys.";

/** Name, label and certified box of the cell that is pointed at. */
export class CellCard {
  constructor() {
    this.hint = element("p", { text: HINT });
    this.facts = new Facts();
    this.spoken = element("p", { class: "rpumap-unseen", role: "status" });
    this.box = element("div", { class: "rpumap-cell" }, this.hint, this.facts.box, this.spoken);
  }

  /**
   * No cell is pointed at.
   * @param {boolean} hasCells whether there are any
   */
  clear(hasCells) {
    clearTimeout(this.timer);
    this.facts.show([]);
    this.spoken.textContent = "";
    this.hint.hidden = false;
    this.box.hidden = !hasCells;
  }

  /**
   * @param {import("./session.js").Result} result
   * @param {number} cell
   * @param {{lower: ArrayLike<number>, upper: ArrayLike<number>}|null} box null: not known yet
   */
  show(result, cell, box) {
    this.rows = rowsOf(result, cell, box);
    this.facts.show(this.rows);
    this.hint.hidden = true;
  }

  /** Have what is shown read aloud, unless another cell comes soon. */
  speak() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const parts = this.rows.map(([name, text]) => `${name}: ${text}`);
      this.spoken.textContent = parts.join("; ");
    }, PAUSE);
  }
}

function rowsOf(result, cell, box) {
  const { labels, label, mapLabel, confidence, novelty, verdict } = result;
  const onMap = labels[mapLabel[cell]];
  const isSame = mapLabel[cell] === label[cell];
  return [
    ["Cell", result.cellNames[cell]],
    ["Label", `${labels[label[cell]]}${isSame ? "" : `; on the map: ${onMap}`}`],
    ["Confidence", `${percent(confidence[cell])} of the votes`],
    ["Novelty", `${digits(novelty[cell])} (${novelty[cell] > 1 ? "above" : "at most"} 1)`],
    ["Verdict", verdictName(verdict[cell], labels)],
    ["Certified box", boxInWords(box)],
  ];
}

function boxInWords(box) {
  if (!box) return "…";
  const [x, y] = [0, 1].map((axis) => {
    const ends = `${box.lower[axis].toFixed(2)} to ${box.upper[axis].toFixed(2)}`;
    return `${"xy"[axis]} ${ends}`.replaceAll(" ", "\u00A0"); // stays on one line
  });
  return `${x}, ${y} (CROWN)`;
}
