// Words follow the numbers: a claim that does not hold is not made.

import assert from "node:assert/strict";
import test from "node:test";

import {
  describe, guideTexts, listed, noise, reachText, times, verdictText,
} from "../../rpumap/explorer/src/certificate/text.js";
import { guidedStates } from "../../rpumap/explorer/src/certificate/state.js";

const RANGE = [0, 0, 10, 10];
const DATA = {
  nGenes: 300,
  labels: ["Alpha", "Beta", "Delta", "Epsilon", "Ductal"],
  models: [{ strength: 0, range: RANGE }, { strength: 0.3, range: RANGE }],
};
const STATES = guidedStates(5, 1);

/** A square box about the middle of the map that covers a share of it. */
function square(covered) {
  const half = 5 * Math.sqrt(covered);
  return [5 - half, 5 - half, 5 + half, 5 + half];
}

/** A text with spaces at which lines may end. */
function plain(text) {
  return text.replaceAll("\u00a0", " ");
}

function titles(...shares) {
  return guideTexts(DATA, STATES, shares.map(square)).map(({ title }) => title);
}

test("lengths are percents of the map, or times its length", () => {
  assert.deepEqual([0, 0.001, 0.126, 0.996, 1.04, 2.44, 43.2].map(times).map(plain),
    ["0 %", "< 1 %", "13 %", "100 %", "104 %", "2.4 times", "43 times"]);
});

test("names are listed", () => {
  const found = [["a"], ["a", "b"], ["a", "b", "c"]].map(listed);
  assert.deepEqual(found, ["a", "a and b", "a, b and c"]);
});

test("noise is described by its norm", () => {
  const most = noise({ eps: 0.2, norm: "linf" });
  assert.equal(most, "each gene off by at most 0.2 standard deviations");
  assert.match(noise({ eps: 2, norm: "l2" }), /of length at most 2$/);
  assert.match(noise({ eps: 1, norm: "l1" }), /add up to at most 1 standard deviation$/);
});

test("verdicts name what is reached, unless that is much", () => {
  const text = (certain, reached) => verdictText({ certain, reached }, "Beta", DATA.labels);
  assert.equal(text(true, []), "certain: Beta");
  assert.equal(text(false, [0, 2]), "not certain: the box reaches Alpha and Delta");
  assert.equal(text(false, []), "not shown to be certain", "no other label was found");
  assert.equal(reachText([0, 2, 3, 4], DATA.labels), "reaches 4 other types");
});

test("titles of the guide say what holds", () => {
  assert.deepEqual(titles(0.01, 1, 0.05), [
    "Small ball, small box",
    "eps 0.2: the box swallows the map",
    "The robust map's does not",
  ]);
  assert.deepEqual(titles(0.09, 0.6, 0.4), [
    "Small ball, wide box",
    "eps 0.2: the box covers most of the map",
    "The robust map's is smaller",
  ]);
  assert.deepEqual(titles(0.01, 0.3, 0.1).slice(1), [
    "eps 0.2: the box covers much of the map",
    "The robust map's is much smaller",
  ]);
  assert.deepEqual(titles(0.01, 0.1, 0.2).slice(1), [
    "eps 0.2: the box grows",
    "The robust map's is no smaller",
  ]);
});

test("texts of the guide have the numbers", () => {
  const textsOf = (...shares) =>
    guideTexts(DATA, STATES, shares.map(square)).map(({ text }) => plain(text));
  const [first, second, third] = textsOf(0.01, 0.36, 0.04);
  assert.match(first, /the 300 genes .* up to 0.02 .* 10 % as wide as .* 10 % as high/);
  assert.match(second, /With 10 times the noise .* 60 % as wide .* covers 36 % of the map\.$/);
  assert.match(third, /strength 0.3.* 20 % as wide .* covers 4 % of the map/);
  assert.match(textsOf(0.01, 0.64, 0.04)[1], /covers 64 % of the map, and says little/);
});

test("one sentence says what is seen", () => {
  const boxes = {
    crown: [0, 0, 3, 4], crown_ibp: [0, 0, 5, 6], ibp: [0, 0, 20, 30], attacks: [0, 0, 1, 2],
  };
  const found = { label: 1, boxes: { crown: { certain: false, reached: [0] } } };
  assert.equal(
    plain(describe(DATA, STATES[2], boxes, found)),
    "Cell 5 on the robust map (strength 0.3), each gene off by at most 0.2 standard deviations: " +
      "CROWN's box is 30 % as wide as the map and 40 % as high (CROWN-IBP: 50 % and 60 %; " +
      "IBP: 2 times and 3 times), attacks move it over 10 % of the map's width, and the label is " +
      "not certain: the box reaches Alpha.",
  );
});
