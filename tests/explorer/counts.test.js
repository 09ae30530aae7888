// Counts in pieces: the order and the form of the pieces change nothing.

import assert from "node:assert/strict";
import test from "node:test";

import { PanelCounts, compareShares } from "../../rpumap/explorer/src/readers/counts.js";

const N_CELLS = 30;
const N_COLUMNS = 50;
const panelOf = Int32Array.from({ length: N_COLUMNS }, (_, i) => (i % 7 === 3 ? (i - 3) / 7 : -1));
const N_GENES = 7;

/** Numbers from 0 to 1, the same each time. */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function someCounts(seed, draw) {
  const random = randomNumbers(seed);
  return Float64Array.from({ length: N_CELLS * N_COLUMNS }, () =>
    random() < 0.3 ? draw(random) : 0,
  );
}

const whole = (random) => Math.floor(random() * 90) + 1;
const logarithm = (random) => Math.log1p(random() * 90);

/** All entries that are not zero, in an order that is drawn. */
function shuffledEntries(dense, seed) {
  const random = randomNumbers(seed);
  const places = Array.from(dense.keys()).filter((place) => dense[place] !== 0);
  return places.map((place) => [random(), place]).sort(([a], [b]) => a - b);
}

function fed(dense, feed) {
  const counts = new PanelCounts(N_CELLS, panelOf, N_GENES);
  feed(counts, dense);
  return counts;
}

const WAYS = {
  whole: (counts, dense) => counts.dense(dense, 0, N_CELLS, 0, N_COLUMNS),
  tiles(counts, dense) {
    for (let cell = 0; cell < N_CELLS; cell += 10) {
      for (let column = 0; column < N_COLUMNS; column += 25) {
        const tile = Float32Array.from({ length: 250 }, (_, i) => {
          const row = cell + Math.floor(i / 25);
          return dense[row * N_COLUMNS + column + (i % 25)];
        });
        counts.dense(tile, cell, 10, column, 25);
      }
    }
  },
  columns(counts, dense) {
    for (let column = 0; column < N_COLUMNS; column++) {
      const values = Float32Array.from(
        { length: N_CELLS },
        (_, cell) => dense[cell * N_COLUMNS + column],
      );
      counts.dense(values, 0, N_CELLS, column, 1);
    }
  },
  entries(counts, dense) {
    const entries = shuffledEntries(dense, 5);
    for (let start = 0; start < entries.length; start += 100) {
      const part = entries.slice(start, start + 100).map(([, place]) => place);
      const cells = Int32Array.from(part, (place) => Math.floor(place / N_COLUMNS));
      const columns = Int32Array.from(part, (place) => place % N_COLUMNS);
      counts.entries(cells, columns, part.map((place) => dense[place]), part.length);
    }
  },
};

for (const draw of [whole, logarithm]) {
  test(`pieces of any form and order give the same counts: ${draw.name}`, () => {
    const dense = Float64Array.from(someCounts(1, draw), Math.fround);
    const values = dense.filter((value) => value !== 0);
    for (const [way, feed] of Object.entries(WAYS)) {
      const counts = fed(dense, feed);
      assert.equal(counts.nValues, values.length, way);
      assert.equal(counts.nWhole, values.filter(Number.isInteger).length, way);
      assert.equal(counts.nOnes, values.filter((value) => value === 1).length, way);
      assert.equal(counts.largest, Math.max(...values), way);
      assert.equal(counts.isWhole, draw === whole, way);
      for (let cell = 0; cell < N_CELLS; cell++) {
        const row = dense.slice(cell * N_COLUMNS, (cell + 1) * N_COLUMNS);
        assertNear(counts.totals[cell], row.reduce((a, b) => a + b), way);
        if (draw === logarithm) {
          assertNear(counts.undone[cell], row.reduce((a, b) => a + Math.expm1(b), 0), way);
        }
        const panel = Array.from(panelOf.keys()).filter((column) => panelOf[column] >= 0);
        const expected = Float32Array.from(panel, (column) => row[column]);
        const found = counts.panel.slice(cell * N_GENES, (cell + 1) * N_GENES);
        assert.deepEqual(found, expected.slice(0, N_GENES), way);
      }
    }
  });
}

test("two entries of one gene of a cell are added up", () => {
  const counts = new PanelCounts(1, Int32Array.of(0), 1);
  counts.entries(Int32Array.of(0, 0), Int32Array.of(0, 0), [2, 3], 2);
  assert.deepEqual([counts.panel[0], counts.totals[0]], [5, 5]);
});

test("shares are compared as in Python, whatever was cut", () => {
  const counts = new PanelCounts(12, Int32Array.of(0, 1, -1), 2);
  counts.dense(Float32Array.from({ length: 36 }, (_, i) => [10, 30, 60][i % 3]), 0, 12, 0, 3);
  const sizes = counts.totals; // a share of 0.4
  const present = Uint8Array.of(1, 1);
  const mean = [1, 3];
  const stored = { mean, panelShare: 0.4 / 1.6, librarySizeStored: true, nFeaturesIn: 3 };
  assert.match(compareShares(counts, sizes, false, present, { ...stored, panelShare: 0.1 }), /4 t/);
  // row sums may be of fewer genes than those of the training data
  assert.match(compareShares(counts, sizes, false, present, stored), /0.4 of .* and 0.25 in .*1.6/);
  assert.equal(compareShares(counts, sizes, true, present, stored), null);
  const notStored = { ...stored, librarySizeStored: false };
  assert.equal(compareShares(counts, sizes, false, present, notStored), null);
  const fewer = { ...notStored, nFeaturesIn: 9 };
  assert.match(compareShares(counts, sizes, false, present, fewer), /row sums of 9 genes in/);
  const more = { ...notStored, nFeaturesIn: 2, panelShare: 0.4 * 1.6 };
  assert.match(compareShares(counts, sizes, false, present, more), /0.625 times as much/);
  // half of the expected share is missing with one of the genes
  const onlyFirst = compareShares(counts, sizes, true, Uint8Array.of(1, 0), stored);
  assert.match(onlyFirst, /and 0.0625 in the training data/);
});

function assertNear(found, expected, what) {
  const error = Math.abs(found - expected);
  assert.ok(error <= 1e-12 * expected, `${what}: ${found} is not ${expected}`);
}
