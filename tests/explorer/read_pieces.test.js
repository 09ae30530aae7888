// Tables that are read in several pieces, of HDF5 and of text; and numbers from text.

import assert from "node:assert/strict";
import test from "node:test";
import { gzipSync } from "node:zlib";

import h5wasm from "../../rpumap/explorer/node_modules/h5wasm/dist/esm/hdf5_hl.js";
import { withReadAhead } from "../../rpumap/explorer/src/readers/h5_file.js";
import { readDense, readSparse } from "../../rpumap/explorer/src/readers/h5_matrix.js";
import { openTable } from "../../rpumap/explorer/src/readers/open_table.js";
import {
  linesOf,
  numberFrom,
  text,
  textBlocks,
} from "../../rpumap/explorer/src/readers/text_stream.js";
import { DenseSink } from "./golden_tables.js";

const N_ROWS = 2500;
const N_COLUMNS = 1100;

/** A value for each place, most of them not zero: 2.3 million entries, read in several pieces. */
function valueAt(row, column) {
  return row % 50 < 3 ? 0 : (row * 7 + column * 13) % 6;
}

const dense = Float64Array.from({ length: N_ROWS * N_COLUMNS }, (_, place) =>
  valueAt(Math.floor(place / N_COLUMNS), place % N_COLUMNS),
);

function sparse() {
  const [data, indices, pointers] = [[], [], [0n]];
  for (let row = 0; row < N_ROWS; row++) {
    for (let column = 0; column < N_COLUMNS; column++) {
      const value = valueAt(row, column);
      if (value) data.push(value), indices.push(BigInt(column));
    }
    pointers.push(BigInt(data.length));
  }
  return { data: Uint8Array.from(data), indices: BigInt64Array.from(indices), pointers };
}

async function inFile(write, use) {
  const { FS } = await h5wasm.ready;
  const written = new h5wasm.File("/pieces.h5", "w");
  write(written);
  written.close();
  const root = new h5wasm.File("/pieces.h5", "r");
  try {
    use(root);
  } finally {
    root.close();
    FS.unlink("/pieces.h5");
  }
}

for (const chunks of [null, [30_000], [1_500_000]]) {
  test(`a sparse matrix comes in pieces, in chunks of ${chunks}`, async () => {
    const { data, indices, pointers } = sparse();
    const add = (group, name, values) => {
      const packed = chunks && name !== "indptr" ? { chunks, compression: 1 } : {};
      group.create_dataset({ name, data: values, ...packed });
    };
    const write = (root) => {
      const group = root.create_group("X");
      add(group, "data", data);
      add(group, "indices", indices);
      add(group, "indptr", BigInt64Array.from(pointers));
    };
    await inFile(write, (root) => {
      const sink = new DenseSink(N_ROWS, N_COLUMNS);
      readSparse(root.get("X"), N_ROWS, N_COLUMNS, (rows, columns, values, n) => {
        sink.entries(rows, columns, values, n);
        return false;
      });
      assert.ok(sink.nCalls >= 2);
      assert.deepEqual(sink.values, dense);
      let nCalls = 0;
      readSparse(root.get("X"), N_ROWS, N_COLUMNS, () => ++nCalls > 0);
      assert.equal(nCalls, 1, "a sink that has enough ends the reading");
    });
  });
}

for (const [chunks, nBlocks] of [
  [null, 3],
  [[7, N_COLUMNS], 3],
  [[N_ROWS, 3], 1],
  [[40, 60], 3],
  [[2000, 1000], 2],
]) {
  test(`a dense matrix comes in blocks, in chunks of ${chunks}`, async () => {
    const data = Float32Array.from(dense);
    const packed = chunks ? { chunks, compression: 1 } : {};
    const write = (root) => {
      root.create_dataset({ name: "X", data, shape: [N_ROWS, N_COLUMNS], ...packed });
    };
    await inFile(write, (root) => {
      const sink = new DenseSink(N_ROWS, N_COLUMNS);
      readDense(root.get("X"), (...block) => (sink.dense(...block), false));
      assert.equal(sink.nCalls, nBlocks);
      assert.deepEqual(sink.values, dense);
    });
  });
}

test("a dense matrix in long columns comes in blocks of some columns", async () => {
  const shape = [17_000, 1000];
  const data = Uint8Array.from({ length: 17e6 }, (_, place) => (place * 31) % 251);
  const chunks = [17_000, 10];
  const write = (root) => root.create_dataset({ name: "X", data, shape, chunks, compression: 1 });
  await inFile(write, (root) => {
    let nColumns = 0;
    readDense(root.get("X"), (values, row, nRows, column, width) => {
      assert.deepEqual([row, nRows, column, width], [0, 17_000, nColumns, 50]);
      for (const [i, j] of [[0, 0], [1, 49], [16_999, 7]]) {
        assert.equal(values[i * width + j], data[i * 1000 + column + j]);
      }
      nColumns += width;
      return false;
    });
    assert.equal(nColumns, 1000);
  });
});

const HEADER = ["", ...Array.from({ length: N_COLUMNS }, (_, column) => `g${column}`)].join(",");

function csvText(lineEnd, quote = "") {
  const lines = [HEADER];
  for (let row = 0; row < N_ROWS; row++) {
    const values = Array.from(dense.subarray(row * N_COLUMNS, (row + 1) * N_COLUMNS));
    lines.push(`${quote}c${row}${quote},${values.join(",")}`);
  }
  return lines.join(lineEnd);
}

