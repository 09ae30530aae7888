/**
 * Lists of features as Cell Ranger writes them: genes, and others that are left out.
 */

import { InputError, some, withCommas } from "./input_error.js";

const GENE = "Gene Expression";

/**
 * Choose the features that are genes; those of antibodies and the like are no part of a library.
 *
 * @param {string[]} types The type of each feature; empty if the file has none, as older ones.
 * @param {number} n Features.
 * @param {string} where Where they stand, for messages.
 * @returns {{place: Int32Array, n: number, remarks: string[]}} For each feature its place among the
 *   genes, -1 if it is none; the number of genes; and what was left out.
 * @throws {InputError} If there are types, but none of them is that of genes.
 */
export function chooseGenes(types, n, where) {
  if (!types.length) return { place: Int32Array.from({ length: n }, (_, i) => i), n, remarks: [] };
  let nGenes = 0;
  const place = Int32Array.from(types, (type) => (type === GENE ? nGenes++ : -1));
  const others = [...new Set(types)].filter((type) => type !== GENE);
  if (!nGenes) {
    throw new InputError(`${where} names no feature of the type '${GENE}', but ${some(others)}`);
  }
  const nOthers = n - nGenes;
  const remark = `${withCommas(nOthers)} features that are no genes were left out: ${some(others)}`;
  return { place, n: nGenes, remarks: nOthers ? [remark] : [] };
}

/**
 * Keep what belongs to genes.
 *
 * @param {string[]} values One for each feature.
 * @param {{place: Int32Array}} genes As `chooseGenes` returns it.
 * @returns {string[]}
 */
export function ofGenes(values, genes) {
  return values.filter((_, feature) => genes.place[feature] >= 0);
}

/**
 * Hand entries on to a sink, without those of features that are no genes.
 *
 * @param {object} sink Such as PanelCounts.
 * @param {{place: Int32Array, n: number}} genes As `chooseGenes` returns it.
 * @param {Int32Array} cells
 * @param {Int32Array} features Changed: the places of the genes.
 * @param {Float64Array|Float32Array|Int32Array} values
 * @param {number} n How many entries there are.
 * @returns {boolean} Whether the sink has enough.
 */
export function takeGenes(sink, genes, cells, features, values, n) {
  const { place } = genes;
  let kept = n;
  if (genes.n < place.length) {
    kept = 0;
    for (let i = 0; i < n; i++) {
      const gene = place[features[i]];
      if (gene < 0) continue;
      cells[kept] = cells[i];
      features[kept] = gene;
      values[kept++] = values[i];
    }
  }
  sink.entries(cells, features, values, kept);
  return sink.done;
}
