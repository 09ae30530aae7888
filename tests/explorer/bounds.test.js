// Bounds are those of Python, and nothing that a network computes lies outside of them.

import assert from "node:assert/strict";
import test from "node:test";

import {
  projectedGradient,
  randomNumbers,
  sampleBall,
} from "../../rpumap/explorer/src/core/attacks.js";
import { crown, crownIbp, ibp, polygon } from "../../rpumap/explorer/src/core/bounds.js";
import { forward } from "../../rpumap/explorer/src/core/network.js";
import { assertClose } from "./golden.js";
import { ballsOf, nameOf, networks, rows } from "./networks.js";

const METHODS = { ibp, crown_ibp: crownIbp, crown };
// rounding is allowed for here, and not in what Python computed
const TOLERANCES = { "": 2e-9, "single.": 1e-4 };

for (const network of networks) {
  const { name, layers, cells, directions, array } = network;
  for (const [method, bound] of Object.entries(METHODS)) {
    test(`${method} of ${name} is that of Python`, () => {
      for (const ball of ballsOf(network)) {
        for (const [prefix, tolerance] of Object.entries(TOLERANCES)) {
          const place = `${prefix}${method}.${nameOf(ball)}`;
          const found = cells.map((x) => bound(layers, x, ball));
          compare(found, array, place, tolerance);
          const along = cells.map((x) => bound(layers, x, ball, directions));
          compare(along, array, `${place}.along`, tolerance);
        }
      }
    });

    test(`${method} of ${name} leaves out nothing that the network computes`, () => {
      const random = randomNumbers(3);
      for (const ball of ballsOf(network)) {
        const steps = sampleBall(60, cells[0].length, ball.norm, random);
        for (const x of cells) {
          const points = steps.map((step, i) => x[i % x.length] + ball.eps * step);
          const found = [...rows(points, x.length), ...attacked(layers, x, ball, directions)];
          const { lower, upper } = bound(layers, x, ball);
          const along = bound(layers, x, ball, directions);
          for (const point of found) {
            const z = forward(layers, Float64Array.from(point), 1);
            assertInside(z, lower, upper, `${method} ${nameOf(ball)}`);
            const sums = directions.map((d) => d.reduce((s, c, j) => s + c * z[j], 0));
            assertInside(sums, along.lower, along.upper, `${method} ${nameOf(ball)} along`);
          }
        }
      }
    });
  }
}

function compare(found, array, place, tolerance) {
  const width = found[0].lower.length;
  for (const end of ["lower", "upper"]) {
    const values = found.flatMap((bounds) => Array.from(bounds[end]));
    const expected = array(`${place}.${end}`);
    assertClose(values, expected, tolerance, `${place}.${end}`, width);
    const sign = end === "lower" ? -1 : 1;
    const isOutside = values.every((value, i) => sign * value > sign * expected[i]);
    assert.ok(isOutside || place.startsWith("single."), `${place}.${end} allows for rounding`);
  }
}

function attacked(layers, x, ball, directions) {
  return rows(projectedGradient(layers, x, ball, directions), x.length);
}

function assertInside(values, lower, upper, what) {
  Array.from(values).forEach((value, i) => {
    assert.ok(lower[i] <= value && value <= upper[i], `${what}: ${value} leaves ${i}`);
  });
}

test("what is computed of a point lies inside its own bounds", () => {
  for (const { layers, X, cells, nOut } of networks) {
    const Z = rows(forward(layers, X, cells.length), nOut);
    for (const bound of Object.values(METHODS)) {
      cells.forEach((x, cell) => {
        const { lower, upper } = bound(layers, x, { eps: 0 });
        assertInside(Z[cell], lower, upper, "a point");
        Z[cell].forEach((_, j) => assert.ok(upper[j] > lower[j], "rounding is allowed for"));
        assertClose(upper, lower, 1e-8, "but not by much");
      });
    }
  }
});

test("results do not depend on what was bounded before, and are own arrays", () => {
  const { layers, cells } = networks[0];
  const first = crown(layers, cells[0], { eps: 0.1 });
  const copy = first.upper.slice();
  crown(layers, cells[1], { eps: 1, norm: "l1" }, [[1, 1]]);
  assert.deepEqual(first.upper, copy);
  assert.deepEqual(crown(layers, cells[0], { eps: 0.1, norm: "linf" }), first);
});

