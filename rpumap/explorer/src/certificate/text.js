// What is seen, in words. All that is claimed is looked up in the numbers first.

import { digits, percent } from "../ui/dom.js";
import { compare } from "./geometry.js";

const METHODS = { crown: "CROWN", crown_ibp: "CROWN-IBP", ibp: "IBP" };
const MOST_NAMED = 3; // types in a list
const NO_BREAK = "\u00a0"; // a space at which no line ends

/**
 * A length or an area beside that of the map.
 *
 * @param {number} ratio
 * @returns {string} such as "13 %" or "2.4 times"
 */
export function times(ratio) {
  const much = `${Number(ratio.toPrecision(2))} times`;
  const text = ratio < 1.495 ? percent(ratio) : much;
  return (ratio > 0 && ratio < 0.005 ? "< 1 %" : text).replaceAll(" ", NO_BREAK);
}

/**
 * @param {string[]} names one or more
 * @returns {string} such as "a, b and c"
 */
export function listed(names) {
  if (names.length === 1) return names[0];
  return `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

/**
 * @param {import("./state.js").State} ball
 * @returns {string} what noise there is
 */
export function noise({ eps, norm }) {
  const much = `${digits(eps)} standard deviation${eps === 1 ? "" : "s"}`;
  if (norm === "linf") return `each gene off by at most ${much}`;
  if (norm === "l2") return `a change of all genes of length at most ${digits(eps)}`;
  return `changes of genes that add up to at most ${much}`;
}

/**
 * @param {import("./data.js").Model} model
 * @returns {string}
 */
export function nameOf({ strength }) {
  return strength ? `robust map (strength ${strength})` : "plain map";
}

/**
 * @param {number[]} codes of labels that are reached, one or more
 * @param {string[]} labels names of all
 * @returns {string} such as "reaches Alpha and Delta"
 */
export function reachText(codes, labels) {
  if (codes.length > MOST_NAMED) return `reaches ${codes.length} other types`;
  return `reaches ${listed(codes.map((code) => labels[code]))}`;
}

/**
 * Say whether a label is certain in a box.
 *
 * @param {import("./slow.js").Verdict} verdict
 * @param {string} label of the cell
 * @param {string[]} labels names of all
 * @returns {string} such as "certain: Beta" or "not certain: the box reaches Alpha and Delta"
 */
export function verdictText({ certain, reached }, label, labels) {
  if (certain) return `certain: ${label}`;
  if (!reached.length) return "not shown to be certain";
  return `not certain: the box ${reachText(reached, labels)}`;
}

/**
 * Say in one sentence what is seen.
 *
 * @param {import("./data.js").Certificate} data
 * @param {import("./state.js").State} state
 * @param {Object<string, ArrayLike<number>>} boxes by method, and that around `attacks`
 * @param {ReturnType<typeof import("./slow.js").judge>} found labels
 * @returns {string}
 */
export function describe(data, state, boxes, found) {
  const { range } = data.models[state.model];
  const [tight, ...loose] = Object.entries(METHODS).map(([method, name]) => {
    const { width, height } = compare(boxes[method], range);
    return { name, width: times(width), height: times(height) };
  });
  const others = loose.map(({ name, width, height }) => `${name}: ${width} and ${height}`);
  const moved = times(compare(boxes.attacks, range).width);
  const verdict = verdictText(found.boxes.crown, data.labels[found.label], data.labels);
  return (
    `Cell ${state.cell} on the ${nameOf(data.models[state.model])}, ${noise(state)}: CROWN's box ` +
    `is ${tight.width} as wide as the map and ${tight.height} as high (${others.join("; ")}), ` +
    `attacks move it over ${moved} of the map's width, and the label is ${verdict}.`
  );
}

/**
 * Title and text of the guided steps, for one cell.
 *
 * @param {import("./data.js").Certificate} data
 * @param {import("./state.js").State[]} states of the steps
 * @param {import("./geometry.js").Box[]} boxes CROWN's in these states
 * @returns {{title: string, text: string}[]}
 */
export function guideTexts(data, states, boxes) {
  const seen = states.map(({ model }, i) => compare(boxes[i], data.models[model].range));
  const [little, much] = states.map(({ eps }) => eps);
  const { strength } = data.models[states[2].model];
  return [
    {
      title: titleOfFirst(seen[0]),
      text:
        `Each of the ${data.nGenes} genes may be off by up to ${digits(little)} standard ` +
        `deviations. Wherever that puts the cell, it is in CROWN's box, which is ` +
        `${sizeOf(seen[0])}.`,
    },
    {
      title: `eps ${digits(much)}: ${titleOfSecond(seen[1])}`,
      text:
        `With ${digits(much / little)} times the noise the box on the plain map is ` +
        `${sizeOf(seen[1])}: it covers ${times(seen[1].covered)} of the map` +
        `${seen[1].covered > 0.5 ? ", and says little" : ""}.`,
    },
    {
      title: titleOfThird(seen),
      text:
        `Same cell, same noise, but a network that was trained against noise (strength ` +
        `${strength}): its box is ${sizeOf(seen[2])} and covers ` +
        `${times(seen[2].covered)} of the map.`,
    },
  ];
}

function sizeOf({ width, height }) {
  return `${times(width)} as wide as the map and ${times(height)} as high`;
}

function titleOfFirst({ width, height }) {
  return Math.max(width, height) < 0.2 ? "Small ball, small box" : "Small ball, wide box";
}

function titleOfSecond({ covered }) {
  if (covered >= 0.95) return "the box swallows the map";
  if (covered >= 0.5) return "the box covers most of the map";
  return covered >= 0.25 ? "the box covers much of the map" : "the box grows";
}

function titleOfThird([, plain, robust]) {
  if (robust.covered >= plain.covered) return "The robust map's is no smaller";
  if (robust.covered > plain.covered / 2) return "The robust map's is smaller";
  return plain.covered >= 0.5 ? "The robust map's does not" : "The robust map's is much smaller";
}
