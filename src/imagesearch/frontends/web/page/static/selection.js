/** Pictures that were selected: to copy their paths, or to download them. */

import { archiveUrl } from "./api.js";
import { byId, toast } from "./dom.js";
import { plural } from "./text.js";

/** The most that the server puts into one archive. */
const MOST_AT_ONCE = 200;

export class Selection {
  /** @param {import("./grid.js").Grid} grid */
  constructor(grid) {
    this.grid = grid;
    /** @type {Map<string, import("./api.js").Picture>} */
    this.pictures = new Map();
    this.last = "";
    grid.isSelected = (id) => this.pictures.has(id);
    byId("clear-selection").addEventListener("click", () => this.clear());
    byId("copy-paths").addEventListener("click", () => this.#copy());
    byId("download-selection").addEventListener("click", () => this.#download());
  }

  get size() {
    return this.pictures.size;
  }

  /** @param {number} index @param {boolean} isRange all from the last one that was selected */
  toggle(index, isRange) {
    const { picture } = this.grid.items[index];
    const from = isRange ? this.grid.indexOf(this.last) : -1;
    if (from >= 0) {
      const [low, high] = from < index ? [from, index] : [index, from];
      for (let one = low; one <= high; one += 1) this.#set(one, true);
    } else this.#set(index, !this.pictures.has(picture.id));
    this.last = picture.id;
    this.#tell();
  }

  /** Select all that are in the grid. */
  all() {
    this.grid.items.forEach((_, index) => this.#set(index, true));
    this.#tell();
  }

  /** Select none. */
  clear() {
    this.pictures.clear();
    this.last = "";
    this.#tell();
  }

  /** @param {number} index @param {boolean} isSelected */
  #set(index, isSelected) {
    const { picture } = this.grid.items[index];
    if (isSelected) this.pictures.set(picture.id, picture);
    else this.pictures.delete(picture.id);
  }

  #tell() {
    this.grid.paint();
    byId("selection").hidden = !this.size;
    this.grid.list.classList.toggle("selecting", this.size > 0);
    byId("selection-count").textContent = this.size ? `${this.size} selected` : "";
  }

  async #copy() {
    const paths = [...this.pictures.values()].map(({ path }) => path).join("\n");
    try {
      await navigator.clipboard.writeText(paths);
      toast(`Copied ${plural(this.size, "path")}`);
    } catch (error) {
      toast(`The browser does not let this page copy: ${error.message}`);
    }
  }

  #download() {
    if (this.size > MOST_AT_ONCE) {
      toast(`At most ${MOST_AT_ONCE} pictures can be downloaded at once; ${this.size} are selected.`);
      return;
    }
    const link = document.createElement("a");
    link.href = archiveUrl([...this.pictures.keys()]);
    link.download = "";
    link.click();
  }
}
