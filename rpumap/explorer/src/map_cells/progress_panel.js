/* How far the work is, and a way to end it. */

import { element, percent } from "../ui/dom.js";

const STAGES = {
  opening: "Opening the file",
  reading: "Reading counts",
  mapping: "Mapping cells",
};

/** A bar with the name of the stage, and a button. */
export class ProgressPanel {
  /**
   * @param {function()} cancel what the button does
   */
  constructor(cancel) {
    this.stage = element("span", { role: "status" });
    this.share = element("span", { class: "rpumap-share" });
    this.bar = element("progress", { max: 1, "aria-label": "Progress" });
    this.button = element("button", { type: "button", text: "Cancel", on: { click: cancel } });
    const line = element("p", {}, this.stage, " ", this.share);
    this.lines = element("div", { class: "rpumap-bar", hidden: true }, this.bar, this.button);
    this.box = element("div", { class: "rpumap-progress" }, line, this.lines);
  }

  /**
   * @param {string|null} stage null: nothing is done
   * @param {number} [share] from 0 to 1; none where it is not known
   */
  show(stage, share) {
    const text = stage ? STAGES[stage] : "";
    if (this.stage.textContent !== text) this.stage.textContent = text; // it is read aloud
    this.lines.hidden = !stage;
    this.share.textContent = share === undefined ? "" : percent(share);
    if (share === undefined) this.bar.removeAttribute("value");
    else this.bar.value = share;
  }

  /** @param {string} text what ended, to be read aloud */
  say(text) {
    this.stage.textContent = text;
  }
}
