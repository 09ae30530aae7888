/* What is said of all cells together: how many get which verdict and label, and remarks. */

import { BETWEEN, CERTAIN, NEW } from "../core/cell_mapper.js";

const NOT_HERE = "not in the reference";
// Of so many cells so many flagged ones are no longer news of single cells.
const LEAST_WARNED = 10;
const MANY = 0.5;

/**
 * Cells of one label.
 * @typedef {object} OfLabel
 * @property {number} code place of the label
 * @property {number} n
 * @property {number} nCertain
 * @property {number} nNew of them not in the reference
 */

/**
 * Count verdicts, and cells of each label.
 * @param {{n: number, label: ArrayLike<number>, verdict: ArrayLike<number>, labels: string[]}}
 *   result
 * @returns {{verdicts: number[], byLabel: OfLabel[]}} cells that are certain, likely, not in the
 *   reference, and between labels; the labels that occur, the commonest first
 */
export function countCells({ n, label, verdict, labels }) {
  const verdicts = [0, 0, 0, 0];
  const byLabel = labels.map((_, code) => ({ code, n: 0, nCertain: 0, nNew: 0 }));
  for (let i = 0; i < n; i++) {
    const kind = Math.min(verdict[i], BETWEEN);
    const own = byLabel[label[i]];
    verdicts[kind]++;
    own.n++;
    if (kind === CERTAIN) own.nCertain++;
    if (kind === NEW) own.nNew++;
  }
  return { verdicts, byLabel: byLabel.filter((own) => own.n).sort((a, b) => b.n - a.n) };
}

/**
 * Say what holds for all cells together, as `ReferenceMap._remarks`.
 * @param {{n: number, novelty: ArrayLike<number>}} result
 * @param {number} threshold of novelty in the reference
 * @returns {string[]}
 */
export function remarksOn({ n, novelty }, threshold) {
  if (threshold === Infinity) {
    return [
      `the reference has too few cells to calibrate novelty: no cell is called '${NOT_HERE}'`,
    ];
  }
  let flagged = 0;
  for (let i = 0; i < n; i++) flagged += novelty[i] > 1;
  if (n < LEAST_WARNED || flagged <= MANY * n) return [];
  return [
    `${Math.round((100 * flagged) / n)}% of the cells are unlike those of the reference: if you ` +
      "expect its types, the counts may come from another technology or may not be raw, or genes " +
      "may be named differently; single verdicts then mean little",
  ];
}
