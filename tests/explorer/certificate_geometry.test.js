// What is drawn is what bounds, attacks and labels say, and each lies in what must hold it.

import assert from "node:assert/strict";
import test from "node:test";

import { readCertificate, valuesOf } from "../../rpumap/explorer/src/certificate/data.js";
import { boxAround, compare, Geometry } from "../../rpumap/explorer/src/certificate/geometry.js";
import { boundAndAttack, crownBoxes, judge } from "../../rpumap/explorer/src/certificate/slow.js";
import { crown, crownIbp, ibp, polygon } from "../../rpumap/explorer/src/core/bounds.js";
import { toyBytes } from "./certificate_toy.js";

const data = readCertificate(toyBytes());
const STATES = [
  { cell: 7, eps: 0.1, norm: "linf", model: 0 },
  { cell: 7, eps: 0.4, norm: "linf", model: 1 },
  { cell: 30, eps: 1, norm: "l2", model: 1 },
  { cell: 30, eps: 2, norm: "l1", model: 0 },
];

function isIn(points, [left, bottom, right, top]) {
  return points.every((value, i) => i % 2
    ? value >= bottom && value <= top
    : value >= left && value <= right);
}

/** Whether points lie in a convex polygon that turns to the left, up to rounding. */
function isInPolygon(points, corners) {
  for (let i = 0; i < corners.length; i += 2) {
    const j = (i + 2) % corners.length;
    const [dx, dy] = [corners[j] - corners[i], corners[j + 1] - corners[i + 1]];
    for (let p = 0; p < points.length; p += 2) {
      const side = dx * (points[p + 1] - corners[i + 1]) - dy * (points[p] - corners[i]);
      if (side < -1e-9) return false;
    }
  }
  return true;
}

test("boxes of a frame are those of the bounds, in whatever order states come", () => {
  const geometry = new Geometry(data);
  for (const state of [...STATES, ...STATES.slice().reverse()]) {
    const { layers, map } = data.models[state.model];
    const x = valuesOf(data, state.cell);
    const found = geometry.at(state);
    for (const [name, bound] of Object.entries({ ibp, crown_ibp: crownIbp })) {
      const { lower, upper } = bound(layers, x, state);
      assert.deepEqual([...found[name]], [...lower, ...upper]);
    }
    assert.deepEqual([...found.place], [...map.slice(2 * state.cell, 2 * state.cell + 2)]);
  }
});

test("noisy copies differ, and lie in all that must hold them", () => {
  const geometry = new Geometry(data);
  for (const state of STATES) {
    const { copies, ibp: wide, crown_ibp: narrow } = geometry.at(state);
    const { crown: tight, polygon: corners } = boundAndAttack(data, state);
    assert.equal(copies.length, 400);
    for (const box of [wide, narrow, tight]) assert.ok(isIn(copies, box));
    assert.ok(isInPolygon(copies, corners));
    const [left, bottom, right, top] = boxAround(copies);
    assert.ok(right - left > 0.01 && top - bottom > 0.01);
  }
});

test("without noise all is in one place", () => {
  const state = { ...STATES[0], eps: 0 };
  const { place, copies } = new Geometry(data).at(state);
  const { crown: box, attacks } = boundAndAttack(data, state);
  for (const points of [copies, attacks, box]) {
    assert.ok(points.every((value, i) => Math.abs(value - place[i % 2]) < 1e-6));
  }
});

test("CROWN and its polygon are those of the bounds, and hold what attacks reach", () => {
  for (const state of STATES) {
    const { layers } = data.models[state.model];
    const x = valuesOf(data, state.cell);
    const { crown: box, polygon: corners, attacks } = boundAndAttack(data, state);
    const { lower, upper } = crown(layers, x, state);
    assert.deepEqual([...box], [...lower, ...upper]);
    assert.deepEqual([...crownBoxes(data, [state])[0]], [...box]);
    const rounded = (corner) => corner.map((value) => value.toFixed(9)).join();
    const texts = (points) => [...new Set(points.map(rounded))].sort();
    const pairs = Array.from({ length: 16 }, (_, i) => [corners[2 * i], corners[2 * i + 1]]);
    assert.deepEqual(texts(pairs), texts(polygon(layers, x, state, 16)), "no corner is lost");
    assert.ok(isInPolygon(attacks, corners) && isIn(attacks, box));
  }
});

test("attacks reach nearly all of a small box", () => {
  const { crown: box, attacks } = boundAndAttack(data, STATES[0]);
  const { width, height } = compare(boxAround(attacks), box);
  assert.ok(width > 0.95 && width <= 1 && height > 0.95 && height <= 1);
});

test("a box is compared with the map", () => {
  assert.deepEqual(compare([2, -5, 12, 1], [0, 0, 10, 4]), { width: 1, height: 1.5, covered: 0.2 });
  assert.equal(compare([20, 0, 30, 4], [0, 0, 10, 4]).covered, 0, "it lies beside the map");
});

test("a label is certain at its place, and not in a box around the map", () => {
  const { map, range } = data.models[0];
  const cell = map.indexOf(range[0]) / 2; // the leftmost
  const place = map.slice(2 * cell, 2 * cell + 2);
  const boxes = {
    point: Float64Array.of(...place, ...place),
    all: Float64Array.from(range),
    wide: Float64Array.of(-1000, range[1], 2003, range[3]), // no point of a grid is in the middle
  };
  const { label, boxes: found, points } = judge(data, { cell, model: 0 }, boxes,
    { here: Float64Array.from(place), cells: Float64Array.from(map) });
  assert.deepEqual(found.point, { certain: true, reached: [] });
  assert.equal(found.all.certain, false);
  assert.deepEqual(found.all.reached, [0, 1, 2].filter((code) => code !== label));
  assert.deepEqual(found.wide, found.all);
  assert.deepEqual(points, { here: [], cells: found.all.reached });
});

test("a cell has no vote about its own label", () => {
  // 8 of type 0 and 8 of type 1 in one place: without its own vote a cell is in the minority
  const codes = Int32Array.from({ length: 17 }, (_, i) => i % 2);
  const models = [{ map: new Float32Array(34).fill(9, 32) }];
  const toy = { codes, models, labels: ["a", "b"] };
  const found = [0, 1].map((cell) => judge(toy, { cell, model: 0 }, {}, {}).label);
  assert.deepEqual(found, [1, 0]);
});
