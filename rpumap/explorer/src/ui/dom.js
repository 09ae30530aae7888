/* Small helpers to build pages: elements, legends and numbers as text. */

import { styleOf, traceMark } from "./colors.js";

/**
 * Make an element. Text is set as text, never as HTML.
 * @param {string} tag
 * @param {Object<string, any>} attributes `on` is a table of listeners, `text` the content; others
 *   are attributes, left out where they are false or undefined
 * @param {...(Node|string)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (name === "text") {
      made.textContent = value;
    } else if (value !== undefined && value !== false) {
      made.setAttribute(name, value === true ? "" : value);
    }
  }
  made.append(...children);
  return made;
}

/**
 * A number as text, with three significant digits.
 * @param {number} value
 * @returns {string}
 */
export function digits(value) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "–";
  return String(Number(value.toPrecision(3)));
}

/**
 * A share as text.
 * @param {number} share from 0 to 1
 * @returns {string}
 */
export function percent(share) {
  return `${Math.round(100 * share)}\u00a0%`;
}

/**
 * The legend of cell types, a list.
 * @param {string[]} labels
 * @param {number[]} [shown] places of the labels that are listed; all by default
 * @returns {HTMLUListElement}
 */
export function legend(labels, shown = [...labels.keys()]) {
  const items = shown.map((code) => {
    const swatch = element("canvas", { width: 28, height: 28, "aria-hidden": "true" });
    const pen = swatch.getContext("2d");
    const { color, mark } = styleOf(code);
    traceMark(pen, mark, 14, 14, 10);
    pen.fillStyle = color;
    pen.fill();
    return element("li", {}, swatch, labels[code]);
  });
  return element("ul", { class: "rpumap-legend" }, ...items);
}
