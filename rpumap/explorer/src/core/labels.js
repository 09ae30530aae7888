// Labels on the map, and whether they are certain: whether the nearest stored cells give the same
// label at every point of a box. It mirrors `labels_on_map` of `rpumap.reference.cell_mapper` and
// `labels_are_certain` of `rpumap.verification.labels`.
//
// Boxes of different cells overlap. So the map is cut into tiles, finer and finer where labels
// meet, and the label that wins in a tile counts for all boxes. With these finer cuts, and since
// it counts here which of equally common labels comes first, some labels are shown to be certain
// that are not shown to be so there.

import { Grid } from "./grid.js";
import { Smallest } from "./nearest.js";
import { Tile } from "./tile.js";
import { Votes } from "./votes.js";

const MAX_SPLITS = 10;
const AROUND = 4; // how far the tiles go beyond the stored cells, in sides of their square
const FINEST = 1 / 512; // side of the smallest tiles, in that of the stored cells
const LARGEST = 1e150; // coordinate whose square is a number

/** Stored cells on a map, which vote for the labels of others. */
export class MapLabels {
  /**
   * @param {Float32Array|Float64Array} coordinates of the stored cells, (nStored x 2), finite
   * @param {Int32Array} codes their labels, from 0
   * @param {number} nLabels
   * @param {number} [k=15] number of neighbours that vote; nStored - 1 if that is less
   */
  constructor(coordinates, codes, nLabels, k = 15) {
    const n = codes.length;
    k = Math.max(1, Math.min(k, n - 1));
    const x = Float64Array.from({ length: n }, (_, i) => coordinates[2 * i]);
    const y = Float64Array.from({ length: n }, (_, i) => coordinates[2 * i + 1]);
    this.grid = new Grid(x, y);
    this.near = new Smallest(k);
    this.votes = new Votes(x, y, codes, nLabels, k);
    this.everyone = Int32Array.from({ length: n }, (_, i) => i);
    this.root = rootOf(this.grid, this.votes, this.everyone);
  }

  /**
   * Find the commonest label of the k nearest stored cells; of equally common ones the first.
   *
   * @param {Float32Array|Float64Array} points (n x 2)
   * @param {number} n
   * @returns {Int32Array} (n)
   */
  at(points, n) {
    const labels = new Int32Array(n);
    for (let i = 0; i < n; i++) labels[i] = this.#labelAt(points[2 * i], points[2 * i + 1]);
    return labels;
  }

  /**
   * Tell for each box whether its label is provably the same at every point in it.
   *
   * @param {Float32Array|Float64Array} lower lower ends, (n x 2)
   * @param {Float32Array|Float64Array} upper
   * @param {number} n
   * @returns {Uint8Array} 1 only if that is shown; 0 if two points with different labels were
   *   found, neither could be shown, or an end is not finite
   * @throws {RangeError} if a lower end is above the upper one
   */
  certain(lower, upper, n) {
    return Uint8Array.from({ length: n }, (_, i) => {
      const box = [lower[2 * i], lower[2 * i + 1], upper[2 * i], upper[2 * i + 1]];
      const isBox = !(box[0] > box[2] || box[1] > box[3]);
      if (!isBox) throw new RangeError(`lower is above upper in box ${i}`);
      const isUsable = box.every((end) => Math.abs(end) < LARGEST);
      return isUsable && this.#isCertain(box) ? 1 : 0;
    });
  }

  #isCertain(box) {
    const label = this.#labelAt(...middleOf(box));
    const isMixed = [box.slice(0, 2), box.slice(2)].some((p) => this.#labelAt(...p) !== label);
    if (isMixed) return false;
    if (!this.root.holds(box)) return this.#winsInPieces(box, this.everyone, label);
    const open = this.root.openParts(box, label);
    return open !== null && open.every(({ part, cells }) => this.#winsInPieces(part, cells, label));
  }

  /** Tell whether a label wins in a box, which is halved where that cannot be shown. */
  #winsInPieces(box, cells, label) {
    let pieces = [{ box, cells }];
    for (let depth = 0; depth <= MAX_SPLITS; depth++) {
      const unsure = [];
      for (const piece of pieces) {
        const near = this.votes.select(piece.box, piece.cells);
        if (this.votes.wins(near, label)) continue;
        if (this.votes.labelAt(...middleOf(piece.box), near) !== label) return false;
        unsure.push({ box: piece.box, cells: near });
      }
      if (!unsure.length) return true;
      pieces = unsure.flatMap(halves);
    }
    return false;
  }

  #labelAt(px, py) {
    this.grid.nearest(px, py, this.near);
    return this.votes.commonest(this.near.owners);
  }
}

/** The tile of the whole map: the smallest square about the stored cells, and some space around. */
function rootOf({ left, bottom, side, nx, ny }, votes, everyone) {
  const width = side * Math.max(nx, ny);
  const around = AROUND * width;
  const box = [left - around, bottom - around, left + width + around, bottom + width + around];
  return new Tile(box, everyone, votes, FINEST * width);
}

/** Cut a piece across its longer side; the cells that can vote in it are those of its halves. */
function halves({ box: [left, bottom, right, top], cells }) {
  const [x, y] = middleOf([left, bottom, right, top]);
  const boxes = right - left >= top - bottom
    ? [[left, bottom, x, top], [x, bottom, right, top]]
    : [[left, bottom, right, y], [left, y, right, top]];
  return boxes.map((box) => ({ box, cells }));
}

function middleOf([left, bottom, right, top]) {
  return [(left + right) / 2, (bottom + top) / 2];
}
