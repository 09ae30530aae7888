/* The reference map: what it is, and how good. */

import { withCommas } from "../readers/input_error.js";
import { element } from "../ui/dom.js";
import { Facts, Panel, asSentence, fileButton } from "./panel.js";

/** Name, numbers and quality of the reference. */
export class ReferencePanel extends Panel {
  /**
   * @param {function(File[])} take what is done with files that are chosen
   */
  constructor(take) {
    const facts = new Facts();
    const text = "There is none yet: drop a .rpumap file here, or choose one.";
    const none = element("p", { text });
    super("reference", "Reference map", none, facts.box, fileButton("Use another (.rpumap)", take));
    this.facts = facts;
    this.none = none;
  }

  /**
   * @param {import("./session.js").ReferenceView & {name: string}} reference
   */
  show({ name, nGenes, labels, codes, about, quality }) {
    const numbers = [
      `${withCommas(nGenes)} genes`,
      `${withCommas(labels.length)} labels`,
      `${withCommas(codes.length)} stored cells of ${withCommas(about.n_cells)}`,
    ];
    const rows = [
      ["Name", name],
      ["Size", numbers.join(", ")],
      ["Quality", qualityInWords(quality)],
    ];
    if (about.source && about.source !== name) rows.push(["Source", asSentence(about.source)]);
    this.facts.show(rows);
    this.none.hidden = true;
  }
}

/**
 * Scores of a reference as a sentence.
 * @param {{n_cells: number, index_accuracy: number, map_accuracy: number}} quality of cells that
 *   were held out
 * @returns {string}
 */
function qualityInWords({ n_cells: n, index_accuracy: index, map_accuracy: map }) {
  const [byIndex, byMap] = [index, map].map((share) => `${(100 * share).toFixed(1)} %`);
  return (
    `Of ${withCommas(n)} cells that were held out of everything, ${byIndex} get their own label ` +
    `by neighbours in the space of genes, and ${byMap} by neighbours on the map.`
  );
}
