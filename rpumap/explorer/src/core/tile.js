// Tiles of the map: squares, each with the label that wins everywhere in it, or else cut into four
// when a box asks for it.

const NOBODY = -1;
const MOST_OPEN = 1000; // parts; only where cells lie on top of each other there are so many

/** A square of the map. */
export class Tile {
  /**
   * @param {number[]} box left, bottom, right and top
   * @param {Int32Array} cells stored cells that can vote in it
   * @param {import("./votes.js").Votes} votes
   * @param {number} finest tiles that are no wider are not cut
   */
  constructor(box, cells, votes, finest) {
    Object.assign(this, { votes, finest });
    [this.left, this.bottom, this.right, this.top] = box;
    this.x = (this.left + this.right) / 2;
    this.y = (this.bottom + this.top) / 2;
    this.cells = votes.select(box, cells);
    this.label = votes.labelAt(this.x, this.y, this.cells);
    this.winner = votes.wins(this.cells, this.label) ? this.label : NOBODY;
    this.parts = null;
  }

  /** Tell whether a box lies in the tile. */
  holds([left, bottom, right, top]) {
    return this.left <= left && right <= this.right && this.bottom <= bottom && top <= this.top;
  }

  /**
   * Find where in a box it is not known whether a label wins.
   *
   * @param {number[]} box
   * @param {number} label
   * @returns {{part: number[], cells: Int32Array}[]|null} parts of the box in tiles that are not
   *   cut, with the cells that can vote there; null if some point of the box has another label, or
   *   there are too many such parts
   */
  openParts(box, label) {
    const open = [];
    return this.#agrees(box, label, open) ? open : null;
  }

  #agrees(box, label, open) {
    const [left, bottom, right, top] = box;
    if (right < this.left || left > this.right) return true;
    if (top < this.bottom || bottom > this.top) return true;
    if (this.winner !== NOBODY) return this.winner === label;
    const hasMiddle = left <= this.x && this.x <= right && bottom <= this.y && this.y <= top;
    if (hasMiddle && this.label !== label) return false;
    if (this.right - this.left > this.finest) {
      this.parts ??= this.#cut();
      return this.parts.every((part) => part.#agrees(box, label, open));
    }
    const low = [Math.max(left, this.left), Math.max(bottom, this.bottom)];
    const high = [Math.min(right, this.right), Math.min(top, this.top)];
    open.push({ part: [...low, ...high], cells: this.cells });
    return open.length < MOST_OPEN;
  }

  #cut() {
    const { left, bottom, right, top, x, y } = this;
    const lower = [[left, bottom, x, y], [x, bottom, right, y]];
    const upper = [[left, y, x, top], [x, y, right, top]];
    return [...lower, ...upper].map((box) => new Tile(box, this.cells, this.votes, this.finest));
  }
}
