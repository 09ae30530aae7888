// What takes longer than a frame, and runs in a worker: CROWN, attacks, and whether labels are
// certain.

import { projectedGradient } from "../core/attacks.js";
import { crown, polygon } from "../core/bounds.js";
import { MapLabels } from "../core/labels.js";
import { forward } from "../core/network.js";
import { valuesOf } from "./data.js";
import { boxOf } from "./geometry.js";

const N_DIRECTIONS = 16;
const GRID = 15; // points across a box, and up
const K = 15; // neighbours that vote

/**
 * @typedef {object} Slow
 * @property {import("./geometry.js").Box} crown
 * @property {Float64Array} polygon corners of what CROWN leaves in 16 directions, (16 x 2), some of
 *   them twice where there are fewer
 * @property {Float64Array} attacks coordinates that attacks in 16 directions reached, (16 x 2)
 *
 * @typedef {object} Verdict
 * @property {boolean} certain whether the label is provably the same everywhere in the box
 * @property {number[]} reached labels that points of the box have, other than that of the cell
 */

/**
 * Bound a cell by CROWN, and attack it.
 *
 * @param {import("./data.js").Certificate} data
 * @param {import("./state.js").State} ball
 * @returns {Slow}
 */
export function boundAndAttack(data, ball) {
  const { layers } = data.models[ball.model];
  const x = valuesOf(data, ball.cell);
  const directions = circle(0);
  const attacked = projectedGradient(layers, x, ball, directions);
  return {
    crown: boxOf(crown(layers, x, ball)),
    polygon: furthest(polygon(layers, x, ball, N_DIRECTIONS)),
    attacks: forward(layers, attacked, N_DIRECTIONS),
  };
}

/**
 * Bound a cell by CROWN in several states.
 *
 * @param {import("./data.js").Certificate} data
 * @param {import("./state.js").State[]} states
 * @returns {import("./geometry.js").Box[]}
 */
export function crownBoxes(data, states) {
  return states.map((state) => {
    const x = valuesOf(data, state.cell);
    return boxOf(crown(data.models[state.model].layers, x, state));
  });
}

/**
 * Find the label of a cell at its place, whether it is certain in boxes, and which others there are
 * at some points. The cell itself is no neighbour (`labels_are_certain` with `leave_one_out`).
 *
 * @param {import("./data.js").Certificate} data
 * @param {import("./state.js").State} state
 * @param {Object<string, import("./geometry.js").Box>} boxes by name, each with the place in it
 * @param {Object<string, Float64Array>} points by name, each (n x 2)
 * @returns {{label: number, boxes: Object<string, Verdict>, points: Object<string, number[]>}}
 */
export function judge(data, { cell, model }, boxes, points) {
  const { map } = data.models[model];
  const others = Int32Array.from(data.codes.keys()).filter((i) => i !== cell);
  const coordinates = Float64Array.from({ length: 2 * others.length }, (_, i) =>
    map[2 * others[i >> 1] + (i % 2)]);
  const codes = others.map((i) => data.codes[i]);
  const labels = new MapLabels(coordinates, codes, data.labels.length, K);
  const [label] = labels.at(map.subarray(2 * cell, 2 * cell + 2), 1);
  const othersAt = (places) => {
    const found = new Set(labels.at(places, places.length / 2));
    return [...found].filter((code) => code !== label).sort((a, b) => a - b);
  };
  const judgeBox = (box) => {
    const certain = labels.certain(box.subarray(0, 2), box.subarray(2), 1)[0] === 1;
    return { certain, reached: certain ? [] : othersAt(pointsOf(box, coordinates)) };
  };
  return { label, boxes: mapValues(boxes, judgeBox), points: mapValues(points, othersAt) };
}

function mapValues(table, change) {
  return Object.fromEntries(Object.entries(table).map(([name, value]) => [name, change(value)]));
}

/** Points of a box: a grid, its corners included, and the cells in it. */
function pointsOf([left, bottom, right, top], coordinates) {
  const points = [];
  for (let i = 0; i < GRID * GRID; i++) {
    const [across, up] = [(i % GRID) / (GRID - 1), Math.floor(i / GRID) / (GRID - 1)];
    points.push(left + across * (right - left), bottom + up * (top - bottom));
  }
  for (let i = 0; i < coordinates.length; i += 2) {
    const [x, y] = [coordinates[i], coordinates[i + 1]];
    if (x >= left && x <= right && y >= bottom && y <= top) points.push(x, y);
  }
  return Float64Array.from(points);
}

/** Unit vectors at equal angles, from an angle on. */
function circle(start) {
  return Array.from({ length: N_DIRECTIONS }, (_, i) => {
    const angle = start + (2 * Math.PI * i) / N_DIRECTIONS;
    return [Math.cos(angle), Math.sin(angle)];
  });
}

/** The furthest corner midway between each two sides' directions: all corners, always as many. */
function furthest(corners) {
  return Float64Array.from(circle(Math.PI / N_DIRECTIONS).flatMap(([dx, dy]) =>
    corners.reduce((best, corner) =>
      corner[0] * dx + corner[1] * dy > best[0] * dx + best[1] * dy ? corner : best)));
}
