/* What is mapped of a table: which part, by which names of genes, and with which radius. */

import { element } from "../ui/dom.js";
import { alertLine, asSentence, setAlert } from "./panel.js";

const DEFAULT_EPS = 0.05; // standard deviations of a gene, as in ReferenceMap.map
const MATCHES = [
  ["exact", "nothing"],
  ["version", "the version of Ensembl ids"],
  ["case", "upper and lower case"],
];

/**
 * What is mapped where nobody chooses: the layer of the reference, if the table has it.
 * @param {import("./session.js").TableView} table
 * @param {string|null} [layer] where the reference had its counts; null: in X
 * @returns {import("./session.js").Choice}
 */
export function defaultChoice({ parts, defaultPart, geneColumns }, layer = null) {
  const inLayer = `layers/${layer}`;
  const part = layer && parts.includes(inLayer) ? inLayer : defaultPart;
  const geneColumn = geneColumns[part].defaultColumn;
  return { part, geneColumn, match: "exact", eps: DEFAULT_EPS };
}

/**
 * Tell whether a table leaves something to choose.
 * @param {import("./session.js").TableView} table
 * @returns {boolean}
 */
export function hasChoice({ parts, geneColumns }) {
  return parts.length > 1 || geneColumns[parts[0]].columns.length > 1;
}

/**
 * A radius as it was typed.
 * @param {string} text
 * @returns {number}
 * @throws {Error} if it is no number, or is negative
 */
export function parseEps(text) {
  const eps = Number(text.trim().replace(",", ".") || NaN);
  if (!(eps >= 0 && eps < Infinity)) {
    throw new Error(`the radius must be a number, 0 or more, as ${DEFAULT_EPS}, not '${text}'`);
  }
  return eps;
}

/** Selects and a button; what was chosen stays when mapping fails. */
export class ChoicePanel {
  /**
   * @param {function(import("./session.js").Choice)} go what the button does
   */
  constructor(go) {
    this.geneColumns = {};
    this.go = go;
    const radius = { name: "eps", type: "text", inputmode: "decimal", autocomplete: "off" };
    this.fields = {
      part: element("select", { name: "part" }),
      geneColumn: element("select", { name: "gene-column" }),
      match: element("select", { name: "match" }),
      eps: element("input", radius),
    };
    setOptions(this.fields.match, MATCHES);
    this.button = element("button", { type: "submit", text: "Map the cells" });
    this.summary = element("p", { class: "rpumap-summary" });
    this.alert = alertLine();
    this.fieldset = element(
      "fieldset",
      { class: "rpumap-choices" },
      element("legend", { class: "rpumap-unseen", text: "What is mapped" }),
      labelled("Counts", this.fields.part),
      labelled("Names of genes", this.fields.geneColumn),
      labelled("Names may differ in", this.fields.match),
      labelled("Radius of noise (SD of a gene)", this.fields.eps),
      this.button,
    );
    const attributes = { class: "rpumap-choice", novalidate: true, hidden: true };
    this.box = element("form", attributes, this.summary, this.alert, this.fieldset);
    this.fields.part.addEventListener("change", () => this.offerColumns());
    this.box.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
  }

  /** Pass on what is chosen, or say what is wrong with it. */
  submit() {
    const { part, geneColumn, match, eps } = this.fields;
    let radius;
    try {
      radius = parseEps(eps.value);
    } catch (error) {
      this.fail(error.message);
      eps.focus();
      return;
    }
    this.go({
      part: part.value,
      geneColumn: geneColumn.value,
      match: match.value,
      eps: radius,
    });
  }

  /**
   * Offer what a table leaves to choose.
   * @param {string} title names of its files
   * @param {import("./session.js").TableView} table
   * @param {import("./session.js").Choice} choice what is chosen at first
   */
  show(title, { summary, parts, geneColumns }, choice) {
    this.geneColumns = geneColumns;
    this.summary.textContent = `${title}: ${asSentence(summary)}`;
    setOptions(this.fields.part, parts.map((name) => [name, name]));
    this.fields.part.parentElement.hidden = parts.length < 2;
    this.fields.part.value = choice.part;
    this.offerColumns();
    for (const [name, field] of Object.entries(this.fields)) field.value = choice[name];
    this.box.hidden = false;
  }

  /** Offer the columns of names that the chosen part has; each part may have others. */
  offerColumns() {
    const { part, geneColumn } = this.fields;
    const { columns, defaultColumn } = this.geneColumns[part.value];
    const chosen = columns.includes(geneColumn.value) ? geneColumn.value : defaultColumn;
    setOptions(geneColumn, columns.map((name) => [name, name]));
    geneColumn.value = chosen;
    geneColumn.parentElement.hidden = columns.length < 2;
  }

  /** @param {boolean} isBusy whether nothing can be chosen now */
  disable(isBusy) {
    this.fieldset.disabled = isBusy;
  }

  /** No table is open. */
  hide() {
    this.fail("");
    this.box.hidden = true;
  }

  /** @param {string} message what is wrong with the choice; empty: nothing */
  fail(message) {
    setAlert(this.alert, message);
  }
}

function labelled(text, field) {
  return element("label", {}, element("span", { text }), field);
}

function setOptions(select, options) {
  select.replaceChildren(...options.map(([value, text]) => element("option", { value, text })));
}
