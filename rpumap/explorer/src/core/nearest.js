// The smallest of many numbers, with what each belongs to.

/** The k smallest of the numbers that were offered, in order. */
export class Smallest {
  /** @param {number} k */
  constructor(k) {
    this.k = k;
    this.values = new Float64Array(k).fill(Infinity);
    this.owners = new Int32Array(k).fill(-1);
  }

  /** The largest of them; Infinity until k were offered. What is not below it changes nothing. */
  get most() {
    return this.values[this.k - 1];
  }

  /** Forget all. */
  clear() {
    this.values.fill(Infinity);
    this.owners.fill(-1);
  }

  /**
   * @param {number} value below `most`
   * @param {number} owner
   */
  add(value, owner) {
    let i = this.k - 1;
    for (; i > 0 && this.values[i - 1] > value; i--) {
      this.values[i] = this.values[i - 1];
      this.owners[i] = this.owners[i - 1];
    }
    this.values[i] = value;
    this.owners[i] = owner;
  }
}