test("a cell of double precision is not rounded", () => {
  const { layers, cells } = networks[1];
  const x = Float64Array.from(cells[0], (value) => value + 1e-12);
  assert.notDeepEqual(crown(layers, x, { eps: 0.1 }), crown(layers, cells[0], { eps: 0.1 }));
});

test("bounds are infinite where a sum may overflow", () => {
  const wide = (nOut) => ({
    weight: new Float64Array(2 * nOut).fill(1e200),
    bias: new Float64Array(nOut),
    nIn: 2,
    nOut,
  });
  for (const bound of Object.values(METHODS)) {
    const x = Float64Array.of(1, -1);
    const { lower, upper } = bound([wide(2), wide(1)], x, { eps: 1 });
    assert.deepEqual([...lower, ...upper], [-Infinity, Infinity]);
    const found = bound([wide(1)], Float64Array.of(NaN, 0), { eps: 1 });
    assert.deepEqual([...found.lower, ...found.upper], [-Infinity, Infinity]);
  }
});

test("what makes no sense is refused", () => {
  const { layers, cells } = networks[1];
  const x = cells[0];
  assert.throws(() => crown(layers, x.subarray(1), { eps: 1 }), /must have 20 values.* got 19/);
  assert.throws(() => crown(layers, x, { eps: -1 }), /eps must be 0 or more and finite, got -1/);
  assert.throws(() => crown(layers, x, { eps: NaN }), /eps must be .* got NaN/);
  assert.throws(() => crown(layers, x, { eps: 1, norm: "l3" }), /linf, l2, l1, got l3/);
  assert.throws(() => crown(layers, x, { eps: 1 }, [[1, 2, 3]]), /must have 2 numbers, got 3/);
  assert.throws(() => polygon(layers, x, { eps: 1 }, 6), /a multiple of 4, got 6/);
  const unknown = () => polygon(layers, x, { eps: 1 }, 16, "best");
  assert.throws(unknown, /method must be one of ibp, crown_ibp, crown, got best/);
});

for (const method of Object.keys(METHODS)) {
  test(`a polygon of ${method} holds what the network computes, and lies in the box`, () => {
    const random = randomNumbers(1);
    for (const network of networks.filter(({ nOut }) => nOut === 2)) {
      const { layers, cells } = network;
      for (const ball of ballsOf(network)) {
        const x = cells[0];
        const corners = polygon(layers, x, ball, 16, method);
        const steps = sampleBall(40, x.length, ball.norm, random);
        const points = steps.map((step, i) => x[i % x.length] + ball.eps * step);
        const places = rows(forward(layers, points, 40), 2);
        for (const z of places) assert.ok(holds(corners, z), `${nameOf(ball)} leaves out ${z}`);
        const { lower, upper } = METHODS[method](layers, x, ball);
        const [right, left] = [1, -1].map((s) => Math.max(...corners.map(([a]) => s * a)));
        assert.ok(right <= upper[0] && -left >= lower[0]);
        assert.ok(areaOf(corners) > 0, "counter-clockwise");
        const box = (upper[0] - lower[0]) * (upper[1] - lower[1]);
        assert.ok(areaOf(corners) <= box * (1 + 1e-9));
        if (ball.eps > 0) assert.ok(areaOf(corners) < 0.99 * box, "more sides leave less");
      }
    }
  });
}

test("more sides leave less, and four are the box", () => {
  const { layers, cells } = networks[0];
  const ball = { eps: 0.1 };
  const [four, eight, many] = [4, 8, 32].map((n) => polygon(layers, cells[0], ball, n));
  const { lower, upper } = crown(layers, cells[0], ball);
  assert.deepEqual(four[0], [lower[0], lower[1]]);
  assert.deepEqual(four[2], [upper[0], upper[1]]);
  assert.ok(areaOf(many) < areaOf(eight) && areaOf(eight) < areaOf(four));
});

function areaOf(corners) {
  const [[left, bottom]] = corners; // from where little is lost by rounding
  return corners.reduce((sum, [x, y], i) => {
    const [nextX, nextY] = corners[(i + 1) % corners.length];
    return sum + ((x - left) * (nextY - bottom) - (nextX - left) * (y - bottom)) / 2;
  }, 0);
}

/** Tell whether a point lies in a convex polygon, up to the rounding of its corners. */
function holds(corners, [x, y]) {
  return corners.every(([x0, y0], i) => {
    const [x1, y1] = corners[(i + 1) % corners.length];
    const length = Math.hypot(x1 - x0, y1 - y0);
    return (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= -1e-9 * length;
  });
}