test("a text file comes in blocks of whole lines, packed or not", async () => {
  const plain = csvText("\n");
  const files = [
    new File([plain], "a.csv"),
    new File([csvText("\r\n", '"')], "b.csv"),
    new File([gzipSync(plain, { level: 1 })], "a.csv.gz"),
    // of several parts, as cat and bgzip make them; browsers refuse these
    new File([gzipSync(plain.slice(0, 99_999)), gzipSync(plain.slice(99_999))], "parts.csv.gz"),
  ];
  for (const file of files) {
    const table = await openTable([file]);
    assert.equal(table.nCells, N_ROWS);
    assert.equal(table.cellNames()[17], "c17");
    const sink = new DenseSink(N_ROWS, N_COLUMNS);
    await table.read("the table", sink);
    assert.deepEqual(sink.values, dense, file.name);
  }
});

test("a matrix in three files comes in blocks", async () => {
  const lines = [];
  for (let cell = 0; cell < N_ROWS; cell++) {
    for (let gene = 0; gene < N_COLUMNS; gene++) {
      const value = dense[cell * N_COLUMNS + gene];
      if (value) lines.push(`${gene + 1} ${cell + 1} ${value}`);
    }
  }
  const head = "%%MatrixMarket matrix coordinate real general\n% made here\n%\n";
  const size = `${N_COLUMNS} ${N_ROWS} ${lines.length}\n`;
  const names = (n, prefix) => Array.from({ length: n }, (_, i) => `${prefix}${i}`).join("\n");
  const table = await openTable([
    new File([names(N_ROWS, "c")], "barcodes.tsv"),
    new File([head, size, lines.join("\n")], "matrix.mtx"),
    new File([names(N_COLUMNS, "g")], "genes.tsv"),
  ]);
  assert.deepEqual(Object.keys(table.genesOf().columns), ["name"]);
  const sink = new DenseSink(N_ROWS, N_COLUMNS);
  await table.read("the matrix", sink);
  assert.ok(sink.nCalls >= 10);
  assert.deepEqual(sink.values, dense);
});

test("blocks of text begin and end with lines, whatever their lengths", async () => {
  for (const lengths of [[3], [10, 2e6, 1], [700_000, 0, 700_000, 5, 3_000_000]]) {
    const lines = lengths.map((length, i) => String(i).repeat(length));
    for (const end of ["", "\n", "\r\n"]) {
      const found = [];
      for await (const block of textBlocks(new File([lines.join("\n"), end], "lines"))) {
        for (const [start, stop] of linesOf(block)) found.push(text(block, start, stop));
      }
      assert.deepEqual(found, lines);
    }
  }
});

test("numbers and missing values are told from text", () => {
  const numbers = { "12": 12, "-0.5": -0.5, "+3": 3, "1e3": 1000, "2.5E-3": 0.0025, ".5": 0.5 };
  const others = { " 7 ": 7, "5.": 5, inf: Infinity, "-Inf": -Infinity, Infinity: Infinity };
  for (const [field, value] of Object.entries({ ...numbers, ...others })) {
    assert.equal(numberFrom(field), value, field);
  }
  for (const field of ["", " ", "NA", "nan", "NaN", "NULL"]) {
    assert.ok(Number.isNaN(numberFrom(field)), field);
  }
  for (const field of ["0x10", "1,5", "1 2", "Beta", "1e", ".", "--1", "1_000", "TRUE"]) {
    assert.equal(numberFrom(field), null, field);
  }
});

test("short decimals in text are rounded as by any parser", async () => {
  const fields = [
    "0.1", "123456789.987654321", "9007199254740993", "0.000000000000000000000000123", "1e-7",
    "3.141592653589793238462643383279", "5e-324", "007.50", "4503599627370497.5",
    "0.30000000000000004",
  ];
  const names = fields.map((_, i) => `g${i}`);
  const file = new File([`,${names.join(",")}\nc,${fields.join(",")}\n`], "a.csv");
  const table = await openTable([file]);
  const sink = new DenseSink(1, fields.length);
  await table.read("the table", sink);
  assert.deepEqual(Array.from(sink.values), fields.map(Number));
});

test("what is read ahead is what is there", () => {
  const size = 5_300_000;
  const bytes = Uint8Array.from({ length: size }, (_, i) => (i * 31 + (i >> 9)) & 255);
  let nReads = 0;
  const read = (stream, buffer, offset, length, position) => {
    nReads++;
    const piece = bytes.subarray(position, position + length);
    buffer.set(piece, offset);
    return piece.length;
  };
  const readAhead = withReadAhead(read);
  for (let i = 0; i < 3000; i++) {
    const position = (i * 7919 * 13) % (size + 50);
    const length = [1, 100, 4096, 70_000, 1_500_000][i % 5 === 4 && i % 200 ? 0 : i % 5];
    const buffer = new Uint8Array(length + 3);
    const n = readAhead(null, buffer, 3, length, position);
    const expected = bytes.subarray(position, position + length);
    assert.equal(n, expected.length);
    assert.ok(Buffer.from(expected).equals(Buffer.from(buffer.subarray(3, 3 + n))));
  }
  assert.ok(nReads < 100, `${nReads} reads`);
});
