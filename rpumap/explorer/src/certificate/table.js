// The results as text: how large each box is, and whether the label is certain in it.

import { digits, element } from "../ui/dom.js";
import { KEY } from "./draw.js";
import { compare } from "./geometry.js";
import { times } from "./text.js";
import { setText } from "./update.js";

const ROWS = ["crown", "crown_ibp", "ibp", "attacks", "copies"];
const HEAD = ["Method", "Width", "Height", "Share of the map", "Label"];
const UNKNOWN = "…";

export class ResultTable {
  constructor() {
    this.caption = element("caption");
    this.cells = {};
    const rows = ROWS.map((name) => {
      this.cells[name] = HEAD.slice(1).map(() => element("td", { text: UNKNOWN }));
      const head = element("th", { scope: "row", text: KEY[name] });
      return element("tr", {}, head, ...this.cells[name]);
    });
    const head = element("tr", {}, ...HEAD.map((text) => element("th", { scope: "col", text })));
    const parts = [this.caption, element("thead", {}, head), element("tbody", {}, ...rows)];
    this.element = element("table", { class: "rpumap-certificate-table" }, ...parts);
  }

  /**
   * @param {Object<string, ArrayLike<number>>} boxes by name of the row, as far as they are known
   * @param {Object<string, string>} labels what is said of the label, likewise
   * @param {ArrayLike<number>} range of the map
   */
  show(boxes, labels, range) {
    const [width, height] = sizesOf(range);
    setText(this.caption, `The map is ${width} wide and ${height} high, in its own units.`);
    for (const name of ROWS) {
      const box = boxes[name];
      const share = box ? times(compare(box, range).covered) : UNKNOWN;
      const texts = [...(box ? sizesOf(box) : [UNKNOWN, UNKNOWN]), share, labels[name] ?? UNKNOWN];
      texts.forEach((text, i) => setText(this.cells[name][i], text));
    }
  }
}

function sizesOf([left, bottom, right, top]) {
  return [digits(right - left), digits(top - bottom)];
}
