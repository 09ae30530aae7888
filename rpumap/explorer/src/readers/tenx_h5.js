/**
 * Files .h5 of Cell Ranger, such as filtered_feature_bc_matrix.h5: versions 2 and 3.
 */

import { chooseGenes, ofGenes, takeGenes } from "./features.js";
import { readData } from "./h5_file.js";
import { readSparse } from "./h5_matrix.js";
import { InputError, some, withCommas } from "./input_error.js";

/**
 * Find the group of the matrix in a file of Cell Ranger.
 *
 * @param {object} root The file, as h5wasm opened it.
 * @returns {?object} An h5wasm Group; null if the file is another one.
 * @throws {InputError} If it holds several genomes.
 */
export function findTenx(root) {
  const groups = root.keys().map((key) => root.get(key));
  const has = (group, ...names) => names.every((name) => group?.keys?.().includes(name));
  const found = groups.filter(
    (group) => has(group, "barcodes", "indptr") && (has(group, "features") || has(group, "genes")),
  );
  if (found.length > 1) {
    const genomes = some(found.map((group) => group.path.slice(1)));
    throw new InputError(
      `the file holds counts of several genomes (${genomes}). In Python: ` +
        "scanpy.read_10x_h5(path, genome=...).write_h5ad('one.h5ad')",
    );
  }
  return found[0] ?? null;
}

/** A table in a file of Cell Ranger; see `openTable` for what all tables have in common. */
export class TenxTable {
  /**
   * @param {object} group As `findTenx` returns it.
   * @param {function(): void} close What ends the use of the file.
   * @param {File} file
   * @throws {InputError} If it holds no cells or no genes.
   */
  constructor(group, close, file) {
    this.kind = "10x h5";
    this.fileName = file.name;
    this.bytes = file.size;
    this.close = close;
    this.orient = () => {};
    this.parts = ["the matrix"];
    this.defaultPart = this.parts[0];
    this.librarySize = null;
    this._group = group;
    this._barcodes = group.get("barcodes");
    const { symbols, ids, types } = featuresOf(group);
    this._genes = chooseGenes(types, ids.length, file.name);
    this._columns = { symbol: ofGenes(symbols, this._genes), id: ofGenes(ids, this._genes) };
    this.remarks = this._genes.remarks;
    this.nCells = this._barcodes.shape[0];
    this.nGenes = this._genes.n;
    if (!this.nCells || !this.nGenes) {
      throw new InputError(
        `${file.name} holds no counts: it has ${this.nCells} cells and ${this.nGenes} genes`,
      );
    }
    this.summary =
      `Cell Ranger file of ${withCommas(this.nCells)} cells and ${withCommas(this.nGenes)} genes`;
  }

  cellNames() {
    return readData(this._barcodes);
  }

  genesOf() {
    return { columns: this._columns, defaultColumn: "symbol" };
  }

  async read(part, sink, onProgress) {
    readSparse(
      this._group,
      this.nCells,
      this._genes.place.length,
      (cells, features, values, n) => takeGenes(sink, this._genes, cells, features, values, n),
      onProgress,
    );
  }
}

function featuresOf(group) {
  const read = (path) => {
    const node = group.get(path);
    return node ? readData(node) : [];
  };
  const isNew = group.keys().includes("features");
  return {
    symbols: read(isNew ? "features/name" : "gene_names"),
    ids: read(isNew ? "features/id" : "genes"),
    types: isNew ? read("features/feature_type") : [],
  };
}
