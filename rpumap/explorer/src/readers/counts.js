/**
 * Counts of the reference's genes, with library sizes, from a table that is read piece by piece.
 *
 * Mirrors rpumap/_counts.py and `_compare_shares` of rpumap/preprocessing.py: what is refused
 * there is refused here, for the same reasons. Of the table only the genes of the reference are
 * kept; of all others what the library sizes and the checks need. A cell may have several entries
 * of one gene, which are added up; the checks look at each of them.
 */

import { InputError, shortNumber } from "./input_error.js";

// No logarithm of a count comes near it, and its exponential is still a number.
const LARGEST_LOGARITHM = 80;
// No logarithm of a count, natural or of base 2, of a million molecules a cell.
const LARGEST_LOG_COUNT = 25;
const MOST_FRACTIONS = 0.5; // share of whole values, up to which they may be transformed
// What fewer cells have in common says more of these cells than of the table.
const LEAST_CELLS = 10;
// Of so many counts that are not zero some are 2 or more, unless cells are extremely shallow.
const LEAST_ONES = 1000;
// Far beyond all counts and fractions of counts.
const SMALLEST_VALUE = 1e-30;
const LARGEST_VALUE = 1e30;
// By what factor the share of the library in the reference's genes may differ from that of the
// training cells; and where row sums of fewer genes than on the other side explain it.
const USUAL_FACTOR = 2;
const CUT_FACTOR = 1.25;

const BUFFER = 1 << 16; // entries of dense tables that are handed on at once
const EXPM1 = Float64Array.from({ length: LARGEST_LOGARITHM }, (_, count) => Math.expm1(count));
const LIBRARY_SIZE = "obs['library_size']";

/** Kinds of bad values, in the order in which they are looked for. */
const BAD = [
  {
    is: (value) => Number.isNaN(value),
    name: "missing values (NaN)",
    toDo:
      "a join of tables leaves them for genes that one table lacks. Leave those genes or cells out",
  },
  {
    is: (value) => Math.abs(value) === Infinity,
    name: "infinite values",
    toDo: "raw counts must be finite",
  },
  {
    is: (value) => value < 0,
    name: "negative values",
    toDo: "counts are not negative. Raw counts are needed, not z-scores or other scaled values",
  },
  {
    is: () => true,
    name: `values below ${SMALLEST_VALUE} or above ${LARGEST_VALUE}`,
    toDo: "these are no counts",
  },
];

/** Collects what a reader finds in a table, in pieces of any order. */
export class PanelCounts {
  /**
   * @param {number} nCells Rows of the table.
   * @param {Int32Array} panelOf For each column its place in the panel, -1 if it is not there; as
   *   `matchGenes` returns it.
   * @param {number} nGenes Genes of the panel, those of the reference.
   */
  constructor(nCells, panelOf, nGenes) {
    this.nCells = nCells;
    this.nColumns = panelOf.length;
    this.nGenes = nGenes;
    /** Counts of the genes of the panel (n_cells x n_genes, row-major); 0 for a missing gene. */
    this.panel = new Float32Array(nCells * nGenes);
    /** Sums of the counts of each cell in all columns. */
    this.totals = new Float64Array(nCells);
    /** Values that are not zero, and those of them that are whole, and that are 1. */
    this.nValues = 0;
    this.nWhole = 0;
    this.nOnes = 0;
    this.largest = 0;
    /** Sums of exp(value) - 1 of each cell; they mean nothing once a value is too large. */
    this.undone = new Float64Array(nCells);
    /** A reader stops when this is true. */
    this.done = false;
    this._panelOf = panelOf;
    this._bad = BAD.map(() => null);
    this._buffer = null;
  }

