// The backward pass of CROWN (eq. 20 to 39): a row of coefficients of a layer's neurons becomes,
// layer by layer, a linear function of the input, whose largest value over a ball is known.
// `upper_bound` of `rpumap.verification.bounds`, for one cell, and a row with its opposite at a
// time, since a lower bound is minus an upper bound of minus the function.

/** Rows of coefficients on their way from the outputs to the input of one network. */
export class BackwardPass {
  /** @param {ReturnType<typeof import("./network.js").inDouble>} net */
  constructor(net) {
    this.net = net;
    // of each layer: coefficients of its inputs, for the row and its opposite
    this.rows = net.map(({ nIn }) => [new Float64Array(nIn), new Float64Array(nIn)]);
    // the same times the slopes, of those neurons only that may be active
    const widest = Math.max(...net.map(({ nOut }) => nOut));
    this.scaled = [new Float64Array(widest), new Float64Array(widest)];
  }

  /**
   * Bound `row · phi + offset` from both sides, with phi the outputs of the last hidden layer.
   *
   * @param {Float64Array} weight the row is in it
   * @param {number} start where the row begins
   * @param {number} offset
   * @param {import("./neurons.js").Neurons[]} hidden all hidden layers below, relaxed
   * @param {Float64Array} first inputs of the first layer's neurons at the centre of the ball
   * @param {{eps: number, norm: string}} ball
   * @returns {[number, number]} lower and upper bound
   */
  bound(weight, start, offset, hidden, first, { eps, norm }) {
    const depth = hidden.length;
    const [row, opposite] = this.rows[depth];
    for (let i = 0; i < row.length; i++) opposite[i] = -(row[i] = weight[start + i]);
    let [upper, negated] = [offset, -offset];
    for (let k = depth - 1; k >= 0; k--) {
      const { weight: W, bias, nIn } = this.net[k];
      // y = W phi + b on the way to the input, where the centre is known: y = W1 x0 + b1 there
      const centre = k > 0 ? bias : first;
      const [above, below] = this.rows[k + 1];
      const [p, q] = this.scaled;
      upper += scale(above, hidden[k], centre, p);
      negated += scale(below, hidden[k], centre, q);
      combine(p, q, hidden[k].active, hidden[k].nActive, W, nIn, this.rows[k]);
    }
    const [v, w] = this.rows[0];
    return [-(negated + eps * dualNorm(w, norm)), upper + eps * dualNorm(v, norm)];
  }
}

/**
 * The norm that gives the largest product with a vector of a unit ball (eq. 39).
 *
 * @param {Float64Array} v
 * @param {"linf"|"l2"|"l1"} norm of the ball
 * @returns {number}
 */
export function dualNorm(v, norm) {
  let total = 0;
  if (norm === "linf") {
    for (let i = 0; i < v.length; i++) total += Math.abs(v[i]);
    return total;
  }
  if (norm === "l1") {
    for (let i = 0; i < v.length; i++) total = Math.max(total, Math.abs(v[i]));
    return total;
  }
  for (let i = 0; i < v.length; i++) total += v[i] * v[i];
  return Math.sqrt(total);
}

/** Multiply coefficients with the slopes that their signs ask for (eq. 20); return a constant. */
function scale(row, neurons, centre, scaled) {
  const { active, nActive, lowerSlope, upperSlope, intercept, margin } = neurons;
  let constant = 0;
  for (let a = 0; a < nActive; a++) {
    const i = active[a];
    const c = row[i];
    if (c > 0) {
      scaled[a] = c * upperSlope[i];
      constant += scaled[a] * (centre[i] + margin[i]) + c * intercept[i];
    } else {
      scaled[a] = c * lowerSlope[i];
      constant += scaled[a] * (centre[i] - margin[i]);
    }
  }
  return constant;
}

/** Add up rows of weights with two sets of coefficients (eq. 37), four rows at a time. */
function combine(p, q, active, nActive, W, nIn, [v, w]) {
  v.fill(0);
  w.fill(0);
  let a = 0;
  for (; a + 4 <= nActive; a += 4) {
    const [p0, p1, p2, p3] = [p[a], p[a + 1], p[a + 2], p[a + 3]];
    const [q0, q1, q2, q3] = [q[a], q[a + 1], q[a + 2], q[a + 3]];
    let i0 = active[a] * nIn;
    let i1 = active[a + 1] * nIn;
    let i2 = active[a + 2] * nIn;
    let i3 = active[a + 3] * nIn;
    for (let g = 0; g < nIn; g++) {
      const [w0, w1, w2, w3] = [W[i0++], W[i1++], W[i2++], W[i3++]];
      v[g] += p0 * w0 + p1 * w1 + (p2 * w2 + p3 * w3);
      w[g] += q0 * w0 + q1 * w1 + (q2 * w2 + q3 * w3);
    }
  }
  for (; a < nActive; a++) {
    let i = active[a] * nIn;
    for (let g = 0; g < nIn; g++, i++) {
      v[g] += p[a] * W[i];
      w[g] += q[a] * W[i];
    }
  }
}
