// Labels on the map are those of the nearest stored cells, and certain only where all points agree.

import assert from "node:assert/strict";
import test from "node:test";

import { randomNumbers } from "../../rpumap/explorer/src/core/attacks.js";
import { MapLabels } from "../../rpumap/explorer/src/core/labels.js";
import { golden } from "./golden.js";

const { about, array } = golden("boxes");

/** Find the label of a point the slow way. */
function labelAt(point, Z, codes, nLabels, k) {
  const distance = (i) => Math.hypot(Z[2 * i] - point[0], Z[2 * i + 1] - point[1]);
  const order = Array.from(codes.keys()).sort((a, b) => distance(a) - distance(b));
  const votes = new Array(nLabels).fill(0);
  for (const cell of order.slice(0, k)) votes[codes[cell]]++;
  return votes.indexOf(Math.max(...votes));
}

about.forEach(({ n_labels: nLabels, k }, number) => {
  const of = (name) => array(`${number}.${name}`);
  const [Z, codes, lower, upper] = ["Z", "codes", "lower", "upper"].map(of);
  const n = lower.length / 2;
  const middles = lower.map((value, i) => (value + upper[i]) / 2);

  test(`labels on map ${number} are those of Python`, () => {
    const found = new MapLabels(Z, codes, nLabels, k).at(middles, n);
    assert.deepEqual(found, of("label"));
  });

  test(`boxes on map ${number} are certain where they are in Python`, () => {
    const found = new MapLabels(Z, codes, nLabels, k).certain(lower, upper, n);
    const expected = of("certain");
    const nExpected = expected.reduce((sum, value) => sum + value, 0);
    assert.ok(nExpected > 20 && nExpected < 350, `${nExpected} are: too few or too many`);
    const missed = Array.from(found.keys()).filter((i) => expected[i] && !found[i]);
    assert.deepEqual(missed, [], "what Python shows is shown here");
    // with finer cuts a few more are shown
    const nMore = found.reduce((sum, value, i) => sum + (value && !expected[i]), 0);
    assert.ok(nMore <= 0.1 * nExpected, `${nMore} more than the ${nExpected} of Python`);
  });

  test(`no point of a certain box on map ${number} has another label`, () => {
    const random = randomNumbers(number);
    const map = new MapLabels(Z, codes, nLabels, k);
    const found = map.certain(lower, upper, n);
    const labels = map.at(middles, n);
    const place = (i, share) => lower[i] + share * (upper[i] - lower[i]);
    for (let box = 0; box < n; box++) {
      if (!found[box]) continue;
      for (let draw = 0; draw < 24; draw++) {
        const isEdge = draw % 3 === 0; // where labels change first
        const across = isEdge ? Math.round(random()) : random();
        const point = [place(2 * box, across), place(2 * box + 1, random())];
        assert.equal(labelAt(point, Z, codes, nLabels, k), labels[box], `box ${box} at ${point}`);
      }
    }
  });

  test(`boxes on map ${number} are told the same whatever was asked before`, () => {
    const map = new MapLabels(Z, codes, nLabels, k);
    const all = map.certain(lower, upper, n);
    for (let i = 0; i < n; i += 7) {
      const own = new MapLabels(Z, codes, nLabels, k);
      const [low, high] = [lower, upper].map((ends) => ends.subarray(2 * i, 2 * i + 2));
      assert.equal(own.certain(low, high, 1)[0], all[i], `box ${i}`);
    }
  });
});

const line = Float32Array.of(0, 0, 1, 0, 2, 0, 8, 0, 9, 0, 10, 0); // on which the grid has one row
const sides = Int32Array.of(0, 0, 0, 1, 1, 1);

test("the border between two labels is found exactly", () => {
  const map = new MapLabels(line, sides, 2, 3);
  // it lies at 5, where two cells of the one and one of the other are as near as the reverse
  const ends = [4.9, 4.99, 4.999, 5.001, 5.1];
  const lower = Float64Array.from(ends.flatMap(() => [-40, -0.5]));
  const upper = Float64Array.from(ends.flatMap((end) => [end, 0.5]));
  assert.deepEqual(Array.from(map.certain(lower, upper, 5)), [1, 1, 1, 0, 0]);
});

