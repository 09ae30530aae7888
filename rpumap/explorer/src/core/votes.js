// The proof that a label wins: the votes of the nearest stored cells anywhere in a box.
//
// Let c be the middle of a box and h half its sides. The score of cell j at a point p of the box,
// |p - z_j|^2 - |p - c|^2 + |h|^2, puts the cells into the order of their distances from p. It is
// linear in p, so that its ends in the box are sum_a (|c_a - z_ja| -+ h_a)^2, `least` and `most`.
// Of the k smallest values t_1 <= ... <= t_k of `most`, let t_i be the first that the k-th lowest
// score at p does not exceed: then the i - 1 cells before it vote, and only cells with least <= t_i
// can. See `labels_are_certain` of `rpumap.verification.labels`.

import { Smallest } from "./nearest.js";

const SLACK = 1e-9; // rounding of a distance, many times over

/** Counts votes of stored cells in boxes, one box after the other. */
export class Votes {
  /**
   * @param {Float64Array} x places of the stored cells
   * @param {Float64Array} y
   * @param {Int32Array} codes their labels
   * @param {number} nLabels
   * @param {number} k how many vote
   */
  constructor(x, y, codes, nLabels, k) {
    Object.assign(this, { x, y, codes, nLabels, k });
    this.reach = new Smallest(k); // t_1, ..., t_k, and these cells
    this.near = new Smallest(k);
    this.least = new Float64Array(codes.length);
    this.kept = new Int32Array(codes.length);
    this.sure = new Int32Array(nLabels);
    this.may = new Int32Array(k * nLabels);
    this.tally = new Int32Array(nLabels);
  }

  /** Return the commonest label of some cells, of equally common ones the first; -1 is no cell. */
  commonest(cells) {
    this.tally.fill(0);
    for (const cell of cells) if (cell >= 0) this.tally[this.codes[cell]]++;
    let label = 0;
    for (let code = 1; code < this.nLabels; code++) {
      if (this.tally[code] > this.tally[label]) label = code;
    }
    return label;
  }

  /** Return the commonest label of the k cells nearest to a place, among cells that hold them. */
  labelAt(px, py, cells) {
    this.near.clear();
    for (let i = 0; i < cells.length; i++) {
      const square = squares(px - this.x[cells[i]], py - this.y[cells[i]]);
      if (square < this.near.most) this.near.add(square, cells[i]);
    }
    return this.commonest(this.near.owners);
  }

  /**
   * Return those of some cells that can be among the k nearest somewhere in a box.
   *
   * @param {number[]} box left, bottom, right and top
   * @param {Int32Array} cells k or more, which hold all that can
   * @returns {Int32Array} an own array; their scores are kept for `wins`
   */
  select([left, bottom, right, top], cells) {
    const { x, y, reach, least, kept } = this;
    reach.clear();
    for (let i = 0; i < cells.length; i++) {
      const [px, py] = [x[cells[i]], y[cells[i]]];
      const [toLeft, toRight, toBottom, toTop] = [px - left, right - px, py - bottom, top - py];
      least[i] = squares(Math.min(toLeft, toRight), Math.min(toBottom, toTop)) * (1 - SLACK);
      const most = squares(Math.max(toLeft, toRight), Math.max(toBottom, toTop)) * (1 + SLACK);
      if (most < reach.most) reach.add(most, cells[i]);
    }
    let n = 0;
    for (let i = 0; i < cells.length; i++) {
      if (least[i] > reach.most) continue;
      least[n] = least[i];
      kept[n++] = cells[i];
    }
    return kept.slice(0, n);
  }

  /**
   * Tell whether a label has the most votes at every point of the box of the last `select`.
   *
   * @param {Int32Array} cells what it returned
   * @param {number} label
   * @returns {boolean} true only if that is shown
   */
  wins(cells, label) {
    if (cells.every((cell) => this.codes[cell] === label)) return true;
    this.#count(cells);
    const { k, nLabels, codes, reach, sure, may } = this;
    sure.fill(0);
    for (let i = 0; i < k; i++) {
      if (!this.#leads(may.subarray(i * nLabels, (i + 1) * nLabels), k - i, label)) return false;
      sure[codes[reach.owners[i]]]++; // of the cells before the next
    }
    return true;
  }

  /** Count for each t_i and label the cells that may vote. */
  #count(cells) {
    const { k, nLabels, codes, reach, least, may } = this;
    may.fill(0);
    for (let j = 0; j < cells.length; j++) {
      let i = 0;
      while (least[j] > reach.values[i]) i++;
      may[i * nLabels + codes[cells[j]]]++;
    }
    for (let at = nLabels; at < k * nLabels; at++) may[at] += may[at - nLabels];
  }

  /** Tell whether a label is ahead if all undecided votes go against it. */
  #leads(may, nUndecided, label) {
    const { k, sure } = this;
    let others = -may[label];
    for (const votes of may) others += votes;
    for (let rival = 0; rival < may.length; rival++) {
      if (rival === label || may[rival] === 0) continue;
      // a rival takes what votes it can; of the rest, third parties take what they can
      const taken = Math.min(may[rival], nUndecided + sure[rival]);
      const least = Math.max(sure[label], k - taken - (others - may[rival]));
      // of equally common labels the first counts
      if (label < rival ? least < taken : least <= taken) return false;
    }
    return true;
  }
}

function squares(a, b) {
  return a * a + b * b;
}
