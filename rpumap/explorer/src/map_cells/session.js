/* What the worker holds and does: a reference, the table that is open, and the cells that were
   mapped. It runs outside of a worker as well. */

import { ready } from "h5wasm";

import { crown } from "../core/bounds.js";
import { mapCells, standardize } from "../core/cell_mapper.js";
import { openTable } from "../readers/open_table.js";
import { readCounts } from "../readers/read_counts.js";
import { readReference } from "../core/reference.js";
import { bytesOf } from "./memory.js";

/**
 * The file of a reference, with the number that the page gave it.
 * @typedef {{id: number, file: File}} Given
 */

/**
 * What the page is told of a reference.
 * @typedef {object} ReferenceView
 * @property {string} fileName
 * @property {number} nGenes
 * @property {string[]} labels
 * @property {Int32Array} codes labels of the stored cells, (n_stored)
 * @property {Float32Array} coordinates of the stored cells, (n_stored x 2)
 * @property {number} threshold of novelty, infinite where it could not be calibrated
 * @property {object} about what it was made from
 * @property {object} quality scores of held-out cells
 * @property {string|null} layer where queries hold their counts by default; null: in X
 */

/**
 * What the page is told of a table.
 * @typedef {object} TableView
 * @property {string} summary
 * @property {number} nCells
 * @property {number} nGenes
 * @property {string[]} parts that may hold the counts
 * @property {string} defaultPart
 * @property {Object<string, {columns: string[], defaultColumn: string}>} geneColumns of each part:
 *   what may hold the names of genes
 */

/**
 * Which counts are mapped, and how.
 * @typedef {object} Choice
 * @property {string} part
 * @property {string} geneColumn
 * @property {"exact"|"version"|"case"} match what may differ between names of genes
 * @property {number} eps radius of the balls, standard deviations of a gene
 */

/**
 * What is said of the cells: `MappedCells` of cell_mapper.js, and
 * @typedef {import("../core/cell_mapper.js").MappedCells & {
 *   cellNames: string[],
 *   labels: string[],
 *   remarks: string[],
 *   nMissing: number,
 *   eps: number,
 * }} Result labels of the reference; remarks on the counts; number of the reference's genes that
 *   the table lacks; radius of the balls
 */

/** One reference and one table, each with the number that the page gave it. */
export class Session {
  constructor() {
    this.reference = this.table = { id: null };
    this.cells = null;
  }

  /**
   * Read a reference map, unless it is the one that was read last.
   * @param {Given} content
   * @returns {Promise<ReferenceView>}
   * @throws {ReferenceFileError} if it is none; the one before stays
   */
  async readReference({ id, file }) {
    if (this.reference.id !== id) {
      const bytes = new Uint8Array(await file.arrayBuffer());
      this.reference = { id, ...readReference(bytes, file.name) };
    }
    const reference = this.reference;
    const { fileName, labels, codes, coordinates, threshold, about, quality } = reference;
    const layer = reference.parameters.layer ?? null;
    const nGenes = reference.genes.length;
    return { fileName, nGenes, labels, codes, coordinates, threshold, about, quality, layer };
  }

  /**
   * Open a table, unless it is the one that was opened last. None of its counts are read.
   * @param {{reference: ?Given, table: {id: number, files: File[]}}} content genes of the reference
   *   tell whether rows of a text file are genes
   * @returns {Promise<TableView>}
   * @throws {InputError} if it cannot be read, or is too large
   */
  async open({ reference, table: { id, files } }) {
    if (reference) await this.readReference(reference);
    if (this.table.id !== id) {
      this.table.table?.close();
      this.table = { id: null };
      this.cells = null;
      this.table = { id, table: await openTable(files, this.reference.genes) };
    }
    const { summary, nCells, nGenes, parts, defaultPart } = this.table.table;
    const geneColumns = Object.fromEntries(parts.map((part) => [part, this.columnsOf(part)]));
    return { summary, nCells, nGenes, parts, defaultPart, geneColumns };
  }

  columnsOf(part) {
    const { columns, defaultColumn } = this.table.table.genesOf(part);
    return { columns: Object.keys(columns), defaultColumn };
  }

  /**
   * Read counts and map the cells. What a new worker does not hold is read and opened again.
   * @param {{reference: Given, table: {id: number, files: File[]}, choice: Choice}} content
   * @param {function(string, number)} onProgress stage and share
   * @returns {Promise<{result: Result, seconds: {reading: number, computing: number},
   *   bytes: Object<string, number>}>}
   * @throws {InputError} if the counts are bad or names of genes differ; the table stays open
   */
  async map({ choice, ...given }, onProgress) {
    this.cells = null;
    await this.open(given);
    const { reference } = this;
    const { eps, ...where } = choice;
    const started = performance.now();
    const onRead = (share) => onProgress("reading", share);
    const counts = await readCounts(this.table.table, reference, where, onRead);
    const { panel, librarySize } = counts;
    const read = performance.now();
    const onMapped = (nDone, n) => onProgress("mapping", nDone / n);
    const mapped = mapCells(reference, panel, librarySize, { eps, onProgress: onMapped });
    const computing = (performance.now() - read) / 1000;
    this.cells = { panel, librarySize, eps };
    const { cellNames, remarks, nMissing } = counts;
    const result = { ...mapped, cellNames, labels: reference.labels, remarks, nMissing, eps };
    const seconds = { reading: (read - started) / 1000, computing };
    const { HEAPU8: hdf5 } = await ready;
    return { result, seconds, bytes: bytesOf({ reference, counts, result, hdf5 }) };
  }

  /**
   * Bound the coordinates of one cell by CROWN.
   * @param {{cell: number}} content its place
   * @returns {{lower: Float64Array, upper: Float64Array}} (2)
   */
  box({ cell }) {
    const { panel, librarySize, eps } = this.cells;
    const x = standardize(this.reference, panel, librarySize, cell);
    return crown(this.reference.layers, x, { eps });
  }
}
