/* Parts of the page: a section with a heading, a place for errors, buttons for files. */

import { element } from "../ui/dom.js";

let nPanels = 0;

/** A section with a heading; `fail` shows an error in it. */
export class Panel {
  /**
   * @param {string} name ends the name of its class, `rpumap-NAME`
   * @param {string} heading
   * @param {...Node} children
   */
  constructor(name, heading, ...children) {
    const id = `rpumap-heading-${++nPanels}`;
    const attributes = { class: `rpumap-panel rpumap-${name}`, "aria-labelledby": id };
    this.alert = alertLine();
    this.box = element("section", attributes, element("h2", { id, text: heading }));
    this.box.append(...children, this.alert);
  }

  /**
   * Show an error.
   * @param {string} message empty: there is none
   */
  fail(message) {
    setAlert(this.alert, message);
  }
}

/**
 * A place for an error, hidden until there is one.
 * @returns {HTMLElement}
 */
export function alertLine() {
  return element("p", { class: "rpumap-alert", role: "alert", hidden: true });
}

/**
 * @param {HTMLElement} alert from `alertLine`
 * @param {string} message empty: there is no error
 */
export function setAlert(alert, message) {
  alert.textContent = asSentence(message);
  alert.hidden = !message;
}

/**
 * Begin with a capital letter and end with a full stop; names of files and the like stay as they
 * are.
 * @param {string} text
 * @returns {string}
 */
export function asSentence(text) {
  const begun = /^[a-z]+[ ,]/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
  return !begun || /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/**
 * A button that opens the browser's dialogue for files.
 * @param {string} text
 * @param {function(File[])} take
 * @returns {HTMLElement}
 */
export function fileButton(text, take) {
  const input = element("input", { type: "file", multiple: true });
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // so that the same file can be chosen again
    if (files.length) take(files);
  });
  return element("label", { class: "rpumap-file-button" }, element("span", { text }), input);
}

/** Names and values. Themes style lists that have a class as those of an API, so it has none. */
export class Facts {
  constructor() {
    this.list = element("dl");
    this.box = element("div", { class: "rpumap-facts" }, this.list);
  }

  /**
   * @param {[string, string][]} rows
   */
  show(rows) {
    const items = rows.map(([name, text]) =>
      element("div", {}, element("dt", { text: name }), element("dd", { text })),
    );
    this.list.replaceChildren(...items);
  }
}
