// Drawing on the map: boxes, polygon, copies, attacks and the cell. All is ink on white.

import { INK, styleOf, traceMark } from "../ui/colors.js";

const AREA = "#00508C";
const OLD = 0.35; // opacity of what belongs to an earlier eps
const CROSS = 3; // pixels from the middle of a cross
const DOT = 1.3;
const BEYOND = 20; // pixels by which what leaves the picture is cut
const LINES = {
  ibp: { dash: [1, 5], width: 2.5 },
  crown_ibp: { dash: [8, 5], width: 2 },
  crown: { dash: [], width: 2.5 },
};

/** What the key lists, in the order of the drawing. */
export const KEY = {
  crown: "CROWN box",
  crown_ibp: "CROWN-IBP box",
  ibp: "IBP box",
  polygon: "CROWN polygon",
  copies: "200 noisy copies",
  attacks: "attacks",
};

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {import("../ui/scatter.js").Scatter} scatter
 * @param {object} shown coordinates on the map: arrays `place`, `copies`, `ibp` and `crown_ibp`;
 *   and, where they are known, `crown`, `polygon` and `attacks`
 * @param {{isOld: boolean, code: number}} options whether the last three belong to an earlier
 *   eps; type of the cell
 */
export function drawScene(pen, scatter, shown, { isOld, code }) {
  const at = (array, i) => scatter.toPixels(array[2 * i], array[2 * i + 1]);
  const placesOf = (array) => Array.from({ length: array.length / 2 }, (_, i) => at(array, i));
  const { width, height } = scatter;
  const corner = (box, i) => {
    const [x, y] = at(box, i);
    return [clamp(x, -BEYOND, width + BEYOND), clamp(y, -BEYOND, height + BEYOND)];
  };
  const box = (name) => drawBox(pen, corner(shown[name], 0), corner(shown[name], 1), name);
  const opacity = isOld ? OLD : 1;
  pen.globalAlpha = opacity;
  if (shown.polygon) drawPolygon(pen, placesOf(shown.polygon));
  pen.globalAlpha = 1;
  box("ibp");
  box("crown_ibp");
  drawCell(pen, at(shown.place, 0), code);
  drawDots(pen, placesOf(shown.copies));
  pen.globalAlpha = opacity;
  if (shown.attacks) drawCrosses(pen, placesOf(shown.attacks));
  if (shown.crown) box("crown"); // on top, since it may be as small as the cell
  pen.globalAlpha = 1;
}

/**
 * Draw a sample of what the key names.
 *
 * @param {CanvasRenderingContext2D} pen
 * @param {string} name one of KEY
 * @param {number} width pixels
 * @param {number} height pixels
 */
export function drawSample(pen, name, width, height) {
  const [left, right, middle] = [3, width - 3, height / 2];
  if (name in LINES) drawBox(pen, [left, height - 3], [right, 3], name);
  else if (name === "polygon") drawPolygon(pen, hexagon(width, height));
  else {
    const places = [0.2, 0.5, 0.8].map((share) => [share * width, middle]);
    (name === "copies" ? drawDots : drawCrosses)(pen, places);
  }
}

function hexagon(width, height) {
  const corners = [[0, 0.5], [0.25, 0.1], [0.75, 0.1], [1, 0.5], [0.75, 0.9], [0.25, 0.9]];
  return corners.map(([x, y]) => [3 + x * (width - 6), y * height]);
}

function drawBox(pen, [left, bottom], [right, top], method) {
  const { dash, width } = LINES[method];
  pen.beginPath();
  pen.rect(left, top, right - left, bottom - top);
  pen.setLineDash([]);
  stroke(pen, "#FFFFFF", width + 2);
  pen.lineCap = "round";
  pen.setLineDash(dash);
  stroke(pen, INK, width);
  pen.setLineDash([]);
}

function drawPolygon(pen, corners) {
  pen.beginPath();
  for (const [x, y] of corners) pen.lineTo(x, y);
  pen.closePath();
  const opacity = pen.globalAlpha;
  pen.globalAlpha = 0.2 * opacity;
  pen.fillStyle = AREA;
  pen.fill();
  pen.globalAlpha = opacity;
  stroke(pen, AREA, 1);
}

function drawDots(pen, places) {
  pen.beginPath();
  for (const [x, y] of places) {
    pen.moveTo(x + DOT, y);
    pen.arc(x, y, DOT, 0, 2 * Math.PI);
  }
  pen.fillStyle = INK;
  pen.fill();
}

function drawCrosses(pen, places) {
  pen.beginPath();
  for (const [x, y] of places) {
    pen.moveTo(x - CROSS, y - CROSS);
    pen.lineTo(x + CROSS, y + CROSS);
    pen.moveTo(x - CROSS, y + CROSS);
    pen.lineTo(x + CROSS, y - CROSS);
  }
  stroke(pen, "#FFFFFF", 3.5);
  stroke(pen, "#B8400A", 1.8);
}

function drawCell(pen, [x, y], code) {
  const { color, mark } = styleOf(code);
  traceMark(pen, mark, x, y, 4);
  stroke(pen, "#FFFFFF", 5);
  stroke(pen, INK, 2.5);
  pen.fillStyle = color;
  pen.fill();
}

function stroke(pen, color, width) {
  pen.strokeStyle = color;
  pen.lineWidth = width;
  pen.stroke();
}

function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}
