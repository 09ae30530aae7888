// The network that maps the genes of a cell to its coordinates: linear layers with a ReLU between
// each two, computed in double precision as `rpumap.estimator.embed` does.

/**
 * @typedef {object} Layer
 * @property {Float32Array|Float64Array} weight (nOut x nIn), row by row
 * @property {Float32Array|Float64Array} bias (nOut)
 * @property {number} nIn
 * @property {number} nOut
 */

const CELLS_AT_ONCE = 64; // their values at one layer stay in the cache
const known = new WeakMap();

/**
 * The layers in double precision, with the sum of magnitudes of each row of weights.
 *
 * They are computed once for each array of layers, which must not be changed afterwards.
 *
 * @param {Layer[]} layers from the input on
 * @returns {{weight: Float64Array, bias: Float64Array, sums: Float64Array, nIn: number,
 *   nOut: number}[]}
 * @throws {RangeError} if there is no layer, or one takes another number than the last one gives
 */
export function inDouble(layers) {
  if (!known.has(layers)) {
    checkFit(layers);
    known.set(layers, layers.map(widen));
  }
  return known.get(layers);
}

function checkFit(layers) {
  if (!layers.length) throw new RangeError("a network has one layer or more, got none");
  layers.forEach(({ weight, bias, nIn, nOut }, i) => {
    const passed = i ? layers[i - 1].nOut : nIn;
    if (passed !== nIn || weight.length !== nIn * nOut || bias.length !== nOut) {
      throw new RangeError(
        `layer ${i} of the network must have ${nOut} x ${passed} weights and ${nOut} biases, ` +
          `got ${weight.length} and ${bias.length}`,
      );
    }
  });
}

function widen({ weight, bias, nIn, nOut }) {
  const sums = new Float64Array(nOut);
  for (let i = 0; i < weight.length; i++) sums[Math.floor(i / nIn)] += Math.abs(weight[i]);
  return { weight: Float64Array.from(weight), bias: Float64Array.from(bias), sums, nIn, nOut };
}

/**
 * Compute the coordinates of cells.
 *
 * @param {Layer[]} layers
 * @param {Float32Array|Float64Array} X z-scores, (n x nInputs), row by row
 * @param {number} n number of cells
 * @returns {Float64Array} (n x nOutputs)
 * @throws {RangeError} if `X` holds another number of values
 */
export function forward(layers, X, n) {
  const net = inDouble(layers);
  const { nIn } = net[0];
  const nOut = net[net.length - 1].nOut;
  if (X.length !== n * nIn) {
    throw new RangeError(`${n} cells need ${n * nIn} values, ${nIn} each, got ${X.length}`);
  }
  const Z = new Float64Array(n * nOut);
  for (let start = 0; start < n; start += CELLS_AT_ONCE) {
    const m = Math.min(CELLS_AT_ONCE, n - start);
    Z.set(forwardFrom(net, applyLayer(net[0], X.subarray(start * nIn), m), m), start * nOut);
  }
  return Z;
}

/**
 * Compute the outputs of a network from the inputs of its first layer's neurons.
 *
 * @param {ReturnType<typeof inDouble>} net
 * @param {Float64Array} first (n x net[0].nOut)
 * @param {number} n
 * @returns {Float64Array} (n x nOutputs)
 */
export function forwardFrom(net, first, n) {
  let values = first;
  for (let depth = 1; depth < net.length; depth++) {
    const active = new Float64Array(n * net[depth].nIn);
    for (let i = 0; i < active.length; i++) active[i] = values[i] > 0 ? values[i] : 0;
    values = applyLayer(net[depth], active, n);
  }
  return values;
}

/**
 * Compute W x + b for some cells.
 *
 * @param {ReturnType<typeof inDouble>[0]} layer
 * @param {Float32Array|Float64Array} X (n x nIn), or more
 * @param {number} n
 * @returns {Float64Array} (n x nOut)
 */
export function applyLayer({ weight, bias, nIn, nOut }, X, n) {
  const Y = new Float64Array(n * nOut);
  for (let row = 0; row < n; row++) {
    const x = row * nIn;
    let j = 0;
    // four sums at a time, so that each value is fetched once for four products
    for (; j + 4 <= nOut; j += 4) {
      let [a, b, c, d] = [bias[j], bias[j + 1], bias[j + 2], bias[j + 3]];
      let [p, q, r, s] = [j * nIn, (j + 1) * nIn, (j + 2) * nIn, (j + 3) * nIn];
      for (let i = x; i < x + nIn; i++) {
        const value = X[i];
        a += value * weight[p++];
        b += value * weight[q++];
        c += value * weight[r++];
        d += value * weight[s++];
      }
      Y[row * nOut + j] = a;
      Y[row * nOut + j + 1] = b;
      Y[row * nOut + j + 2] = c;
      Y[row * nOut + j + 3] = d;
    }
    for (; j < nOut; j++) {
      let sum = bias[j];
      for (let i = 0; i < nIn; i++) sum += X[x + i] * weight[j * nIn + i];
      Y[row * nOut + j] = sum;
    }
  }
  return Y;
}

/**
 * Compute the output of a network along a direction, and its gradient.
 *
 * @param {Layer[]} layers
 * @param {Float32Array|Float64Array} x one cell, (nInputs)
 * @param {ArrayLike<number>} direction (nOutputs)
 * @returns {{value: number, slope: Float64Array}} direction · f(x), and its derivatives, (nInputs)
 */
export function gradient(layers, x, direction) {
  const net = inDouble(layers);
  const before = [applyLayer(net[0], x, 1)]; // inputs of the neurons of each layer
  for (let depth = 1; depth < net.length; depth++) {
    before.push(applyLayer(net[depth], before[depth - 1].map((y) => Math.max(y, 0)), 1));
  }
  const output = before[net.length - 1];
  const value = output.reduce((sum, z, j) => sum + z * direction[j], 0);
  let slope = Float64Array.from(direction);
  for (let depth = net.length - 1; depth >= 0; depth--) {
    slope = applyTransposed(net[depth], slope);
    if (depth > 0) slope = slope.map((g, i) => (before[depth - 1][i] > 0 ? g : 0));
  }
  return { value, slope };
}

function applyTransposed({ weight, nIn, nOut }, y) {
  const result = new Float64Array(nIn);
  for (let j = 0; j < nOut; j++) {
    if (y[j] === 0) continue;
    for (let i = 0; i < nIn; i++) result[i] += y[j] * weight[j * nIn + i];
  }
  return result;
}
