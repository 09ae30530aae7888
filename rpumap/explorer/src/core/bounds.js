// Certified bounds: how far the coordinates of a cell can move when its values move a little.
//
// These are `ibp`, `crown_ibp` and `crown` of `rpumap.verification.bounds`, where the derivation
// stands (eq. 13 to 39), for one cell and over a ball. Rounding is included, as it is there with
// `rounding="computed"` for a network in double precision: each bound is moved outward by what the
// sums may have lost, here found from the largest value of a layer in place of all of them. So the
// bounds hold for the coordinates that `forward` returns. They move by some 1e-9 at most.

import { BackwardPass, dualNorm } from "./backward.js";
import { applyLayer, inDouble } from "./network.js";
import { Neurons } from "./neurons.js";
import { clip } from "./polygon.js";

const METHODS = ["ibp", "crown_ibp", "crown"];
const NORMS = ["linf", "l2", "l1"];
const workspaces = new WeakMap();

/**
 * @typedef {object} Ball
 * @property {number} eps radius, 0 or more, in standard deviations of a gene
 * @property {"linf"|"l2"|"l1"} [norm="linf"] what is at most `eps`: the largest change of an input,
 *   the Euclidean length of the change, or the sum of its magnitudes
 *
 * @typedef {object} Bounds
 * @property {Float64Array} lower (nOutputs), or one number for each direction
 * @property {Float64Array} upper
 */

/**
 * Bound each output by interval arithmetic: the fastest bounds and the loosest.
 *
 * @param {import("./network.js").Layer[]} layers
 * @param {Float32Array|Float64Array} x centre of the ball, (nInputs)
 * @param {Ball} ball
 * @param {ArrayLike<number>[]} [directions] vectors of nOutputs numbers: what is bounded is the
 *   product of each with the outputs, in place of the outputs
 * @returns {Bounds} own arrays, infinite where a sum may overflow
 * @throws {RangeError} if `eps` is negative or not finite, `norm` is unknown, or `x` or a direction
 *   has another size than the network
 */
export function ibp(layers, x, ball, directions) {
  return boundAt("ibp", layers, x, ball, directions);
}

/**
 * Bound each output by two linear functions of the input, with intervals for hidden neurons.
 *
 * Parameters, returns and errors are those of `ibp`, whose bounds are looser.
 */
export function crownIbp(layers, x, ball, directions) {
  return boundAt("crown_ibp", layers, x, ball, directions);
}

/**
 * Bound each output, and before it each hidden neuron, by two linear functions of the input.
 *
 * Parameters, returns and errors are those of `ibp`. The tightest bounds and the slowest.
 */
export function crown(layers, x, ball, directions) {
  return boundAt("crown", layers, x, ball, directions);
}

/**
 * Find the convex polygon that bounds in several directions leave: the map of no cell of the ball
 * lies outside of it.
 *
 * @param {import("./network.js").Layer[]} layers with two outputs
 * @param {Float32Array|Float64Array} x
 * @param {Ball} ball
 * @param {number} [nDirections=16] largest number of sides, a multiple of 4
 * @param {"crown"|"crown_ibp"|"ibp"} [method="crown"]
 * @returns {number[][]} [x, y] of each corner, counter-clockwise
 * @throws {RangeError} as `ibp`, and if there are not two outputs, or `nDirections` is none
 */
export function polygon(layers, x, ball, nDirections = 16, method = "crown") {
  if (!(nDirections >= 4) || nDirections % 4) {
    throw new RangeError(`nDirections must be a multiple of 4, got ${nDirections}`);
  }
  const angles = Array.from({ length: nDirections / 2 }, (_, i) => (2 * Math.PI * i) / nDirections);
  // the axes first, exactly: they give the rectangle from which the others cut
  const others = angles.filter((_, i) => i % (nDirections / 4));
  const directions = [[1, 0], [0, 1], ...others.map((a) => [Math.cos(a), Math.sin(a)])];
  const { lower, upper } = boundAt(method, layers, x, ball, directions);
  const [left, bottom, right, top] = [lower[0], lower[1], upper[0], upper[1]];
  const corners = [[left, bottom], [right, bottom], [right, top], [left, top]];
  const halfPlanes = directions.slice(2).flatMap((direction, i) => [
    { direction, most: upper[i + 2] },
    { direction: direction.map((c) => -c), most: -lower[i + 2] },
  ]);
  return clip(corners, halfPlanes);
}

/**
 * Bound outputs by the method of that name; see `ibp` for parameters, returns and errors.
 *
 * @param {"ibp"|"crown_ibp"|"crown"} method
 */
export function boundAt(method, layers, x, ball, directions) {
  const net = inDouble(layers);
  if (x.length !== net[0].nIn) {
    throw new RangeError(`a cell must have ${net[0].nIn} values, one a gene, got ${x.length}`);
  }
  const largest = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return boundFrom(method, layers, applyLayer(net[0], x, 1), largest, ball, directions);
}

