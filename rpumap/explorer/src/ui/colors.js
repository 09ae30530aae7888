/* Colours and marks of cell types: those of rpumap.plotting (see there how they were chosen).

   Canvases are drawn with dark ink on white. On a dark page the style sheet inverts their lightness
   and keeps their hue, as it does for the figures of the book. */

export const COLORS = [
  "#00508C",
  "#C98500",
  "#00805A",
  "#CC79A7",
  "#3A9AD6",
  "#B8400A",
  "#8C8C8C",
  "#5A4A00",
];
export const INK = "#2E2E2E";

const MARKS = ["circle", "triangle", "square", "diamond"];

/**
 * Colour and mark of a cell type: a mark changes where colours begin anew.
 * @param {number} code place of the type in the list of labels
 * @returns {{color: string, mark: string}}
 */
export function styleOf(code) {
  const turn = Math.floor(code / COLORS.length);
  return { color: COLORS[code % COLORS.length], mark: MARKS[turn % MARKS.length] };
}

/**
 * Trace a mark as the path of a canvas, to be filled or stroked.
 * @param {CanvasRenderingContext2D} pen
 * @param {string} mark one of circle, triangle, square, diamond
 * @param {number} x pixels
 * @param {number} y pixels
 * @param {number} radius pixels
 */
export function traceMark(pen, mark, x, y, radius) {
  pen.beginPath();
  if (mark === "circle") {
    pen.arc(x, y, radius, 0, 2 * Math.PI);
  } else if (mark === "square") {
    pen.rect(x - radius * 0.9, y - radius * 0.9, radius * 1.8, radius * 1.8);
  } else {
    const corners = mark === "triangle" ? 3 : 4;
    for (let i = 0; i < corners; i++) {
      const angle = -Math.PI / 2 + (2 * Math.PI * i) / corners;
      pen.lineTo(x + 1.25 * radius * Math.cos(angle), y + 1.25 * radius * Math.sin(angle));
    }
    pen.closePath();
  }
}
