// Convex polygons cut by half-planes.

import assert from "node:assert/strict";
import test from "node:test";

import { clip } from "../../rpumap/explorer/src/core/polygon.js";

const square = [[0, 0], [2, 0], [2, 2], [0, 2]];

test("a corner is cut off", () => {
  const cut = clip(square, [{ direction: [1, 1], most: 3 }]);
  assert.deepEqual(cut, [[0, 0], [2, 0], [2, 1], [1, 2], [0, 2]]);
});

test("what does not meet the polygon, or touches it, leaves it as it is", () => {
  const halfPlanes = [{ direction: [1, 1], most: 9 }, { direction: [1, 0], most: 2 }];
  assert.deepEqual(clip(square, halfPlanes), square);
  assert.deepEqual(clip(square, [{ direction: [1, 1], most: 4 }]), square);
});

test("cuts follow each other", () => {
  const halfPlanes = [{ direction: [1, 0], most: 1 }, { direction: [0, -1], most: -1 }];
  assert.deepEqual(clip(square, halfPlanes), [[1, 1], [1, 2], [0, 2], [0, 1]]);
});

test("a cut that would leave nothing is left out", () => {
  assert.deepEqual(clip(square, [{ direction: [1, 0], most: -1 }]), square);
});