  /**
   * Take single values.
   *
   * @param {Int32Array} cells Rows, at least `n` of them.
   * @param {Int32Array} columns Columns.
   * @param {ArrayLike<number>} values
   * @param {number} n How many.
   */
  entries(cells, columns, values, n) {
    const { panel, totals, nGenes } = this;
    const panelOf = this._panelOf;
    let [nValues, nWhole, nOnes, largest] = [0, 0, 0, this.largest];
    for (let i = 0; i < n; i++) {
      const value = values[i];
      if (value === 0) continue;
      nValues++;
      const cell = cells[i];
      if (!(value >= SMALLEST_VALUE && value <= LARGEST_VALUE)) {
        this._addBad(value, cell, columns[i]);
        continue;
      }
      totals[cell] += value;
      if (value === Math.floor(value)) nWhole++;
      if (value === 1) nOnes++;
      if (value > largest) largest = value;
      const place = panelOf[columns[i]];
      if (place >= 0) panel[cell * nGenes + place] += value;
    }
    this.nValues += nValues;
    this.nWhole += nWhole;
    this.nOnes += nOnes;
    this.largest = largest;
    if (largest < LARGEST_LOGARITHM) this._undoLogarithms(cells, values, n);
  }

  /**
   * Take a block of a dense table.
   *
   * @param {ArrayLike<number>} values nCells x nColumns, row-major.
   * @param {number} firstCell Row of the block's first one.
   * @param {number} nCells Rows of the block.
   * @param {number} firstColumn Column of the block's first one.
   * @param {number} nColumns Columns of the block.
   */
  dense(values, firstCell, nCells, firstColumn, nColumns) {
    this._buffer ??= {
      cells: new Int32Array(BUFFER),
      columns: new Int32Array(BUFFER),
      values: new Float64Array(BUFFER),
    };
    const { cells, columns, values: kept } = this._buffer;
    let n = 0;
    for (let cell = 0, at = 0; cell < nCells; cell++) {
      for (let column = 0; column < nColumns; column++, at++) {
        const value = values[at];
        if (value === 0) continue;
        cells[n] = firstCell + cell;
        columns[n] = firstColumn + column;
        kept[n++] = value;
        if (n === BUFFER) {
          this.entries(cells, columns, kept, n);
          n = 0;
        }
      }
    }
    this.entries(cells, columns, kept, n);
  }

  /** Whether all values are whole numbers. */
  get isWhole() {
    return this.nWhole === this.nValues;
  }

  _undoLogarithms(cells, values, n) {
    const undone = this.undone;
    for (let i = 0; i < n; i++) {
      const value = values[i];
      if (value > 0) undone[cells[i]] += EXPM1[value] ?? Math.expm1(value);
    }
  }

  _addBad(value, cell, column) {
    const kind = BAD.findIndex(({ is }) => is(value));
    const bad = (this._bad[kind] ??= {
      n: 0,
      inCell: new Uint8Array(this.nCells),
      inColumn: new Uint8Array(this.nColumns),
      cell,
      column,
    });
    bad.n++;
    bad.inCell[cell] = 1;
    bad.inColumn[column] = 1;
    if (cell < bad.cell || (cell === bad.cell && column < bad.column)) {
      Object.assign(bad, { cell, column });
    }
  }
}

/**
 * Refuse values that are no counts; as `_check_values`.
 *
 * @param {PanelCounts} counts
 * @param {string} where Which part of the table they are.
 * @param {string[]} cellNames
 * @param {string[]} geneNames One for each column.
 * @throws {InputError} If values are missing, infinite, negative, or far beyond counts.
 */
export function checkValues(counts, where, cellNames, geneNames) {
  const kind = counts._bad.findIndex((bad) => bad !== null);
  if (kind < 0) return;
  const { n, inCell, inColumn, cell, column } = counts._bad[kind];
  throw new InputError(
    `${where} holds ${n} ${BAD[kind].name}, in ${sum(inCell)} of ${counts.nCells} cells and ` +
      `${sum(inColumn)} of ${counts.nColumns} genes (the first in cell '${cellNames[cell]}', ` +
      `gene '${geneNames[column]}'): ${BAD[kind].toDo}`,
    { seeOtherParts: true },
  );
}

