// Adversaries: points of a ball about a cell, drawn at random or looked for. A bound says how far
// the coordinates can move at most; these show how far they do move.

import { dualNorm } from "./backward.js";
import { gradient } from "./network.js";

const SMALLEST_LENGTH = 1e-12; // of a gradient that is brought to length 1, as torch has it

/**
 * Make a generator of random numbers (mulberry32), the same from the same seed.
 *
 * @param {number} seed a whole number
 * @returns {() => number} at each call a number from 0 up to, not including, 1
 */
export function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Draw points of the unit ball: in turn a vertex, a point of the surface, and a point inside.
 *
 * The vertices of the l1 ball are plus or minus 1 in one input, those of the linf ball in all. The
 * l2 ball has none: two of three points lie on its surface. In many dimensions nearly all of a
 * ball lies near its surface; distances from the centre are drawn uniformly instead.
 *
 * @param {number} n number of points
 * @param {number} nInputs
 * @param {"linf"|"l2"|"l1"} norm
 * @param {() => number} random from 0 to 1, see `randomNumbers`
 * @returns {Float64Array} (n x nInputs); times eps, steps from a cell
 */
export function sampleBall(n, nInputs, norm, random) {
  const points = new Float64Array(n * nInputs);
  for (let i = 0; i < n; i++) {
    const point = points.subarray(i * nInputs, (i + 1) * nInputs);
    if (i % 3 === 0 && norm !== "l2") fillVertex(point, norm, random);
    else fillSurface(point, norm, random);
    if (i % 3 === 2) scaleBy(point, random());
  }
  return points;
}

function fillVertex(point, norm, random) {
  if (norm === "linf") for (let g = 0; g < point.length; g++) point[g] = random() < 0.5 ? -1 : 1;
  else point[Math.floor(random() * point.length)] = random() < 0.5 ? -1 : 1;
}

function fillSurface(point, norm, random) {
  for (let g = 0; g < point.length; g++) {
    const size = norm === "l1" ? -Math.log(1 - random()) : gaussian(random);
    if (norm === "linf") point[g] = 2 * random() - 1;
    else point[g] = norm === "l1" && random() < 0.5 ? -size : size;
  }
  if (norm === "linf") point[Math.floor(random() * point.length)] = random() < 0.5 ? -1 : 1;
  else scaleBy(point, 1 / lengthOf(point, norm));
}

/** Draw from the normal distribution (Box and Muller 1958). */
function gaussian(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

function scaleBy(point, factor) {
  for (let g = 0; g < point.length; g++) point[g] *= factor;
}

/** The norm of a step; `dualNorm` of the dual ball. */
function lengthOf(step, norm) {
  return dualNorm(step, { linf: "l1", l2: "l2", l1: "linf" }[norm]);
}

/**
 * Search a ball for the inputs whose coordinates lie furthest in given directions, by projected
 * gradient ascent; `rpumap.verification.projected_gradient`, for one cell, from the centre.
 *
 * @param {import("./network.js").Layer[]} layers
 * @param {Float32Array|Float64Array} x (nInputs)
 * @param {import("./bounds.js").Ball} ball
 * @param {ArrayLike<number>[]} directions vectors of nOutputs numbers; length does not matter
 * @param {number} [nSteps=5] 0 or more
 * @returns {Float64Array} (directions.length x nInputs), for each direction the best input that was
 *   met; in the ball, up to rounding
 */
export function projectedGradient(layers, x, ball, directions, nSteps = 5) {
  const found = new Float64Array(directions.length * x.length);
  directions.forEach((direction, i) => {
    const step = climb(layers, x, ball, direction, nSteps);
    for (let g = 0; g < x.length; g++) found[i * x.length + g] = x[g] + step[g];
  });
  return found;
}

/** Return the best step from x, which is kept apart from it so that a small one loses nothing. */
function climb(layers, x, { eps, norm = "linf" }, direction, nSteps) {
  let step = new Float64Array(x.length);
  let [best, most] = [step, -Infinity];
  for (let i = 0; ; i++) {
    const { value, slope } = gradient(layers, step.map((change, g) => x[g] + change), direction);
    if (value > most) [best, most] = [step, value];
    if (i === nSteps) return best;
    const towards = furthest(slope, eps, norm);
    step = project(step.map((change, g) => change + (2 / nSteps) * towards[g]), eps, norm);
  }
}

/** Return the step of the ball that goes furthest in a direction (`Ball.vertex`). */
function furthest(direction, eps, norm) {
  if (norm === "linf") return direction.map((c) => eps * Math.sign(c));
  if (norm === "l2") {
    const length = Math.max(dualNorm(direction, "l2"), SMALLEST_LENGTH);
    return direction.map((c) => (eps * c) / length);
  }
  const place = direction.reduce((b, c, g) => (Math.abs(c) > Math.abs(direction[b]) ? g : b), 0);
  return direction.map((c, g) => (g === place ? eps * Math.sign(c) : 0));
}

/** Return the nearest step of the ball (`Ball.project`). */
function project(step, eps, norm) {
  if (lengthOf(step, norm) <= eps) return step;
  if (norm === "linf") return step.map((change) => Math.min(Math.max(change, -eps), eps));
  if (norm === "l2") {
    const length = lengthOf(step, "l2");
    return step.map((change) => change * (eps / length));
  }
  return projectL1(step, eps);
}

/** Shrink all magnitudes by one threshold (Duchi et al. 2008, doi:10.1145/1390156.1390191). */
function projectL1(step, eps) {
  const ordered = step.map(Math.abs).sort().reverse();
  let [sum, shrink] = [0, 0];
  for (let i = 0; i < ordered.length; i++) {
    sum += ordered[i];
    const threshold = (sum - eps) / (i + 1);
    if (i === 0 || ordered[i] > threshold) shrink = threshold;
  }
  return step.map((change) => Math.sign(change) * Math.max(Math.abs(change) - shrink, 0));
}
