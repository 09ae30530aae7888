// What is known of the neurons of a layer while bounds are computed: their bounds, the linear
// relaxation of their ReLUs, and what rounding may have done. `relax`, `_margin` and `_intervals`
// of `rpumap.verification.bounds`, for one cell.

const TINY = 2 ** -1022; // smallest normal number

/** State of a layer of `n` neurons, reused from cell to cell. */
export class Neurons {
  /** @param {number} n number of neurons */
  constructor(n) {
    this.n = n;
    this.lower = new Float64Array(n); // bounds of the input of each ReLU
    this.upper = new Float64Array(n);
    this.margin = new Float64Array(n); // what rounding may do to it
    this.lowerSlope = new Float64Array(n); // lowerSlope y <= max(y, 0)
    this.upperSlope = new Float64Array(n); // max(y, 0) <= upperSlope y + intercept
    this.intercept = new Float64Array(n);
    this.low = new Float64Array(n); // bounds of the output
    this.high = new Float64Array(n);
    this.active = new Int32Array(n); // neurons that may be above 0; no output depends on others
    this.nActive = 0;
    this.highest = 0; // largest bound of an output
  }

  /**
   * Limit what rounding does to W x + b, where no value of x is larger than `reach`.
   *
   * @param {{bias: Float64Array, sums: Float64Array, nIn: number}} layer
   * @param {number} reach
   * @param {number} gamma relative error of a sum, beside the sum of magnitudes
   * @returns {boolean} whether a sum may overflow
   */
  setMargin({ bias, sums, nIn }, reach, gamma) {
    let most = 0;
    for (let i = 0; i < this.n; i++) {
      const magnitude = sums[i] * reach + Math.abs(bias[i]);
      this.margin[i] = gamma * magnitude + TINY * (sums[i] + nIn + 1);
      most = Math.max(most, magnitude);
    }
    return !(most * (1 + gamma) < Number.MAX_VALUE); // NaN counts as overflow
  }

  /** Move the bounds outward by the margin. */
  widen() {
    for (let i = 0; i < this.n; i++) {
      this.lower[i] -= this.margin[i];
      this.upper[i] += this.margin[i];
    }
  }

  /**
   * Enclose each ReLU between two linear functions (eq. 13), and list those that may be active.
   *
   * The lower slope of an unstable neuron is 1 if its upper bound is further from 0 than its lower
   * one, and else 0. The chord is lifted a little, since rounded it may pass below its end.
   *
   * @param {number} gamma as in `setMargin`
   */
  relax(gamma) {
    this.nActive = this.highest = 0;
    for (let i = 0; i < this.n; i++) {
      const below = Math.max(-this.lower[i], 0);
      const above = Math.max(this.upper[i], 0);
      const slope = above / (above + below + TINY);
      this.lowerSlope[i] = slope > 0.5 ? 1 : 0;
      this.upperSlope[i] = slope;
      this.intercept[i] = (1 + gamma) * Math.max(slope * below, above * (1 - slope));
      this.low[i] = Math.max(this.lower[i], 0);
      this.high[i] = above;
      this.highest = Math.max(this.highest, above);
      if (!(above <= 0)) this.active[this.nActive++] = i; // NaN counts as active
    }
  }

  /**
   * Bound W x + b by interval arithmetic, with x the outputs of the layer before.
   *
   * @param {{weight: Float64Array, bias: Float64Array, nIn: number}} layer
   * @param {Neurons} before
   * @param {boolean} relaxed whether the outputs are what the relaxed ReLUs let through, which
   *   bounds by linear functions can only make tighter, or else what the ReLUs do
   */
  setIntervals({ weight, bias, nIn }, before, relaxed) {
    const { active, nActive } = before;
    const [middle, half] = [new Float64Array(nActive), new Float64Array(nActive)];
    for (let a = 0; a < nActive; a++) {
      const i = active[a];
      const low = relaxed ? before.lowerSlope[i] * before.lower[i] : before.low[i];
      middle[a] = (low + before.high[i]) / 2;
      half[a] = (before.high[i] - low) / 2;
    }
    for (let j = 0; j < this.n; j++) {
      let [sum, deviation] = [bias[j], 0];
      for (let a = 0; a < nActive; a++) {
        const w = weight[j * nIn + active[a]];
        sum += w * middle[a];
        deviation += Math.abs(w) * half[a];
      }
      this.lower[j] = sum - deviation;
      this.upper[j] = sum + deviation;
    }
  }
}
