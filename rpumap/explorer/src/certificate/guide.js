// The guided steps: three buttons, and what is to be seen where one is pressed.

import { element } from "../ui/dom.js";
import { setAttributes, setText } from "./update.js";

const TITLES = ["Small ball", "Larger ball", "Robust map"]; // until it is known what holds
const HINT = "Choose a cell on the map, or move the sliders.";

export class Guide {
  /** @param {function(number)} onStep is called with the place of a step */
  constructor(onStep) {
    this.buttons = TITLES.map((title, i) => {
      const click = () => onStep(i);
      return element("button", { type: "button", on: { click } }, element("span", { text: title }));
    });
    this.text = element("p", { class: "rpumap-certificate-explanation", text: HINT });
    const list = element("ol", {}, ...this.buttons.map((button) => element("li", {}, button)));
    this.element = element("div", { class: "rpumap-certificate-guide" }, list, this.text);
  }

  /**
   * @param {{title: string, text: string}[]} texts empty where they are not known yet
   * @param {number} pressed place of the step that is shown, or -1
   */
  show(texts, pressed) {
    this.buttons.forEach((button, i) => {
      setAttributes(button, { "aria-pressed": String(i === pressed) });
      if (texts[i]) setText(button.firstChild, texts[i].title);
    });
    setText(this.text, pressed < 0 ? HINT : (texts[pressed]?.text ?? "…"));
  }
}
