// The key of the map: what its lines and marks are, and how large at the moment.

import { element } from "../ui/dom.js";
import { drawSample, KEY } from "./draw.js";
import { compare } from "./geometry.js";
import { setText } from "./update.js";

const [WIDTH, HEIGHT] = [34, 20]; // pixels of a sample
const SIZES = "Sizes: width × height, in percent of the map.";

export class Key {
  constructor() {
    this.sizes = {};
    const items = Object.entries(KEY).map(([name, text]) => {
      this.sizes[name] = element("span", { class: "rpumap-certificate-size" });
      return element("li", {}, sampleOf(name), element("span", {}, `${text} `, this.sizes[name]));
    });
    const list = element("ul", { class: "rpumap-certificate-key" }, ...items);
    this.element = element("div", {}, list, element("p", { class: "rpumap-note", text: SIZES }));
  }

  /**
   * @param {Object<string, ArrayLike<number>>} boxes by name, those around clouds as well
   * @param {ArrayLike<number>} range of the map
   */
  show(boxes, range) {
    for (const [name, box] of Object.entries(boxes)) {
      const { width, height } = compare(box, range);
      setText(this.sizes[name], `${rounded(width)} × ${rounded(height)} %`);
    }
  }
}

function sampleOf(name) {
  const attributes = { width: 2 * WIDTH, height: 2 * HEIGHT, "aria-hidden": "true" };
  const canvas = element("canvas", attributes);
  const pen = canvas.getContext("2d");
  pen.scale(2, 2);
  drawSample(pen, name, WIDTH, HEIGHT);
  return canvas;
}

/** In percent, with a digit after the point below ten. */
function rounded(ratio) {
  return ratio < 0.0995 ? (100 * ratio).toFixed(1) : String(Math.round(100 * ratio));
}