/**
 * Return the library size of each cell; as `_stored_sizes`.
 *
 * @param {PanelCounts} counts
 * @param {?Float64Array} stored `obs["library_size"]` of the table (n_cells), NaN where it is
 *   missing; null if there is none.
 * @param {string} where Which part of the table the counts are.
 * @param {string[]} cellNames
 * @returns {Float64Array} The stored sizes, at least the sums of the cells' counts; without stored
 *   ones these sums.
 * @throws {InputError} If a stored size is no finite number, or below the counts of its cell.
 */
export function librarySizes(counts, stored, where, cellNames) {
  const { totals } = counts;
  if (stored === null) return totals.slice();
  // sums in single precision are a little off, and those of fractions may have been rounded
  const rounding = counts.isWhole ? () => 0 : (total) => Math.min(1, 0.01 * total);
  const problems = [
    ["is missing", (size) => Number.isNaN(size)],
    ["is negative or infinite", (size) => !Number.isFinite(size) || size < 0],
    [
      "is below the counts of the cell",
      (size, total) => size < total - 1e-5 * total - rounding(total),
    ],
  ];
  for (const [problem, isBad] of problems) {
    const bad = Uint8Array.from(stored, (size, cell) => isBad(size, totals[cell]));
    const first = bad.indexOf(1);
    if (first < 0) continue;
    throw new InputError(
      `${LIBRARY_SIZE} ${problem} in ${sum(bad)} of ${bad.length} cells; cell ` +
        `'${cellNames[first]}' has ${shortNumber(stored[first], 10)} there and ` +
        `${shortNumber(totals[first], 10)} counts in ${where}: it must hold the number of ` +
        "molecules of each cell in all genes, not on a log scale; without that column the sums " +
        "of the cells' counts are taken",
    );
  }
  return stored.map((size, cell) => Math.max(size, totals[cell]));
}

/**
 * Refuse counts that were clearly normalised, or are logarithms; as `refuse_transformed`.
 *
 * Fractions alone are no reason: corrections for ambient RNA leave them.
 *
 * @param {PanelCounts} counts
 * @param {string} where Which part of the table they are.
 * @throws {InputError} If they look so.
 */
export function refuseTransformed(counts, where) {
  const { nValues, nWhole, largest } = counts;
  if (!nValues || nWhole / nValues > MOST_FRACTIONS) return;
  const look = normalised(counts);
  if (!look && largest >= LARGEST_LOG_COUNT) return;
  const top = shortNumber(largest, 3);
  throw new InputError(
    `counts are not whole numbers in ${where}` +
      (look || ` (none is above ${top}, so they look log-transformed)`) +
      ": raw counts are needed, since they are scaled here as those of the reference were",
    { seeOtherParts: true },
  );
}

/**
 * Refuse a table without any counts, and say what tells against raw counts; as `check_quality`.
 *
 * @param {PanelCounts} counts
 * @param {Float64Array} sizes Library sizes.
 * @param {boolean} areStored Whether the table held them.
 * @param {string} where Which part of the table they are.
 * @returns {{text: string, seeOtherParts: boolean}[]} Remarks, and whether another part of the
 *   table may be better.
 * @throws {InputError} If all counts are zero.
 */
export function checkQuality(counts, sizes, areStored, where) {
  if (!counts.nValues) {
    throw new InputError(`all counts are zero in ${where}`, { seeOtherParts: true });
  }
  const remarks = [];
  const doubt = doubtOf(counts, where);
  if (doubt) {
    const text = `counts ${doubt}: raw counts are expected, not normalised or binary ones`;
    remarks.push({ text, seeOtherParts: true });
  }
  const isConstant = (values) => values.every((value) => value === values[0]);
  const enough = sizes.length >= LEAST_CELLS;
  if (areStored && enough && isConstant(sizes) && !isConstant(counts.totals)) {
    const text =
      `${LIBRARY_SIZE} is ${shortNumber(sizes[0], 10)} in every cell: it must hold the number of ` +
      "molecules of each cell, not what cells were or will be scaled to";
    remarks.push({ text, seeOtherParts: false });
  }
  const nEmpty = sizes.reduce((n, size) => n + (size === 0), 0);
  if (nEmpty) {
    remarks.push({ text: `${nEmpty} cells have no counts at all`, seeOtherParts: false });
  }
  return remarks;
}

