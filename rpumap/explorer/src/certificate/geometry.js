// What can be computed anew at each frame: interval bounds, those of CROWN-IBP, and noisy copies.

import { randomNumbers, sampleBall } from "../core/attacks.js";
import { boundFrom } from "../core/bounds.js";
import { applyLayer, forwardFrom, inDouble } from "../core/network.js";
import { valuesOf } from "./data.js";

const N_COPIES = 200;
const SEED = 0;

/**
 * @typedef {Float64Array} Box left, bottom, right, top
 *
 * @typedef {object} Quick
 * @property {Float64Array} place of the cell on the map, (2)
 * @property {Box} ibp
 * @property {Box} crown_ibp
 * @property {Float64Array} copies coordinates of noisy copies, (200 x 2)
 */

/** Computes what belongs to a state, and keeps what eps does not change. */
export class Geometry {
  /** @param {import("./data.js").Certificate} data */
  constructor(data) {
    this.data = data;
    this.points = {}; // of each norm: fixed points of the unit ball
    this.products = {}; // of each norm and model: their products with the first weights
    this.centre = {}; // of the last cell and model
  }

  /**
   * @param {import("./state.js").State} state
   * @returns {Quick}
   */
  at(state) {
    const { layers, map } = this.data.models[state.model];
    const { first, largest } = this.#centreOf(state);
    const bound = (method) => boxOf(boundFrom(method, layers, first, largest, state));
    return {
      place: Float64Array.from(map.subarray(2 * state.cell, 2 * state.cell + 2)),
      ibp: bound("ibp"),
      crown_ibp: bound("crown_ibp"),
      copies: this.#copies(first, state),
    };
  }

  /** Inputs of the first layer's neurons at the cell, and its largest value. */
  #centreOf({ cell, model }) {
    if (this.centre.cell !== cell || this.centre.model !== model) {
      const x = valuesOf(this.data, cell);
      const largest = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const first = applyLayer(inDouble(this.data.models[model].layers)[0], x, 1);
      this.centre = { cell, model, first, largest };
    }
    return this.centre;
  }

  /** The first layer is linear: W (x + eps u) + b = (W x + b) + eps W u. */
  #copies(first, { eps, norm, model }) {
    const shifts = this.#productsOf(norm, model);
    const moved = shifts.map((shift, i) => first[i % first.length] + eps * shift);
    return forwardFrom(inDouble(this.data.models[model].layers), moved, N_COPIES);
  }

  #productsOf(norm, model) {
    const { nGenes, models } = this.data;
    this.points[norm] ??= sampleBall(N_COPIES, nGenes, norm, randomNumbers(SEED));
    const [layer] = inDouble(models[model].layers);
    const linear = { ...layer, bias: new Float64Array(layer.nOut) };
    return (this.products[`${norm} ${model}`] ??= applyLayer(linear, this.points[norm], N_COPIES));
  }
}

/**
 * @param {import("../core/bounds.js").Bounds} bounds of two outputs
 * @returns {Box}
 */
export function boxOf({ lower, upper }) {
  return Float64Array.of(lower[0], lower[1], upper[0], upper[1]);
}

/**
 * @param {ArrayLike<number>} points (n x 2), at least one
 * @returns {Box} the smallest that holds them
 */
export function boxAround(points) {
  const box = Float64Array.of(Infinity, Infinity, -Infinity, -Infinity);
  for (let i = 0; i < points.length; i++) {
    box[i % 2] = Math.min(box[i % 2], points[i]);
    box[2 + (i % 2)] = Math.max(box[2 + (i % 2)], points[i]);
  }
  return box;
}

/**
 * Compare a box with the map.
 *
 * @param {ArrayLike<number>} box left, bottom, right, top
 * @param {ArrayLike<number>} range of the map, likewise
 * @returns {{width: number, height: number, covered: number}} width and height over those of the
 *   map, and the share of the map's rectangle that lies in the box
 */
export function compare(box, range) {
  const sides = [0, 1].map((axis) => {
    const size = range[axis + 2] - range[axis];
    const low = Math.max(box[axis], range[axis]);
    const high = Math.min(box[axis + 2], range[axis + 2]);
    return { ratio: (box[axis + 2] - box[axis]) / size, inside: Math.max(0, high - low) / size };
  });
  const [x, y] = sides;
  return { width: x.ratio, height: y.ratio, covered: x.inside * y.inside };
}
