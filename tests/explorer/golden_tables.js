// Tables that golden_tables.py wrote, what Python reads from them, and sinks that keep values.

import { basename } from "node:path";

import { openTable } from "../../rpumap/explorer/src/readers/open_table.js";
import { goldenBytes } from "./golden.js";

const { reference, cases } = JSON.parse(
  new TextDecoder().decode(goldenBytes("tables/tables.json")),
);

export { cases, reference };

/** Read a file that golden_tables.py wrote, as the browser would give it. */
export function goldenFile(name) {
  return new File([goldenBytes(`tables/${name}`)], basename(name));
}

/** Open the files of a case, and close them afterwards. */
export async function withTable(files, use) {
  const table = await openTable(files.map(goldenFile));
  try {
    return await use(table);
  } finally {
    table.close();
  }
}

/** A sink that keeps all values, as a dense table (n_cells x n_genes). */
export class DenseSink {
  constructor(nCells, nGenes) {
    this.nGenes = nGenes;
    this.values = new Float64Array(nCells * nGenes);
    this.done = false;
    this.nCalls = 0;
  }

  entries(cells, columns, values, n) {
    this.nCalls++;
    for (let i = 0; i < n; i++) this.values[cells[i] * this.nGenes + columns[i]] += values[i];
  }

  dense(values, firstCell, nCells, firstColumn, nColumns) {
    this.nCalls++;
    for (let cell = 0; cell < nCells; cell++) {
      for (let column = 0; column < nColumns; column++) {
        const place = (firstCell + cell) * this.nGenes + firstColumn + column;
        this.values[place] += values[cell * nColumns + column];
      }
    }
  }
}
