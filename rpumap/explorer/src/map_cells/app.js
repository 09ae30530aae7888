/* One app: files come in, the worker works, and panels show what it says. */

import { withCommas } from "../readers/input_error.js";
import { fromBase64 } from "../ui/base64.js";
import { ChoicePanel, defaultChoice, hasChoice } from "./choice_panel.js";
import { FilePanel } from "./file_panel.js";
import { droppedFiles, holdsFiles, sortFiles } from "./files.js";
import { MapView } from "./map_view.js";
import { ProgressPanel } from "./progress_panel.js";
import { ReferencePanel } from "./reference_panel.js";
import { ResultPanel } from "./result_panel.js";
import { remarksOn } from "./summary.js";
import { Cancelled, Tasks } from "./tasks.js";

const BUSY = ["opening", "reading", "mapping"];

/**
 * What an app holds, for those who look at it from outside.
 * @typedef {object} Known
 * @property {"waiting"|"opening"|"choosing"|"reading"|"mapping"|"done"} state "choosing": a table
 *   is open, and something is to be chosen, or the choice failed
 * @property {(import("./session.js").ReferenceView & {name: string})|null} reference
 * @property {import("./session.js").TableView|null} table
 * @property {import("./session.js").Result|null} result
 * @property {{reading: number, computing: number}|null} seconds
 * @property {Object<string, number>|null} bytes that are held, by what they are for
 * @property {number} cell that is pointed at, -1: none
 * @property {{lower: Float64Array, upper: Float64Array}|null} box its certified box
 */

/** The app in one place of a page. */
export class App {
  /**
   * @param {HTMLElement} mount its content is replaced; `mount.rpumap` is set to `Known`
   * @param {function(): Worker} startWorker
   */
  constructor(mount, startWorker) {
    this.mount = mount;
    this.tasks = new Tasks(startWorker);
    this.known = mount.rpumap = { reference: null, table: null };
    this.given = { id: 0, reference: null, table: null }; // files, each with a number of its own
    this.turn = 0;
    const take = (files) => this.receive(files);
    this.references = new ReferencePanel(take);
    this.tables = new FilePanel(take);
    this.choices = new ChoicePanel((choice) => this.map(choice));
    this.progress = new ProgressPanel(() => this.tasks.cancel());
    this.view = new MapView((cell) => this.select(cell));
    this.results = new ResultPanel();
    this.tables.box.append(this.choices.box, this.progress.box);
    const panels = [this.references, this.tables, this.view, this.results];
    mount.replaceChildren(...panels.map(({ box }) => box));
    this.clearResult();
    this.setState("waiting");
    this.acceptDrops();
  }

  /**
   * Begin with the reference that comes with the page, if there is one.
   * @param {{name: string, base64: string}} [shipped]
   */
  start(shipped) {
    if (!shipped) return;
    this.started = this.attempt(this.references, () => {
      const file = new File([fromBase64(shipped.base64)], "reference.rpumap");
      return this.useReference(file, shipped.name);
    });
  }

  // --- what comes in -----------------------------------------------------------------------------

  acceptDrops() {
    const { mount } = this;
    const mark = (isOver) => mount.classList.toggle("rpumap-dragged", isOver);
    mount.addEventListener("dragover", (event) => mark(holdsFiles(event)));
    mount.addEventListener("dragleave", (event) => {
      if (!mount.contains(event.relatedTarget)) mark(false);
    });
    mount.addEventListener("drop", (event) => {
      mark(false);
      if (holdsFiles(event)) this.receive(droppedFiles(event.dataTransfer));
    });
    // A file that misses the app would replace the page, and the results with it.
    for (const name of ["dragover", "drop"]) {
      window.addEventListener(name, (event) => holdsFiles(event) && event.preventDefault());
    }
  }

  /**
   * Take files that were chosen or dropped: a reference, a table, or both.
   * @param {File[]|Promise<File[]>} files
   */
  async receive(files) {
    let sorted;
    const isSorted = await this.attempt(this.tables, async () => {
      sorted = sortFiles(await files);
    });
    if (!isSorted) return;
    const { reference, tables } = sorted;
    this.stop();
    if (this.known.reference) this.references.fail("");
    await this.started;
    if (reference && !(await this.useReference(reference, reference.name))) return;
    if (tables.length) await this.open(tables);
    else if (this.given.table) await this.open(this.given.table.files);
  }

  // --- work --------------------------------------------------------------------------------------

