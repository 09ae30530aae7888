/* The results in numbers, remarks on them, and the file to download. */

import { withCommas } from "../readers/input_error.js";
import { element, percent } from "../ui/dom.js";
import { csvName, csvOf } from "./csv.js";
import { megabytes } from "./memory.js";
import { Panel, asSentence } from "./panel.js";
import { countCells } from "./summary.js";

// in the order of their numbers
const VERDICTS = [
  ["certain", "one label, provably the same on the map for all noise within the radius"],
  ["likely", "one label fits"],
  ["not in the reference", "unlike the cells of the reference"],
  ["between labels", "two or more labels fit"],
];
// in that of the list
const ORDER = [0, 1, 3, 2];
const HELD = {
  reference: "reference",
  counts: "counts of its genes",
  results: "results",
  hdf5: "HDF5 library",
};
const NOTE =
  "Computed in this browser, as ref.map(query, method='crown_ibp') of the Python package does. " +
  "Results differ by rounding, which is not certified here, and more cells can be certain, since " +
  "boxes are cut finer. Verdicts and radii of all cells use the boxes of CROWN-IBP; the box of " +
  "the cell that you point at is the tighter one of CROWN.";
const CSV_NOTE =
  "In the file, names that begin with = + - or @ get an apostrophe, so that no spreadsheet takes " +
  "them for formulas.";

/** Verdicts, labels, remarks, times, and a button for the file. */
export class ResultPanel extends Panel {
  constructor() {
    const content = element("div");
    super("results", "Results", content);
    this.content = content;
    this.box.hidden = true;
  }

  /** There are no results. */
  hide() {
    this.box.hidden = true;
    this.content.replaceChildren();
  }

  /**
   * @param {import("./session.js").Result} result
   * @param {{remarks: string[], seconds: Object<string, number>, bytes: Object<string, number>,
   *   fileName: string}} about remarks on the cells; what it took; name of a file of counts
   */
  show(result, { remarks, seconds, bytes, fileName }) {
    const counts = countCells(result);
    this.content.replaceChildren(
      verdictList(counts.verdicts, result.n),
      remarkList(remarks),
      labelTable(counts.byLabel, result),
      element("p", { class: "rpumap-note", text: costs(seconds, bytes) }),
      element("p", { class: "rpumap-note", text: NOTE }),
      downloadButton(result, csvName(fileName)),
      element("p", { class: "rpumap-note", text: CSV_NOTE }),
    );
    this.box.hidden = false;
  }
}

function verdictList(numbers, n) {
  const items = ORDER.map((verdict) => {
    const [name, meaning] = VERDICTS[verdict];
    return element(
      "li",
      { "data-verdict": name },
      element("strong", { text: `${withCommas(numbers[verdict])} ${name}` }),
      ` (${percent(numbers[verdict] / n)}): `,
      element("span", { class: "rpumap-note", text: meaning }),
    );
  });
  return element("ul", { class: "rpumap-verdicts" }, ...items);
}

function remarkList(remarks) {
  const items = remarks.map((remark) => element("li", { text: asSentence(remark) }));
  return element("ul", { class: "rpumap-remarks", hidden: !items.length }, ...items);
}

function labelTable(byLabel, { labels, n }) {
  const head = ["Label", "Cells", "Certain", "Not in the reference"];
  const rows = byLabel.map((own) => {
    const share = percent(own.n / n);
    const ofAll = `${withCommas(own.n)} (${share})`;
    const numbers = [ofAll, withCommas(own.nCertain), withCommas(own.nNew)];
    return element(
      "tr",
      {},
      element("th", { scope: "row", text: labels[own.code] }),
      ...numbers.map((text) => element("td", { text })),
    );
  });
  const columns = head.map((text) => element("th", { scope: "col", text }));
  return element(
    "table",
    { class: "rpumap-labels" },
    element("caption", { text: "Cells of each label" }),
    element("thead", {}, element("tr", {}, ...columns)),
    element("tbody", {}, ...rows),
  );
}

/** Seconds and megabytes in words. */
function costs({ reading, computing }, bytes) {
  const total = Object.values(bytes).reduce((sum, part) => sum + part, 0);
  const parts = Object.entries(bytes).map(([name, part]) => `${HELD[name]} ${megabytes(part)}`);
  const heap = performance.memory?.usedJSHeapSize; // not all browsers tell
  return (
    `${reading.toFixed(2)} s to read the counts, ${computing.toFixed(2)} s to compute. Memory ` +
    `held: ${megabytes(total)} (${parts.join(", ")})` +
    (heap ? `; JavaScript objects of the page: ${megabytes(heap)}.` : ".")
  );
}

function downloadButton(result, name) {
  const click = () => {
    const url = URL.createObjectURL(new Blob(csvOf(result), { type: "text/csv" }));
    element("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  };
  return element("button", { type: "button", text: "Download CSV", on: { click } });
}