/**
 * Say whether the panel holds another share of the library than in training; as `_compare_shares`.
 *
 * @param {PanelCounts} counts
 * @param {Float64Array} sizes Library sizes.
 * @param {boolean} areStored Whether the table held them.
 * @param {Uint8Array} present Which genes of the panel the table has.
 * @param {object} reference Its `mean`, `panelShare`, `librarySizeStored` and `nFeaturesIn`.
 * @returns {?string} A remark, or null.
 */
export function compareShares(counts, sizes, areStored, present, reference) {
  const { mean, panelShare, librarySizeStored, nFeaturesIn } = reference;
  const expected = (panelShare * sum(mean.filter((_, gene) => present[gene]))) / sum(mean);
  if (!(expected > 0)) return null;
  const share = medianShare(counts, sizes);
  const ratio = share / expected;
  // row sums are smaller than library sizes if genes were left out, here or in training
  const cutHere = !areStored && (counts.nColumns < nFeaturesIn || librarySizeStored);
  const cutThere = !librarySizeStored && (counts.nColumns > nFeaturesIn || areStored);
  const [cut, usual] =
    counts.nCells < LEAST_CELLS ? [USUAL_FACTOR, Infinity] : [CUT_FACTOR, USUAL_FACTOR];
  if (ratio >= 1 / (cutThere ? cut : usual) && ratio <= (cutHere ? cut : usual)) return null;
  const sizesOf = (stored, n) => (stored ? LIBRARY_SIZE : `row sums of ${n} genes`);
  return (
    `the genes of the reference hold ${shortNumber(share, 3)} of a cell's library here and ` +
    `${shortNumber(expected, 3)} in the training data (medians), ${shortNumber(ratio, 3)} times ` +
    "as much: scaled counts differ by that factor. Library sizes are " +
    `${sizesOf(areStored, counts.nColumns)} here, ${sizesOf(librarySizeStored, nFeaturesIn)} in ` +
    "the training data. If genes were left out of either, store the total counts of its cells in " +
    `all genes as ${LIBRARY_SIZE}. Cells of other types can differ as well`
  );
}

/** Say why counts may not be raw ones, "" if nothing tells against it; as `_doubt`. */
function doubtOf(counts, where) {
  if (!counts.isWhole) return `are not whole numbers in ${where}${normalised(counts)}`;
  if (counts.nValues >= LEAST_ONES && counts.nOnes === counts.nValues) {
    return `are 0 or 1 only in ${where}`;
  }
  const { n, range, largest, middle } = spread(counts.totals);
  // the same sum in all cells can be the work of a program that draws counts
  if (n >= LEAST_CELLS && range > 0 && range < 1e-2 * largest) {
    return `look rounded in ${where} (every cell sums to about ${shortNumber(middle, 4)})`;
  }
  return "";
}

/** Say how counts seem to have been normalised: all cells then have the same sum. */
function normalised(counts) {
  const scales = [["normalised", counts.totals]];
  if (counts.largest < LARGEST_LOGARITHM) {
    scales.push(["normalised and log-transformed", counts.undone]);
  }
  for (const [name, sums] of scales) {
    const { n, range, largest, middle } = spread(sums);
    if (n > 1 && range < 1e-3 * largest) {
      return ` (they look ${name}: every cell sums to ${shortNumber(middle, 4)})`;
    }
  }
  return "";
}

/** Describe the sums of those cells that have any counts. */
function spread(sums) {
  const sorted = sums.filter((value) => value > 0).sort();
  const largest = sorted[sorted.length - 1];
  return { n: sorted.length, range: largest - sorted[0], largest, middle: median(sorted) };
}

function medianShare(counts, sizes) {
  const { panel, nGenes } = counts;
  const shares = [];
  sizes.forEach((size, cell) => {
    if (size > 0) shares.push(sum(panel.subarray(cell * nGenes, (cell + 1) * nGenes)) / size);
  });
  return shares.length ? median(Float64Array.from(shares).sort()) : 0;
}

function median(sorted) {
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
