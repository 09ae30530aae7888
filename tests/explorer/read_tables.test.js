// Tables of all kinds, read here and by Python: counts, library sizes, remarks and errors.

import assert from "node:assert/strict";
import test from "node:test";

import { openTable } from "../../rpumap/explorer/src/readers/open_table.js";
import { readCounts } from "../../rpumap/explorer/src/readers/read_counts.js";
import { assertClose } from "./golden.js";
import { cases, goldenFile, reference, withTable } from "./golden_tables.js";

const isRefused = ([, { refused }]) => refused !== undefined;

for (const [name, expected] of Object.entries(cases).filter((entry) => !isRefused(entry))) {
  test(`${name} is read as by Python`, async () => {
    await withTable(expected.files, async (table) => {
      const { part, column, match, error } = expected;
      const options = { part: part ?? undefined, geneColumn: column ?? undefined, match };
      const reading = readCounts(table, reference, options);
      if (error === undefined) assertSame(await reading, expected, table);
      else await assert.rejects(reading, (found) => isSameError(found, error));
    });
  });
}

for (const [name, { files, refused }] of Object.entries(cases).filter(isRefused)) {
  test(`${name} is refused`, async () => {
    const reading = withTable(files, (table) => readCounts(table, reference));
    await assert.rejects(reading, { name: "InputError", message: new RegExp(refused) });
  });
}

test("hints say which part or column to choose, and what to do with names", async () => {
  const hints = {
    layers_X: /layers\/counts holds whole numbers: choose that part of the table$/,
    columns_ids: /the gene column 'category' holds 40 of them: choose that column$/,
    mtx_ids: /the gene column 'symbol' holds 40 of them: choose that column$/,
    spelt_case_exact: /40 would match but for upper and lower case: match names without regard/,
    spelt_version_exact: /40 would match but for a version suffix .*: match names without vers/,
    spelt_prefix: /40 would match but for a prefix such as 'GRCh38_': rename them$/,
    transposed: /the names of cells hold 40 of them: cells and genes are exchanged: transpose it$/,
  };
  for (const [name, message] of Object.entries(hints)) {
    const { files, column } = cases[name];
    const options = { geneColumn: column ?? undefined };
    await withTable(files, (table) =>
      assert.rejects(readCounts(table, reference, options), { message }, name),
    );
  }
});

test("what was left out or turned round is said", async () => {
  const remarks = {
    tenx_h5: "2 features that are no genes were left out: 'Antibody Capture'",
    mtx_new: "2 features that are no genes were left out: 'Antibody Capture'",
    mtx_turned: "matrix.mtx has cells in rows and genes in columns, and was read so",
    "genes_in_rows.csv":
      "genes_in_rows.csv has genes in rows and cells in columns, and was read so",
    "unnamed.csv":
      `the first column of unnamed.csv is the gene '${reference.genes[0]}', so that cells have ` +
      "no names: they are numbered",
  };
  for (const [name, remark] of Object.entries(remarks)) {
    await withTable(cases[name].files, async (table) => {
      const found = await readCounts(table, reference);
      assert.equal(found.remarks[0], remark);
    });
  }
});

test("tables say what they are", async () => {
  const summaries = {
    layers_X: "h5ad file of 42 cells and 120 genes, with X, layers/counts, layers/a_copy",
    tenx_h5: "Cell Ranger file of 42 cells and 120 genes",
    mtx_new: "three files of 42 cells and 120 genes",
    "genes_in_rows.csv": "text file of 120 rows and 42 columns",
  };
  for (const [name, summary] of Object.entries(summaries)) {
    await withTable(cases[name].files, (table) => assert.equal(table.summary, summary));
  }
});

test("a text file turns when the genes are known, before its counts are read", async () => {
  const files = cases["genes_in_rows.csv"].files.map(goldenFile);
  const table = await openTable(files, reference.genes);
  assert.deepEqual([table.nCells, table.nGenes], [42, 120]);
  table.orient(["others"]);
  assert.deepEqual([table.nCells, table.nGenes], [120, 42]);
});

