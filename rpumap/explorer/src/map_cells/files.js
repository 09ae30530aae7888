/* Files that were dropped or chosen: those of a dropped folder too, sorted by what they are for. */

const REFERENCE = /\.rpumap$/i;

/**
 * Tell reference maps and tables of counts apart, by their names.
 * @param {File[]} files
 * @returns {{reference: File|null, tables: File[]}}
 * @throws {Error} if there are several reference maps, or no files
 */
export function sortFiles(files) {
  const visible = files.filter((file) => !file.name.startsWith("."));
  if (!visible.length) throw new Error("there is no file in it that could be opened");
  const references = visible.filter((file) => REFERENCE.test(file.name));
  if (references.length > 1) {
    const names = references.map((file) => file.name).join(", ");
    throw new Error(`these are ${references.length} reference maps (${names}): take one of them`);
  }
  return {
    reference: references[0] ?? null,
    tables: visible.filter((file) => !REFERENCE.test(file.name)),
  };
}

/**
 * Tell whether files are dragged, not text or a link.
 * @param {DragEvent} event
 * @returns {boolean}
 */
export function holdsFiles(event) {
  return Array.from(event.dataTransfer?.types ?? []).includes("Files");
}

/**
 * Files of a drop, those that lie in dropped folders too (10x Genomics writes a folder), but not
 * those of folders inside.
 * @param {DataTransfer} transfer which is empty once the event is over
 * @returns {Promise<File[]>}
 */
export async function droppedFiles(transfer) {
  const entries = Array.from(transfer.items ?? [], (item) => item.webkitGetAsEntry?.());
  const loose = Array.from(transfer.files);
  if (!entries.some((entry) => entry?.isDirectory)) return loose;
  const found = await Promise.all(entries.filter(Boolean).map(filesOf));
  return found.flat();
}

async function filesOf(entry) {
  if (entry.isFile) return [await fileOf(entry)];
  const inside = await entriesOf(entry.createReader());
  return Promise.all(inside.filter((inner) => inner.isFile).map(fileOf));
}

function fileOf(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

/** All entries of a folder: a reader gives a part of them at each call, and none at the end. */
async function entriesOf(reader) {
  const all = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return all;
    all.push(...some);
  }
}
