// Adversaries: those of Python, and inside their balls.

import assert from "node:assert/strict";
import test from "node:test";

import {
  projectedGradient,
  randomNumbers,
  sampleBall,
} from "../../rpumap/explorer/src/core/attacks.js";
import { forward } from "../../rpumap/explorer/src/core/network.js";
import { assertClose } from "./golden.js";
import { ballsOf, nameOf, networks, rows } from "./networks.js";

const SIZES = {
  linf: (step) => Math.max(...step.map(Math.abs)),
  l2: (step) => Math.hypot(...step),
  l1: (step) => step.reduce((sum, change) => sum + Math.abs(change), 0),
};

for (const network of networks) {
  const { name, layers, cells, directions, array } = network;
  test(`attacks on ${name} are those of Python`, () => {
    for (const ball of ballsOf(network)) {
      // (nDirections x nCells x nInputs) there
      const attack = (x) => projectedGradient(layers, x, ball, directions);
      const found = cells.map((x) => rows(attack(x), x.length));
      const all = directions.flatMap((_, d) => found.flatMap((points) => Array.from(points[d])));
      assertClose(all, array(`attack.${nameOf(ball)}`), 1e-9, nameOf(ball));
    }
  });

  test(`attacks on ${name} stay in the ball, and move the coordinates`, () => {
    let [nMoved, nAll] = [0, 0];
    for (const ball of ballsOf(network)) {
      const x = cells[0];
      const points = rows(projectedGradient(layers, x, ball, directions), x.length);
      points.forEach((point, d) => {
        const size = SIZES[ball.norm](point.map((value, i) => value - x[i]));
        assert.ok(size <= ball.eps * (1 + 1e-9), `${size} is more than ${ball.eps}`);
        const gain = along(layers, point, directions[d]) - along(layers, x, directions[d]);
        assert.ok(ball.eps === 0 ? gain === 0 : gain >= 0, `${nameOf(ball)} gains ${gain}`);
        nMoved += gain > 0;
        nAll += ball.eps > 0;
      });
    }
    assert.ok(nMoved > 0.8 * nAll, "a gradient of 0 is rare");
  });
}

function along(layers, x, direction) {
  return forward(layers, x, 1).reduce((sum, z, j) => sum + z * direction[j], 0);
}

test("more steps find more, and none finds the cell itself", () => {
  const { layers, cells } = networks[0];
  const [none, one, ten] = [0, 1, 10].map((nSteps) => {
    return projectedGradient(layers, cells[0], { eps: 0.5 }, [[1, 0]], nSteps);
  });
  assert.deepEqual(Array.from(none), Array.from(cells[0]));
  const [start, once, often] = [none, one, ten].map((x) => forward(layers, x, 1)[0]);
  assert.ok(start < once && once < often);
});

for (const [norm, sizeOf] of Object.entries(SIZES)) {
  test(`points of the ${norm} ball lie inside, and on its surface`, () => {
    const points = rows(sampleBall(300, 12, norm, randomNumbers(0)), 12);
    const sizes = points.map((point) => sizeOf(Array.from(point)));
    assert.ok(sizes.every((size) => size <= 1 + 1e-12));
    assert.equal(sizes.filter((size) => size > 1 - 1e-12).length, 200);
    assert.ok(sizes.filter((size) => size < 0.5).length > 20);
    const vertices = points.filter((point) => {
      const ends = point.filter((value) => Math.abs(value) === 1).length;
      const zeros = point.filter((value) => value === 0).length;
      return norm === "linf" ? ends === 12 : ends === 1 && zeros === 11;
    });
    assert.equal(vertices.length, norm === "l2" ? 0 : 100);
    const mean = points.reduce((sum, point) => sum + point[3], 0) / points.length;
    assert.ok(Math.abs(mean) < 0.2, "either sign is as likely");
  });
}

test("the same seed draws the same numbers, another one others", () => {
  const draw = (seed) => {
    const random = randomNumbers(seed);
    return Array.from({ length: 1000 }, random);
  };
  assert.deepEqual(draw(7), draw(7));
  assert.notDeepEqual(draw(7), draw(8));
  assert.ok(draw(7).every((number) => number >= 0 && number < 1));
  const mean = draw(7).reduce((sum, number) => sum + number / 1000, 0);
  assert.ok(Math.abs(mean - 0.5) < 0.05);
});