test("a box that holds a few cells of another label is not certain", () => {
  const places = [];
  const codes = [];
  for (const [x, code] of [[0, 0], [5, 1], [10, 0], [20, 0]]) {
    for (let i = 0; i < 16; i++) {
      places.push(x + (i % 4) / 4, Math.floor(i / 4) / 4);
      codes.push(code);
    }
  }
  const map = new MapLabels(Float32Array.from(places), Int32Array.from(codes), 2);
  // the corners and the middle of the second have the label of most
  const boxes = [[-1, -1, 2, 2], [-1, -1, 22, 2], [4, 0, 6, 1], [8, -1, 22, 2], [0, 0, 0, 0]];
  const lower = Float64Array.from(boxes.flatMap((box) => box.slice(0, 2)));
  const upper = Float64Array.from(boxes.flatMap((box) => box.slice(2)));
  assert.deepEqual(Array.from(map.certain(lower, upper, 5)), [1, 0, 1, 1, 1]);
});

test("of equally common labels the first counts, everywhere or on one side", () => {
  const even = new MapLabels(Float32Array.of(0, 0, 1, 0, 9, 9), Int32Array.of(1, 0, 0), 2, 2);
  const [low, high] = [Float64Array.of(-2, -2), Float64Array.of(2, 2)];
  assert.deepEqual([even.at(low, 1)[0], even.certain(low, high, 1)[0]], [0, 1]);
  // to the right of the diagonal the second of two votes is another one; of this box only one
  // corner lies there
  const places = Float32Array.of(0, 0, -1, 1, 1, -1);
  for (const shift of [0, 1000]) {
    const map = new MapLabels(places, Int32Array.of(1, 1, 0), 2, 2);
    const lower = Float64Array.of(shift - 0.3, shift - 0.25);
    const upper = Float64Array.of(shift + 0.25, shift + 0.3);
    const corner = Float64Array.of(upper[0], lower[1]);
    assert.deepEqual(Array.from([lower, upper, corner], (p) => map.at(p, 1)[0]), [1, 1, 0]);
    assert.equal(map.certain(lower, upper, 1)[0], 0, `at ${shift}`);
  }
});

test("boxes far away, without end, and upside down", () => {
  const map = new MapLabels(line, sides, 2, 3);
  const boxes = [[100, 0, 101, 1], [-1e30, 0, -1e29, 1], [-1e30, 0, 1e30, 1]];
  const endless = [[-Infinity, 0, 0, 1], [0, 0, NaN, 1], [6, NaN, 7, 1], [6, 0, 7, Infinity]];
  const all = [...boxes, ...endless];
  const lower = Float64Array.from(all.flatMap((box) => box.slice(0, 2)));
  const upper = Float64Array.from(all.flatMap((box) => box.slice(2)));
  const certain = Array.from(map.certain(lower, upper, all.length));
  assert.deepEqual(certain.slice(2), [0, 0, 0, 0, 0]);
  assert.equal(certain[0], 1);
  const swapped = () => map.certain(Float64Array.of(0, 0, 1, 1), Float64Array.of(0, 0, 1, 0.9), 2);
  assert.throws(swapped, /lower is above upper in box 1/);
});

test("places that are not finite get the first label, and cells on one spot are found", () => {
  const map = new MapLabels(line, sides, 2, 3);
  const places = Float64Array.of(Infinity, 0, NaN, NaN, 1e300, 0, 9, 0);
  assert.deepEqual(Array.from(map.at(places, 4)), [0, 0, 0, 1]);
  const spot = new MapLabels(new Float32Array(8).fill(3), Int32Array.of(1, 1, 0, 0), 2, 3);
  assert.equal(spot.at(Float64Array.of(50, -50), 1).length, 1);
  assert.deepEqual(Array.from(spot.certain(Float64Array.of(3, 3), Float64Array.of(4, 4), 1)), [0]);
});

test("more neighbours than there are cells are all others", () => {
  const map = new MapLabels(line, sides, 2, 15); // of the 6 cells 5 vote
  assert.deepEqual(Array.from(map.at(Float64Array.of(0, 0, 10, 0), 2)), [0, 1]);
});
