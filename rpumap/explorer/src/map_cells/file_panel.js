/* Where files with counts come in. */

import { element } from "../ui/dom.js";
import { Panel, fileButton } from "./panel.js";

/** The place to drop files, with a button for those who do not drop. */
export class FilePanel extends Panel {
  /**
   * @param {function(File[])} take what is done with files that are chosen
   */
  constructor(take) {
    const text =
      "Drop a file with raw counts: .h5ad, 10x Genomics’ .h5 or its three files with .mtx (or " +
      "their folder), .csv or .tsv. It is read here and sent nowhere.";
    const zone = element("div", { class: "rpumap-drop-zone" }, element("p", { text }));
    zone.append(fileButton("Choose files", take));
    super("cells", "Your cells", zone);
  }
}
