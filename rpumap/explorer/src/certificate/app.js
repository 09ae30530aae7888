// The certificate explorer in one mount: what the reader chooses becomes a state, a state becomes
// boxes and clouds, in part at once and in part by a worker, and these are drawn and described.

import { startWorker } from "../ui/worker.js";
import { drawScene } from "./draw.js";
import { boxAround, Geometry } from "./geometry.js";
import { Requests } from "./requests.js";
import { guidedStates, nextCell, same, withNorm } from "./state.js";
import { describe, guideTexts, reachText, verdictText } from "./text.js";
import { DURATION, ease, mix } from "./tween.js";
import { View } from "./view.js";

const KINDS = ["data", "bounds", "labels", "guide"]; // what is most urgent first
const SENTENCE_AFTER = 500; // ms without a change, so that a screen reader is not flooded
const BOXES = ["crown", "crown_ibp", "ibp"];
const CLOUDS = ["attacks", "copies", "polygon"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const FAILED =
  "CROWN and attacks cannot be shown: the browser stopped the worker that computes them.";

export class CertificateApp {
  /**
   * Fill a mount.
   *
   * @param {HTMLElement} mount
   * @param {import("./data.js").Certificate} data
   * @param {Uint8Array} bytes from which the worker reads the same
   * @param {string} workerSource
   */
  constructor(mount, data, bytes, workerSource) {
    this.data = data;
    this.geometry = new Geometry(data);
    this.target = guidedStates(data.start, data.chosen)[0]; // where a movement ends
    this.state = null; // what is shown
    this.motion = null;
    this.slow = null; // the last answer of the worker about boxes, and its state
    this.found = null; // likewise about labels
    this.guide = { texts: [], cell: -1 };
    this.lastFrame = 0; // ms that the last frame took
    this.#startWorker(bytes, workerSource);
    this.view = new View(mount, data, this.#listeners());
    this.view.scatter.draw = (pen) => this.#frame(pen);
    this.go(this.target);
  }

  /**
   * Show a state.
   *
   * @param {import("./state.js").State} target
   * @param {{moving?: boolean}} options whether to get there step by step, unless the reader wants
   *   no motion
   */
  go(target, { moving = false } = {}) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const before = this.state ?? target;
    this.motion = moving && !still ? this.#motionFrom(before, target) : null;
    if (target.cell !== before.cell) this.slow = null; // its box would be that of another cell
    this.target = target;
    this.#askForGuide();
    this.view.scatter.request();
  }

  /** Whether all that is shown, labels included, belongs to the state that was asked for. */
  get settled() {
    return this.#isKnown() && this.requests.done && !this.view.scatter.requested;
  }

  #isKnown() {
    const isOfTarget = (answer) => answer !== null && same(answer.state, this.target);
    return !this.motion && isOfTarget(this.slow) && isOfTarget(this.found);
  }

  #motionFrom(before, target) {
    return {
      start: performance.now(),
      eps: before.norm === target.norm ? before.eps : target.eps,
      from: before.model === target.model ? {} : this.shown,
    };
  }

  #listeners() {
    const change = (part) => this.go({ ...this.target, ...part });
    return {
      click: (event) => change({ cell: this.view.scatter.nearest(event, this.#map()) }),
      key: (event) => this.#onKey(event),
      eps: (eps) => change({ eps }),
      norm: (norm) => this.go(withNorm(this.target, norm)),
      model: (model) => this.go({ ...this.target, model }, { moving: true }),
      step: (i) => this.go(this.#steps()[i], { moving: true }),
    };
  }

  #onKey(event) {
    if (!(event.key in ARROWS) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault(); // the page must not scroll
    this.go({ ...this.target, cell: nextCell(this.#map(), this.target.cell, ARROWS[event.key]) });
  }

  #map() {
    return this.data.models[this.target.model].map;
  }

  #steps() {
    return guidedStates(this.target.cell, this.data.chosen);
  }

  /** Compute and draw what is shown at this moment. */
  #frame(pen) {
    const began = performance.now();
    const share = this.motion ? ease(Math.min((began - this.motion.start) / DURATION, 1)) : 1;
    this.#moveTo(share);
    const { slow, state, view } = this;
    this.shown = this.#mixed(share);
    const isOld = slow !== null && !same(slow.state, state);
    drawScene(pen, view.scatter, this.shown, { isOld, code: this.data.codes[state.cell] });
    view.showState(state, this.#labelOf(state));
    const [boxes, { range }] = [boxesOf(this.shown), this.data.models[state.model]];
    view.key.show(boxes, range);
    if (share < 1) view.scatter.request();
    else if (this.motion) this.#arrive();
    if (!this.motion && !isOld) view.table.show(boxes, this.#labels(), range);
    this.lastFrame = performance.now() - began;
  }

  #arrive() {
    this.motion = null;
    this.#describeLater();
  }

  #moveTo(share) {
    const { target, motion } = this;
    const eps = motion ? motion.eps + share * (target.eps - motion.eps) : target.eps;
    const state = { ...target, eps };
    if (this.state && same(this.state, state)) return;
    this.state = state;
    this.quick = this.geometry.at(state);
    this.requests.ask("bounds", state);
    this.#describeLater();
  }

  /** Coordinates of all that is shown, on the way from another map where there is a movement. */
  #mixed(share) {
    const { data, motion, quick, slow, state } = this;
    const { map } = data.models[state.model];
    const from = motion?.from ?? {};
    const isOfThisMap = slow !== null && slow.state.model === state.model;
    const shown = mix(from, { map, ...quick, ...(isOfThisMap ? slow.answer : {}) }, share);
    this.#drawMap(shown.map);
    return isOfThisMap ? shown : { ...shown, ...slow?.answer };
  }

  #drawMap(map) {
    const { scatter } = this.view;
    if (scatter.points.coordinates === map) return;
    scatter.points.coordinates = map;
    scatter.drawBelow();
  }

  #labelOf({ cell, model }) {
    const { found } = this;
    const isKnown = found && found.state.cell === cell && found.state.model === model;
    return isKnown ? found.answer.label : undefined;
  }

  #startWorker(bytes, source) {
    const worker = startWorker(source);
    worker.onerror = () => this.view.showSentence(FAILED);
    this.requests = new Requests(worker, KINDS, (...answered) => this.#onAnswer(...answered));
    this.requests.ask("data", bytes);
  }

  #onAnswer(kind, content, answer) {
    if (kind === "bounds") this.#onBounds({ state: content, answer });
    if (kind === "labels") this.found = { state: content.state, answer };
    if (kind === "guide") this.guide.texts = guideTexts(this.data, content, answer);
    if (kind === "bounds" || kind === "labels") this.#describeLater();
    this.view.scatter.request();
    this.#showGuide();
  }

  #onBounds(slow) {
    if (slow.state.cell !== this.target.cell) return;
    this.slow = slow;
    if (!same(slow.state, this.target)) return;
    const { ibp, crown_ibp, copies } = this.geometry.at(slow.state);
    const { crown, attacks } = slow.answer;
    const boxes = { crown, crown_ibp, ibp };
    this.requests.ask("labels", { state: slow.state, boxes, points: { attacks, copies } });
  }

  #askForGuide() {
    if (this.guide.cell !== this.target.cell) {
      this.guide.cell = this.target.cell;
      this.requests.ask("guide", this.#steps());
    }
    this.#showGuide();
  }

  #showGuide() {
    const pressed = this.#steps().findIndex((state) => same(state, this.target));
    this.view.guide.show(this.guide.texts, pressed);
  }

  /** What is said of labels, by row of the table. */
  #labels() {
    const { data, found } = this;
    if (!found || !same(found.state, this.state)) return {};
    const { label, boxes, points } = found.answer;
    const own = data.labels[label];
    const ofBoxes = Object.entries(boxes).map(([name, verdict]) =>
      [name, verdictText(verdict, own, data.labels)]);
    const ofPoints = Object.entries(points).map(([name, codes]) =>
      [name, codes.length ? reachText(codes, data.labels) : `all ${own}`]);
    return Object.fromEntries([...ofBoxes, ...ofPoints]);
  }

  #describeLater() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (!this.#isKnown()) return;
      const boxes = boxesOf({ ...this.quick, ...this.slow.answer });
      this.view.showSentence(describe(this.data, this.target, boxes, this.found.answer));
    }, SENTENCE_AFTER);
  }
}

/** Boxes by name, and those around clouds. */
function boxesOf(shown) {
  const isShown = (name) => name in shown;
  const boxes = BOXES.filter(isShown).map((name) => [name, shown[name]]);
  const around = CLOUDS.filter(isShown).map((name) => [name, boxAround(shown[name])]);
  return Object.fromEntries([...boxes, ...around]);
}