/**
 * Bound outputs from the inputs of the first layer's neurons, for callers that have them already.
 *
 * @param {"ibp"|"crown_ibp"|"crown"} method
 * @param {import("./network.js").Layer[]} layers
 * @param {Float64Array} first W x + b of the first layer at the centre, (layers[0].nOut)
 * @param {number} largest largest magnitude among the values of x
 * @param {Ball} ball
 * @param {ArrayLike<number>[]} [directions]
 * @returns {Bounds}
 * @throws {RangeError} as `ibp`
 */
export function boundFrom(method, layers, first, largest, { eps, norm = "linf" }, directions) {
  check(method, eps, norm);
  const { net, hidden, pass, gamma, norms } = workspace(layers);
  const last = directions ? along(net[net.length - 1], directions) : net[net.length - 1];
  const inside = { first, eps, norm, pass };
  let mayOverflow = false;
  for (let depth = 0; depth < net.length; depth++) {
    const isLast = depth === net.length - 1;
    const layer = isLast ? last : net[depth];
    const before = hidden.slice(0, depth);
    const neurons = isLast ? new Neurons(layer.nOut) : hidden[depth];
    const reach = depth ? before[depth - 1].highest : largest + eps;
    mayOverflow = neurons.setMargin(layer, reach, gamma) || mayOverflow;
    if (depth === 0) {
      const centre = isLast && directions ? directions.map((d) => dot(d, first)) : first;
      const rises = isLast ? rowNorms(layer, norm) : (norms[norm] ??= rowNorms(layer, norm));
      boundFirst(neurons, centre, rises, eps);
    } else boundNext(method, neurons, layer, before, isLast, inside);
    neurons.widen();
    if (!isLast) neurons.relax(gamma);
    else return outward(neurons, mayOverflow);
  }
}

/** A linear layer needs no relaxation: its rise over a ball is a norm (eq. 39). */
function boundFirst(neurons, centre, norms, eps) {
  for (let i = 0; i < neurons.n; i++) {
    neurons.lower[i] = centre[i] - eps * norms[i];
    neurons.upper[i] = centre[i] + eps * norms[i];
  }
}

function rowNorms({ weight, nIn, nOut }, norm) {
  const rows = Array.from({ length: nOut }, (_, i) => weight.subarray(i * nIn, (i + 1) * nIn));
  return rows.map((row) => dualNorm(row, norm));
}

function boundNext(method, neurons, layer, before, isLast, inside) {
  const isCrown = method === "crown";
  if (!isLast || method === "ibp") {
    neurons.setIntervals(layer, before[before.length - 1], isCrown);
    if (!isCrown) return;
  }
  for (let j = 0; j < neurons.n; j++) {
    // nothing depends on the bounds of a neuron that intervals show to be inactive
    if (!isLast && neurons.upper[j] + neurons.margin[j] <= 0) continue;
    const { first, pass } = inside;
    const ends = pass.bound(layer.weight, j * layer.nIn, layer.bias[j], before, first, inside);
    [neurons.lower[j], neurons.upper[j]] = ends;
  }
}

/** Return bounds, of which those that overflowed say nothing. */
function outward({ lower, upper }, mayOverflow) {
  if (mayOverflow) return { lower: lower.fill(-Infinity), upper: upper.fill(Infinity) };
  return { lower, upper };
}

function workspace(layers) {
  if (!workspaces.has(layers)) {
    const net = inDouble(layers);
    const hidden = net.slice(0, -1).map(({ nOut }) => new Neurons(nOut));
    const pass = new BackwardPass(net);
    workspaces.set(layers, { net, hidden, pass, gamma: roundingOf(net), norms: {} });
  }
  return workspaces.get(layers);
}

/** The relative error of a sum, as `_limits` has it for a network in double precision. */
function roundingOf(net) {
  const width = Math.max(...net.flatMap(({ nIn, nOut }) => [nIn, nOut]));
  return (2 * width + 4 * net.length + 16 + ((width + 8) / 2) * 1.01) * Number.EPSILON;
}

/** Return the last layer, followed by products with directions. */
function along({ weight, bias, nIn, nOut }, directions) {
  const n = directions.length;
  const rows = { weight: new Float64Array(n * nIn), bias: new Float64Array(n), nIn, nOut: n };
  rows.sums = new Float64Array(n);
  directions.forEach((direction, d) => {
    if (direction.length !== nOut) {
      throw new RangeError(`a direction must have ${nOut} numbers, got ${direction.length}`);
    }
    rows.bias[d] = dot(direction, bias);
    for (let j = 0; j < nOut; j++) {
      for (let i = 0; i < nIn; i++) {
        rows.weight[d * nIn + i] += direction[j] * weight[j * nIn + i];
        rows.sums[d] += Math.abs(direction[j] * weight[j * nIn + i]);
      }
    }
  });
  return rows;
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function check(method, eps, norm) {
  if (!(eps >= 0 && eps < Infinity)) {
    throw new RangeError(`eps must be 0 or more and finite, got ${eps}`);
  }
  if (!NORMS.includes(norm)) {
    throw new RangeError(`norm must be one of ${NORMS.join(", ")}, got ${norm}`);
  }
  if (!METHODS.includes(method)) {
    throw new RangeError(`method must be one of ${METHODS.join(", ")}, got ${method}`);
  }
}
