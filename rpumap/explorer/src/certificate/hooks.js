// What tests and other scripts can ask of an explorer: `mount.rpumap`.

/** A view of one explorer. Boxes are {lower: [x, y], upper: [x, y]}, points [[x, y], ...]. */
export class Hooks {
  #app;

  /** @param {import("./app.js").CertificateApp} app */
  constructor(app) {
    this.#app = app;
  }

  /** @returns {import("./state.js").State} what is shown, on the way as well */
  get state() {
    return { ...this.#app.state };
  }

  /** @returns {boolean} whether all that is shown belongs to this state, labels included */
  get settled() {
    return this.#app.settled;
  }

  /** @returns {number} ms that computing and drawing the last frame took */
  get lastFrame() {
    return this.#app.lastFrame;
  }

  /** @returns {Object<string, {lower: number[], upper: number[]}>} ibp, crown_ibp and crown */
  get boxes() {
    const { crown, crown_ibp, ibp } = this.#app.shown;
    return { ibp: ends(ibp), crown_ibp: ends(crown_ibp), crown: ends(crown) };
  }

  /** @returns {Object<string, number[][]>} place, copies, attacks and corners of the polygon */
  get points() {
    const { place, copies, attacks, polygon } = this.#app.shown;
    const sets = { place, copies, attacks, polygon };
    return Object.fromEntries(Object.entries(sets).map(([name, set]) => [name, pairs(set)]));
  }

  /** @returns {object|null} label at the place of the cell, and verdicts by box, as names */
  get labels() {
    const { data, found } = this.#app;
    if (!found) return null;
    const names = (codes) => codes.map((code) => data.labels[code]);
    const boxes = Object.entries(found.answer.boxes).map(([name, { certain, reached }]) =>
      [name, { certain, reached: names(reached) }]);
    return { label: data.labels[found.answer.label], boxes: Object.fromEntries(boxes) };
  }

  /**
   * @param {number} cell
   * @returns {[number, number]} pixels from the left and top end of the map
   */
  pixels(cell) {
    const { map } = this.#app.data.models[this.#app.target.model];
    return this.#app.view.scatter.toPixels(map[2 * cell], map[2 * cell + 1]);
  }

  /** @param {Partial<import("./state.js").State>} change what to show from now on, at once */
  show(change) {
    this.#app.go({ ...this.#app.target, ...change });
  }
}

function ends(box) {
  return box && { lower: [box[0], box[1]], upper: [box[2], box[3]] };
}

function pairs(array) {
  const n = array ? array.length / 2 : 0;
  return Array.from({ length: n }, (_, i) => [array[2 * i], array[2 * i + 1]]);
}
