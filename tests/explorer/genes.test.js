// Names of genes: matched as told, never guessed.

import assert from "node:assert/strict";
import test from "node:test";

import { matchGenes, mismatchHint } from "../../rpumap/explorer/src/readers/genes.js";

const GENES = ["ENSG1", "ENSG2", "Ins1"];

test("nothing is guessed", () => {
  const found = matchGenes(["ENSG1.3", "ensg2", "INS1", "Ins1"], GENES);
  assert.deepEqual(found, Int32Array.of(-1, -1, -1, 2));
});

test("versions of both sides may differ", () => {
  const found = matchGenes(["ENSG1.3", "ENSG2"], ["ENSG2.1", "ENSG1.7"], "version");
  assert.deepEqual(found, Int32Array.of(1, 0));
});

test("case may differ", () => {
  assert.deepEqual(matchGenes(["INS1", "x"], GENES, "case"), Int32Array.of(2, -1));
});

test("genes that become one are refused", () => {
  const wrong = [
    [["ENSG1.1", "ENSG1.2"], GENES, "version", /several genes of the table.*\('ENSG1'\): add up/],
    [["Ins1", "a", "Ins1"], GENES, "exact", /several genes of the table.*\('Ins1'\)/],
    [["a"], ["Ins1", "INS1"], "case", /match 'case' cannot tell 'Ins1' and 'INS1'.*apart/],
    [["a"], GENES, "constructor", /match must be one of 'exact'/],
  ];
  for (const [names, genes, match, message] of wrong) {
    assert.throws(() => matchGenes(names, genes, match), { name: "InputError", message });
  }
});

test("other names may repeat, and may be those of properties of objects", () => {
  const names = ["x", "x", "constructor", "__proto__", "ENSG2"];
  assert.deepEqual(matchGenes(names, GENES), Int32Array.of(-1, -1, -1, -1, 1));
});

test("hints name one way only, the one by which most genes match", () => {
  const missing = ["Ins1", "Ins2", "Gcg_a"];
  const hint = (table) => mismatchHint(missing, { names: ["a"], ...table });
  assert.equal(hint({}), "");
  assert.match(hint({ names: ["INS1", "INS2"] }), /^\. 2 would match but for upper and lower case/);
  assert.match(hint({ names: [" Ins1", "'Ins2'"] }), /^\. 2 .* for white space or quotes/);
  assert.match(hint({ names: ["mm10_Ins1"] }), /^\. 1 .* for a prefix such as 'GRCh38_': rename/);
  assert.match(hint({ names: ["Gcg-a"] }), /^\. 1 would match but for dashes and underscores/);
  const several = hint({ names: ["MM10___ins1.5", "gcg-a"] });
  assert.match(several, /^\. 2 would match but for several of these: upper and lower/);
  const columns = { symbol: ["Ins1", "Gcg_a"], upper: ["INS1", "INS2", "GCG_A"] };
  assert.match(hint({ columns }), /^\. 3 would match the gene column 'upper' but for upper/);
  delete columns.upper;
  assert.equal(hint({ columns }), ". the gene column 'symbol' holds 2 of them: choose that column");
  assert.match(hint({ cellNames: ["Ins2"] }), /^\. the names of cells hold 1 of them: cells/);
  assert.match(hint({ parts: { "raw/X": missing } }), /^\. raw\/X has 3 of them: choose/);
  const both = hint({ names: ["INS1"], cellNames: ["Ins1"] });
  assert.match(both, /^\. 1 would match but for upper and lower case.*; the names of cells hold 1/);
});
