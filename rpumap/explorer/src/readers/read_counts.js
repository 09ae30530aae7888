/**
 * Counts of a table as a reference needs them: `ReferenceMap.map` up to the scaled counts.
 *
 * Mirrors `Preprocessor.scale` with `rename_genes` and `refuse_transformed`. Genes are looked at
 * before the counts are read.
 */

import {
  PanelCounts,
  checkQuality,
  checkValues,
  compareShares,
  librarySizes,
  refuseTransformed,
} from "./counts.js";
import { matchGenes, mismatchHint } from "./genes.js";
import { inWords } from "./h5_file.js";
import { InputError, fileSize, some, withCommas } from "./input_error.js";

const MOST_MISSING = 0.5; // share of the reference's genes
const MOST_BYTES = 1e9; // of the counts that are held
const ENOUGH = 1_000_000; // values by which another part of the table is judged

/**
 * Read the counts of a reference's genes, and check them.
 *
 * @param {Table} table As `openTable` returns it.
 * @param {object} reference
 * @param {string[]} reference.genes
 * @param {Float64Array|number[]} reference.mean Of each gene, after scaling.
 * @param {number} reference.panelShare Share of a cell's library in these genes.
 * @param {boolean} reference.librarySizeStored Whether the training data had library sizes.
 * @param {number} reference.nFeaturesIn Genes of the training data.
 * @param {object} [options]
 * @param {string} [options.part] Where the counts are, one of `table.parts`.
 * @param {string} [options.geneColumn] Which column names the genes, one of `table.genesOf(part)`.
 * @param {"exact"|"version"|"case"} [options.match] What names may differ in.
 * @param {function(number): void} [onProgress] Gets the share of the table that was read.
 * @returns {Promise<{n: number, cellNames: string[], panel: Float32Array,
 *   librarySize: Float64Array, remarks: string[], nMissing: number, bytes: number}>} Number and
 *   names of the cells; their counts of the reference's genes (n x n_genes, row-major), NaN for a
 *   gene that the table lacks; their library sizes; what is to be said of them; the number of genes
 *   that the table lacks; and the size of its files.
 * @throws {InputError} If more than half of the genes are missing, or the counts are bad.
 */
export async function readCounts(table, reference, options = {}, onProgress = () => {}) {
  try {
    return await readAll(table, reference, options, onProgress);
  } catch (error) {
    throw inWords(error, `${table.fileName} cannot be read`);
  }
}

async function readAll(table, reference, options, onProgress) {
  table.orient(reference.genes);
  checkSize(table, reference.genes.length);
  const { part, geneColumn, names } = chosen(table, options);
  const panelOf = matchGenes(names, reference.genes, options.match ?? "exact");
  const present = presentGenes(panelOf, reference.genes.length);
  const missing = reference.genes.filter((_, gene) => !present[gene]);
  const ofGenes = reportMissing(missing, reference.genes.length, names, table, part, geneColumn);
  const stored = table.librarySize;
  const areStored = stored !== null;
  const counts = new PanelCounts(table.nCells, panelOf, reference.genes.length);
  await table.read(part, counts, onProgress);
  const elsewhere = () => wholeElsewhere(table, part);
  const cellNames = table.cellNames();
  let sizes, ofQuality;
  try {
    checkValues(counts, part, cellNames, names);
    sizes = librarySizes(counts, stored, part, cellNames);
    refuseTransformed(counts, part);
    ofQuality = checkQuality(counts, sizes, areStored, part);
  } catch (error) {
    if (error instanceof InputError && error.seeOtherParts) error.message += await elsewhere();
    throw error;
  }
  const remarks = [...table.remarks];
  for (const { text, seeOtherParts } of ofQuality) {
    remarks.push(seeOtherParts ? text + (await elsewhere()) : text);
  }
  remarks.push(...ofGenes);
  const ofShares = compareShares(counts, sizes, areStored, present, reference);
  if (ofShares) remarks.push(ofShares);
  markMissing(counts, present);
  return {
    n: table.nCells,
    cellNames,
    panel: counts.panel,
    librarySize: sizes,
    remarks,
    nMissing: missing.length,
    bytes: table.bytes,
  };
}

