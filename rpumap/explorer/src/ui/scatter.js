/* A map of cells on a canvas: points below, which are drawn once, and what moves above them.

   Data coordinates are those of the embedding, with the same scale on both axes and y upwards. */

import { styleOf, traceMark } from "./colors.js";
import { element } from "./dom.js";

const MARGIN = 12; // pixels around the points

/** A map with a lower canvas for the reference and an upper one for what changes. */
export class Scatter {
  /**
   * @param {HTMLElement} parent where it is put; its width is taken
   * @param {{label: string, aspect?: number, draw?: function(CanvasRenderingContext2D, Scatter)}}
   *   options name for screen readers; height over width; what draws the upper canvas
   */
  constructor(parent, { label, aspect = 0.75, draw = () => {} }) {
    this.aspect = aspect;
    this.draw = draw;
    this.below = element("canvas", { "aria-hidden": "true" });
    this.above = element("canvas", { role: "img", "aria-label": label, tabindex: "0" });
    this.box = element("div", { class: "rpumap-map" }, this.below, this.above);
    parent.append(this.box);
    this.points = { coordinates: new Float32Array(0), codes: [], faint: false };
    this.view = { x: 0, y: 0, scale: 1 };
    this.requested = false;
    new ResizeObserver(() => this.resize()).observe(this.box);
  }

  /**
   * Set the points below, and show all of them.
   * @param {Float32Array} coordinates n x 2
   * @param {ArrayLike<number>} codes places of their labels
   * @param {{faint?: boolean, radius?: number, extent?: ArrayLike<number>}} options `extent`: other
   *   coordinates, n x 2, that must be visible too
   */
  setPoints(coordinates, codes, { faint = false, radius = 2.2, extent = [] } = {}) {
    this.points = { coordinates, codes, faint, radius };
    this.range = rangeOf(coordinates, extent);
    this.resize();
  }

  /** Fit the canvases to the width, and draw all anew. */
  resize() {
    const width = this.box.clientWidth;
    if (!width || !this.range) return;
    const height = Math.round(width * this.aspect);
    const ratio = window.devicePixelRatio || 1;
    this.width = width;
    this.height = height;
    this.box.style.height = `${height}px`;
    for (const canvas of [this.below, this.above]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    const [left, bottom, right, top] = this.range;
    const scale = Math.min(
      (width - 2 * MARGIN) / (right - left || 1),
      (height - 2 * MARGIN) / (top - bottom || 1),
    );
    this.view = { x: (left + right) / 2, y: (bottom + top) / 2, scale };
    this.drawBelow();
    this.redraw();
  }

  drawBelow() {
    const pen = this.below.getContext("2d");
    const { coordinates, codes, faint, radius } = this.points;
    pen.fillStyle = "#FFFFFF";
    pen.fillRect(0, 0, this.width, this.height);
    pen.globalAlpha = faint ? 0.3 : 0.7;
    for (const i of shuffled(codes.length)) {
      const { color, mark } = styleOf(codes[i]);
      const [x, y] = this.toPixels(coordinates[2 * i], coordinates[2 * i + 1]);
      traceMark(pen, mark, x, y, radius);
      pen.fillStyle = color;
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  /** Draw what is above at the next frame; several calls before it are one. */
  request() {
    if (this.requested) return;
    this.requested = true;
    requestAnimationFrame(() => this.redraw());
  }

  /** Draw what is above now. */
  redraw() {
    this.requested = false;
    if (!this.width) return;
    const pen = this.above.getContext("2d");
    pen.clearRect(0, 0, this.width, this.height);
    pen.save();
    this.draw(pen, this);
    pen.restore();
  }

  /**
   * @param {number} x embedding
   * @param {number} y embedding
   * @returns {[number, number]} pixels from the left and from the top
   */
  toPixels(x, y) {
    const { view } = this;
    return [
      this.width / 2 + (x - view.x) * view.scale,
      this.height / 2 - (y - view.y) * view.scale,
    ];
  }

  /**
   * The point that is nearest to where a pointer is.
   * @param {PointerEvent} event
   * @param {ArrayLike<number>} coordinates n x 2
   * @param {number} reach pixels
   * @returns {number} its place, or -1 if none is within reach
   */
  nearest(event, coordinates, reach = Infinity) {
    const box = this.above.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let [best, least] = [-1, reach * reach];
    for (let i = 0; 2 * i < coordinates.length; i++) {
      const [x, y] = this.toPixels(coordinates[2 * i], coordinates[2 * i + 1]);
      const distance = (x - px) ** 2 + (y - py) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }
}

/** Smallest and largest coordinates, [left, bottom, right, top]. */
function rangeOf(...sets) {
  const range = [Infinity, Infinity, -Infinity, -Infinity];
  for (const coordinates of sets) {
    for (let i = 0; i < coordinates.length; i++) {
      const axis = i % 2;
      range[axis] = Math.min(range[axis], coordinates[i]);
      range[axis + 2] = Math.max(range[axis + 2], coordinates[i]);
    }
  }
  return range;
}

/** Numbers from 0 to n - 1 in a fixed random order, so that no type covers the others. */
function shuffled(n) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let seed = 1;
  for (let i = n - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
