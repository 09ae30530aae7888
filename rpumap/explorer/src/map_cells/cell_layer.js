/* Cells as a picture, drawn once: the map shows it again whenever something moves above it. */

import { INK, styleOf, traceMark } from "../ui/colors.js";
import { element } from "../ui/dom.js";

// Of more cells each is a small square, which canvases draw fastest.
const MOST_MARKS = 30_000;

/**
 * Draw cells: filled marks in the colours of their labels, open ones where they do not belong.
 * @param {import("../ui/scatter.js").Scatter} scatter whose scale is taken
 * @param {import("./session.js").Result} result
 * @returns {HTMLCanvasElement}
 */
export function drawCells(scatter, result) {
  const { width, height } = scatter.above; // in pixels of the screen
  const picture = element("canvas", { width, height });
  const pen = picture.getContext("2d");
  pen.scale(width / scatter.width, height / scatter.height);
  const { n, novelty } = result;
  const radius = radiusOf(n, scatter.width);
  for (const isNew of [false, true]) {
    for (let i = 0; i < n; i++) {
      if (novelty[i] > 1 === isNew) drawCell(pen, scatter, result, i, radius);
    }
  }
  return picture;
}

function drawCell(pen, scatter, { n, coordinates, label, novelty }, i, radius) {
  const [x, y] = scatter.toPixels(coordinates[2 * i], coordinates[2 * i + 1]);
  const { color, mark } = styleOf(label[i]);
  pen.fillStyle = novelty[i] > 1 ? "#FFFFFF" : color;
  pen.strokeStyle = novelty[i] > 1 ? color : "#FFFFFF";
  if (n > MOST_MARKS) {
    pen.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
    if (novelty[i] > 1) pen.strokeRect(x - radius, y - radius, 2 * radius, 2 * radius);
    return;
  }
  traceMark(pen, mark, x, y, radius);
  pen.fill();
  pen.lineWidth = novelty[i] > 1 ? 0.4 * radius : 0.15 * radius;
  pen.stroke();
}

/** Pixels: fewer for more cells, and on a smaller map. */
function radiusOf(n, width) {
  const onDesk = Math.min(4, Math.max(1, 4 * (500 / n) ** 0.2));
  return onDesk * Math.min(1, Math.max(0.6, width / 600));
}

/**
 * Draw the cell that is pointed at: a ring, and its box once it is known.
 * @param {CanvasRenderingContext2D} pen
 * @param {import("../ui/scatter.js").Scatter} scatter
 * @param {import("./session.js").Result} result
 * @param {number} cell
 * @param {{lower: ArrayLike<number>, upper: ArrayLike<number>}|null} box
 */
export function drawSelected(pen, scatter, { coordinates }, cell, box) {
  const [x, y] = scatter.toPixels(coordinates[2 * cell], coordinates[2 * cell + 1]);
  pen.strokeStyle = INK;
  pen.lineWidth = 2;
  if (box) {
    const [left, top] = scatter.toPixels(box.lower[0], box.upper[1]);
    const [right, bottom] = scatter.toPixels(box.upper[0], box.lower[1]);
    pen.fillStyle = "rgba(46, 46, 46, 0.12)";
    pen.fillRect(left, top, right - left, bottom - top);
    pen.strokeRect(left, top, right - left, bottom - top);
  }
  traceMark(pen, "circle", x, y, 7);
  pen.strokeStyle = "#FFFFFF";
  pen.lineWidth = 5;
  pen.stroke();
  pen.strokeStyle = INK;
  pen.lineWidth = 2;
  pen.stroke();
}