/** Refuse what the memory of a page cannot hold. */
function checkSize({ nCells, fileName }, nGenes) {
  const most = Math.floor(MOST_BYTES / (4 * nGenes));
  if (nCells <= most) return;
  throw new InputError(
    `${fileName} has ${withCommas(nCells)} cells, whose counts of ${nGenes} genes would take ` +
      `${fileSize(4 * nCells * nGenes)}: a page holds up to ${withCommas(most)} cells. Take a ` +
      "part of them, or ReferenceMap.map of the Python package, which reads a file in pieces",
  );
}

function chosen(table, { part = table.defaultPart, geneColumn }) {
  if (!table.parts.includes(part)) {
    throw new InputError(`${table.fileName} has no part '${part}', but ${some(table.parts)}`);
  }
  const { columns, defaultColumn } = table.genesOf(part);
  const column = geneColumn ?? defaultColumn;
  if (!Object.hasOwn(columns, column)) {
    throw new InputError(
      `${part} of ${table.fileName} has no gene column '${column}', but ` +
        some(Object.keys(columns)),
    );
  }
  return { part, geneColumn: column, names: columns[column] };
}

function presentGenes(panelOf, nGenes) {
  const present = new Uint8Array(nGenes);
  for (const place of panelOf) if (place >= 0) present[place] = 1;
  return present;
}

/** Refuse a table that lacks most genes, and say which others it lacks; as `_report_missing`. */
function reportMissing(missing, nGenes, names, table, part, geneColumn) {
  if (!missing.length) return [];
  const cause = mismatchHint(missing, { names, ...otherNames(table, part, geneColumn) });
  const tooMany = missing.length > MOST_MISSING * nGenes;
  const found =
    `${missing.length} of ${nGenes} genes are not in the data (${some(missing)})` +
    (cause || tooMany ? `, which name their genes ${some(names)}` : "");
  if (tooMany) {
    throw new InputError(
      `${found}: gene names must be of the same species and kind as those of the training ` +
        `data${cause}`,
    );
  }
  return [`${found}: they are held at their training mean${cause}`];
}

/** Collect all other names of a table, where those of the genes may be. */
function otherNames(table, part, geneColumn) {
  const { [geneColumn]: _, ...columns } = table.genesOf(part).columns;
  const parts = {};
  for (const other of table.parts.filter((name) => name !== part)) {
    const { columns: others, defaultColumn } = table.genesOf(other);
    parts[other] = others[defaultColumn];
  }
  return { columns, cellNames: table.cellNames(), parts };
}

function markMissing(counts, present) {
  const { panel, nCells, nGenes } = counts;
  present.forEach((is, gene) => {
    if (is) return;
    for (let cell = 0; cell < nCells; cell++) panel[cell * nGenes + gene] = NaN;
  });
}

/** Say which other parts of a table hold whole numbers, as counts are; as `_elsewhere`. */
async function wholeElsewhere(table, part) {
  const found = [];
  for (const other of table.parts) {
    if (other === part || !(await maybeCounts(table, other))) continue;
    found.push(`${other} holds whole numbers: choose that part of the table`);
  }
  return found.length ? `. ${found.join("; ")}` : "";
}

async function maybeCounts(table, part) {
  const sink = new WholeNumbers();
  try {
    await table.read(part, sink);
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
  return sink.nValues > 0 && sink.areWhole;
}

/** Looks at values until one is no count, or enough were. */
class WholeNumbers {
  constructor() {
    this.nValues = 0;
    this.areWhole = true;
  }

  get done() {
    return !this.areWhole || this.nValues >= ENOUGH;
  }

  entries(cells, columns, values, n) {
    this._look(values, n);
  }

  dense(values) {
    this._look(values, values.length);
  }

  _look(values, n) {
    for (let i = 0; i < n && this.areWhole; i++) {
      if (values[i] === 0) continue;
      this.nValues++;
      this.areWhole = values[i] > 0 && Number.isInteger(values[i]);
    }
  }
}