test("columns of text may name genes, those of numbers may not", async () => {
  await withTable(cases.columns_ids.files, (table) => {
    const { columns, defaultColumn } = table.genesOf("X");
    assert.deepEqual(Object.keys(columns), ["var_names", "category", "nullable", "symbol"]);
    assert.equal(defaultColumn, "var_names");
    const firstTwo = ["category", "nullable", "symbol"].map((name) => columns[name].slice(0, 2));
    const [first, second] = ["1110008P14Rik", "1110012L19Rik"];
    assert.deepEqual(firstTwo, [["nan", second], ["<NA>", second], [first, first]]);
  });
  await withTable(cases.raw_raw.files, (table) => {
    assert.equal(table.genesOf("X").columns.var_names.length, 60);
    assert.equal(table.genesOf("raw/X").columns.var_names.length, 120);
  });
});

test("unknown parts and columns are refused", async () => {
  await withTable(cases.layers_X.files, async (table) => {
    const wrong = [
      [{ part: "layers/raw" }, /has no part 'layers\/raw', but 'X', 'layers\/counts'/],
      [{ geneColumn: "symbols" }, /X of layers.h5ad has no gene column 'symbols', but 'var_names'/],
      [{ match: "fuzzy" }, /match must be one of 'exact', 'version', 'case', got 'fuzzy'/],
    ];
    for (const [options, message] of wrong) {
      await assert.rejects(readCounts(table, reference, options), { name: "InputError", message });
    }
  });
});

test("progress ends at all of it", async () => {
  for (const name of ["csr_int64", "csc_float32", "dense_tiles", "mtx_new", "packed.csv.gz"]) {
    const shares = [];
    await withTable(cases[name].files, (table) =>
      readCounts(table, reference, {}, (share) => shares.push(share)),
    );
    assert.equal(shares.at(-1), 1, name);
    assert.deepEqual(shares.toSorted((a, b) => a - b), shares, name);
  }
});

function assertSame(found, expected, table) {
  const { cells, counts, librarySize, nMissing, scaled } = expected;
  assert.equal(found.n, cells.length);
  assert.deepEqual(found.cellNames, cells);
  assert.equal(found.nMissing, nMissing);
  assert.ok(found.bytes > 0);
  const panel = Float32Array.from(counts.flat(), (count) => (count < 0 ? NaN : count));
  assert.deepEqual(found.panel, panel);
  assertClose(found.librarySize, librarySize, 1e-12, "library sizes", 1);
  const { targetSum } = reference;
  const factors = found.librarySize.map((size) => (size > 0 ? targetSum / size : 0));
  counts.forEach((row, cell) => {
    const again = row.map((count) => (count < 0 ? -1 : count * factors[cell]));
    assertClose(again, scaled[cell], 1e-12, `scaled counts of cell ${cell}`, 1);
  });
  const said = found.remarks.slice(table.remarks.length);
  assert.deepEqual(said.map(facts), expected.remarks.map(factsOfPython));
}

function isSameError(found, expected) {
  assert.equal(found.name, "InputError", found.stack);
  if (/is of type/.test(expected)) assert.match(found.message, /cannot be used .*holds no numbers/);
  else assert.equal(facts(found.message), factsOfPython(expected));
  return true;
}

const ADVICE = [
  ": a join", ": raw counts", ": pass raw", ": counts are not negative", ": it must hold",
  ": these are", ": they are held", ": gene names must", ": add up", ". If genes",
];

/** Keep what a message says of the table, not what is to be done; numbers in one form. */
function facts(message) {
  const end = Math.min(...ADVICE.map((advice) => (message + advice).indexOf(advice)));
  return message
    .slice(0, end)
    .replace(/\bthe (table|matrix)\b/g, "X")
    .replace(/\d+(\.\d+)?(e[+-]?\d+)?/g, (number) => String(Number(number)));
}

function factsOfPython(message) {
  return facts(
    message
      .replaceAll("layers['counts']", "layers/counts")
      .replace("the chosen genes hold", "the genes of the reference hold")
      .replace("of the query become", "of the table become")
      .replace("has nan there", "has NaN there")
      .replace("has inf there", "has Infinity there"),
  );
}

test("more cells than a page can hold are refused before they are read", async () => {
  const huge = { fileName: "atlas.h5ad", nCells: 9_000_000, orient() {} };
  const message =
    /^atlas.h5ad has 9,000,000 cells, whose counts of \d+ genes would take [\d.]+ GB: a page holds/;
  await assert.rejects(readCounts(huge, reference), { name: "InputError", message });
});