  /** Read a reference; if it is none, the one before stays, and its results. */
  useReference(file, name) {
    return this.attempt(this.references, async () => {
      const given = { id: ++this.given.id, file };
      const view = await this.tasks.run("readReference", given);
      this.given.reference = given;
      this.known.reference = { ...view, name };
      this.clearResult();
      this.references.show(this.known.reference);
      this.view.showReference(this.known.reference);
    });
  }

  /** Open a table, and map its cells if it leaves nothing to choose. */
  async open(files) {
    this.clearResult();
    this.known.table = this.given.table = null;
    this.choices.hide();
    const isOpen = await this.attempt(
      this.tables,
      async () => {
        const table = { id: ++this.given.id, files };
        this.known.table = await this.tasks.run("open", { reference: this.given.reference, table });
        this.given.table = table;
      },
      { during: "opening", onFailure: "waiting" },
    );
    if (!isOpen) return;
    const { table, reference } = this.known;
    const choice = defaultChoice(table, reference?.layer);
    this.choices.show(files.map(({ name }) => name).join(", "), table, choice);
    this.setState("choosing");
    if (!hasChoice(table)) await this.map(choice);
  }

  /** Map the cells of the table that is open; if that fails, something else can be chosen. */
  async map(choice) {
    this.clearResult();
    const { reference, table } = this.given;
    const isMapped = await this.attempt(
      this.choices,
      async () => {
        if (!reference) throw new Error("there is no reference map yet: choose a .rpumap file");
        const content = { reference, table, choice };
        Object.assign(this.known, await this.tasks.run("map", content, this.onProgress));
      },
      { during: "reading", onFailure: "choosing" },
    );
    if (isMapped) this.showResult();
  }

  onProgress = ({ stage, share }) => this.setState(stage, share);

  showResult() {
    const { result, reference, seconds, bytes } = this.known;
    const remarks = [...result.remarks, ...remarksOn(result, reference.threshold)];
    const fileName = this.given.table.files[0].name;
    this.view.showResult(result);
    this.results.show(result, { remarks, seconds, bytes, fileName });
    this.setState("done");
    this.progress.say(`Cells mapped: ${withCommas(result.n)}.`);
  }

  clearResult() {
    Object.assign(this.known, { result: null, seconds: null, bytes: null, cell: -1, box: null });
    if (this.known.state === "done") this.setState("choosing");
    this.view.showResult(null);
    this.results.hide();
  }

  /** End what is going on, without a word. */
  stop() {
    this.turn++;
    if (!BUSY.includes(this.known.state)) return;
    this.tasks.cancel();
    this.setState(this.given.table ? "choosing" : "waiting");
  }

  setState(state, share) {
    this.known.state = this.mount.dataset.state = state;
    const isBusy = BUSY.includes(state);
    const { choices, progress } = this;
    const { activeElement } = document;
    progress.show(isBusy ? state : null, share);
    choices.disable(isBusy);
    // the keyboard goes on with the button that takes the place of the one that was used
    const options = { preventScroll: true };
    if (isBusy && choices.box.contains(activeElement)) progress.button.focus(options);
    if (!isBusy && activeElement === progress.button) choices.button.focus(options);
  }

  /**
   * Do something, and show in a panel why it failed.
   * @param {{fail: function(string)}} panel
   * @param {function(): Promise} action
   * @param {{during?: string, onFailure?: string}} states
   * @returns {Promise<boolean>} whether it succeeded, and nothing else was begun meanwhile
   */
  async attempt(panel, action, { during, onFailure } = {}) {
    const turn = during ? ++this.turn : this.turn;
    panel.fail("");
    if (during) this.setState(during);
    try {
      await action();
      return turn === this.turn;
    } catch (error) {
      if (turn !== this.turn) return false;
      if (onFailure) this.setState(onFailure);
      if (error instanceof Cancelled) this.progress.say("Cancelled.");
      else panel.fail(error.message);
      return false;
    }
  }

  // --- one cell ----------------------------------------------------------------------------------

  select(cell) {
    Object.assign(this.known, { cell, box: null });
    this.findBox();
  }

  /** Have the box computed of the cell that is pointed at: of the last one, if it moves on. */
  async findBox() {
    if (this.isFinding) return;
    this.isFinding = true;
    try {
      while (this.known.cell >= 0 && !this.known.box) {
        const { cell } = this.known;
        const box = await this.tasks.run("box", { cell });
        if (cell !== this.known.cell) continue;
        this.known.box = box;
        this.view.showBox(box);
      }
    } catch (error) {
      if (!(error instanceof Cancelled)) this.view.fail(error.message);
    } finally {
      this.isFinding = false;
    }
  }
}
