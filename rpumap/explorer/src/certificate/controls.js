// What the reader moves: sliders for the noise and for robust training, and a choice of norm.

import { digits, element } from "../ui/dom.js";
import { NORMS, stepOf } from "./state.js";
import { noise } from "./text.js";
import { setAttributes, setText } from "./update.js";

const CLASS = "rpumap-certificate-control";

export class Controls {
  /**
   * @param {string} id beginning of the ids of its elements
   * @param {import("./data.js").Certificate} data
   * @param {object} on `eps(number)`, `model(number)` and `norm(string)` are called where one is
   *   chosen
   * @param {boolean} hasNorms whether the norm can be chosen
   */
  constructor(id, data, on, hasNorms) {
    this.data = data;
    this.eps = new Slider(id, "eps", "Noise eps", on.eps);
    this.model = new Slider(id, "model", "Robust training", on.model);
    setAttributes(this.model.input, { max: data.models.length - 1 });
    this.elements = [this.eps.element, this.model.element];
    if (hasNorms) this.elements.push(this.#norms(id, on.norm));
  }

  #norms(id, onChange) {
    const options = Object.entries(NORMS).map(([value, { name }]) => {
      return element("option", { value, text: name });
    });
    const change = () => onChange(this.norm.value);
    const attributes = { id: `${id}-norm`, name: "norm", on: { change } };
    this.norm = element("select", attributes, ...options);
    const label = element("label", { for: `${id}-norm`, text: "What is at most eps" });
    return element("div", { class: CLASS }, label, this.norm);
  }

  /** @param {import("./state.js").State} state */
  show(state) {
    const { eps, norm, model } = state;
    const { strength } = this.data.models[model];
    setAttributes(this.eps.input, { max: NORMS[norm].most, step: stepOf(norm) });
    this.eps.show(eps, digits(eps), `${digits(eps)}: ${noise(state)}`);
    this.model.show(model, strength ? `strength ${strength}` : "none");
    if (this.norm && this.norm.value !== norm) this.norm.value = norm;
  }
}

/** A slider with its name and value above it. */
class Slider {
  constructor(id, name, label, onInput) {
    const input = () => onInput(Number(this.input.value));
    const attributes = { type: "range", id: `${id}-${name}`, name, min: 0, step: 1 };
    this.input = element("input", { ...attributes, on: { input } });
    // a screen reader has it from the slider itself
    this.value = element("span", { class: "rpumap-certificate-value", "aria-hidden": "true" });
    const title = element("label", { for: `${id}-${name}`, text: label });
    this.element = element("div", { class: CLASS }, element("div", {}, title, this.value));
    this.element.append(this.input);
  }

  show(number, seen, spoken = seen) {
    if (Number(this.input.value) !== number) this.input.value = String(number);
    setAttributes(this.input, { "aria-valuetext": spoken });
    setText(this.value, seen);
  }
}
