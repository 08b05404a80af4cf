/**
 * The list of pictures: a justified layout, filled page by page. Only tiles near the window are in the document, so
 * that ten thousand are as smooth as ten.
 */

import { thumbnailUrl } from "./api.js";
import { justify, ratioOf } from "./layout.js";
import { makeSkeleton, makeTile, paintSelection } from "./tile.js";

const GAP = 6;
/** Pixels above and below the window in which tiles are kept. */
const AROUND = 1200;
/** Pixels; below, a tile has no room for its buttons in a row. */
const NARROW = 150;
const SKELETON_RATIOS = [1.5, 0.75, 1, 1.33];

/**
 * @typedef {import("./api.js").Picture} Picture
 * @typedef {{picture: Picture, confidence: ?number, others: import("./api.js").Hit[]}} Item
 */

export class Grid {
  /** @param {HTMLElement} list @param {() => import("./state.js").State} current */
  constructor(list, current) {
    this.list = list;
    this.current = current;
    /** @type {(id: string) => boolean} */
    this.isSelected = () => false;
    /** Number of all pictures, if it is known. @type {?number} */
    this.total = null;
    /** @type {Item[]} */
    this.items = [];
    /** Tiles in the document, by index. @type {Map<number, HTMLElement>} */
    this.drawn = new Map();
    /** @type {import("./layout.js").Place[]} */
    this.places = [];
    /** Index of the first tile of each row. @type {number[]} */
    this.rows = [];
    this.isEnd = false;
    this.width = 0;
    this.bottom = 0;
    this.frame = 0;
    new ResizeObserver(() => this.refresh()).observe(list);
    window.addEventListener("scroll", () => this.#drawSoon(), { passive: true });
  }

  /** Empty it; with a number of grey tiles while the answer is awaited. @param {number} [skeletons] */
  clear(skeletons = 0) {
    this.items = [];
    this.places = [];
    this.rows = [];
    this.#erase();
    this.list.style.height = "0";
    this.list.setAttribute("aria-busy", String(skeletons > 0));
    const width = this.#width();
    if (!skeletons || !width) return;
    const ratios = Array.from({ length: skeletons }, (_, index) => SKELETON_RATIOS[index % SKELETON_RATIOS.length]);
    const { places, bottom } = justify(ratios, width, GAP);
    this.list.style.height = `${bottom}px`;
    this.list.append(...places.map((place) => put(makeSkeleton(), place)));
  }

  /**
   * Add a page.
   *
   * @param {Item[]} items
   * @param {{total: ?number, isDone: boolean}} how number of all pictures, if it is known; whether this is the end
   */
  append(items, { total, isDone }) {
    if (!this.items.length) this.clear();
    this.total = total;
    this.isEnd = isDone;
    this.items.push(...items);
    this.#layOut(this.places.length);
  }

  /** Put more pictures after one. @param {number} index @param {Item[]} items */
  insertAfter(index, items) {
    this.items.splice(index + 1, 0, ...items);
    this.#erase();
    this.#layOut(0);
  }

  /** @param {string} id @returns {number} where a picture is; -1: nowhere */
  indexOf(id) {
    return this.items.findIndex((item) => item.picture.id === id);
  }

  /** @param {Element} inside @returns {number} index of the tile that holds an element; -1: none does */
  indexAt(inside) {
    return Number(inside.closest?.(".tile")?.dataset.index ?? -1);
  }

  /** @returns {number} index of the first that is below the upper edge of the window; -1: there is none */
  firstVisible() {
    const edge = -this.list.getBoundingClientRect().top;
    return this.places.findIndex(({ top }) => top >= edge);
  }

  /** @param {number} index */
  focus(index) {
    if (!this.places[index]) return;
    if (!this.drawn.has(index)) {
      this.#scrollTo(index, window.innerHeight / 3);
      this.#draw();
    }
    const link = this.drawn.get(index).querySelector(".tile-link");
    link.focus({ preventScroll: true });
    link.scrollIntoView({ block: "nearest" });
  }

  /** Lay out what could not be while it was hidden, or everything again for another width. */
  refresh() {
    const width = this.#width();
    if (!width || !this.items.length) return;
    if (width === this.width) {
      this.#layOut(this.places.length);
      return;
    }
    const first = this.firstVisible();
    const isScrolled = this.list.getBoundingClientRect().top < 0;
    this.#layOut(0);
    if (isScrolled && first >= 0) this.#scrollTo(first, 0);
  }

  /** Show which are selected. */
  paint() {
    this.drawn.forEach((tile, index) => paintSelection(tile, this.isSelected(this.items[index].picture.id)));
  }

  /** The tile above or below one: that whose middle is closest. @param {number} index @param {1|-1} step */
  inNextRow(index, step) {
    const row = this.rows.findLastIndex((first) => first <= index);
    const first = this.rows[row + step];
    if (first === undefined) return index;
    const end = this.rows[row + step + 1] ?? this.places.length;
    const middle = (one) => this.places[one].left + this.places[one].width / 2;
    const wanted = middle(index);
    let best = first;
    for (let one = first; one < end; one += 1) {
      if (Math.abs(middle(one) - wanted) < Math.abs(middle(best) - wanted)) best = one;
    }
    return best;
  }

  #width() {
    return Math.floor(this.list.getBoundingClientRect().width); // clientWidth may be rounded up
  }

  /** @param {number} index @param {number} below pixels between it and the upper edge of the window */
  #scrollTo(index, below) {
    const top = this.list.getBoundingClientRect().top + window.scrollY;
    window.scrollTo(0, top + this.places[index].top - below);
  }

  /** @param {number} from index of the first that has no place yet */
  #layOut(from) {
    const width = this.#width();
    if (!width) return; // hidden; done when it is shown
    const start = width === this.width ? from : 0;
    this.width = width;
    const ratios = this.items.slice(start).map((item) => ratioOf(item.picture));
    const { places, rows, bottom } = justify(ratios, width, GAP, { top: start ? this.bottom : 0, isEnd: this.isEnd });
    this.bottom = bottom;
    this.places = [...this.places.slice(0, start), ...places];
    this.rows = [...this.rows.filter((first) => first < start), ...rows.map((first) => first + start)];
    this.list.style.height = `${bottom}px`;
    this.drawn.forEach((tile, index) => index >= start && this.#put(tile, index));
    this.#draw();
  }

  #drawSoon() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.#draw();
    });
  }

  /** Put the tiles near the window into the document, in their order, and take the others out. */
  #draw() {
    if (!this.places.length || !this.list.offsetParent) return;
    const edge = -this.list.getBoundingClientRect().top;
    const from = this.#firstOfRowAt(edge - AROUND, 0);
    const to = this.#firstOfRowAt(edge + window.innerHeight + AROUND, 1);
    for (const [index, tile] of this.drawn) {
      const isNear = index >= from && index < to;
      if (isNear || tile.contains(document.activeElement)) continue;
      tile.remove();
      this.drawn.delete(index);
    }
    let next = this.drawn.get([...this.drawn.keys()].find((index) => index >= to)) ?? null;
    for (let index = to - 1; index >= from; index -= 1) {
      if (!this.drawn.has(index)) this.list.insertBefore(this.#make(index), next);
      next = this.drawn.get(index);
    }
  }

  /** @param {number} height @param {0|1} after rows to go on @returns {number} index of the first tile of a row */
  #firstOfRowAt(height, after) {
    let low = 0;
    let high = this.rows.length;
    while (low + 1 < high) {
      const middle = (low + high) >> 1;
      if (this.places[this.rows[middle]].top <= height) low = middle;
      else high = middle;
    }
    return this.rows[low + after] ?? this.places.length;
  }

  /** @param {number} index */
  #make(index) {
    const item = this.items[index];
    const tile = makeTile(item, this.current());
    tile.dataset.index = String(index);
    tile.setAttribute("aria-posinset", String(index + 1));
    tile.setAttribute("aria-setsize", String(this.total ?? -1));
    paintSelection(tile, this.isSelected(item.picture.id));
    this.drawn.set(index, tile);
    return this.#put(tile, index);
  }

  /** @param {HTMLElement} tile @param {number} index */
  #put(tile, index) {
    const place = this.places[index];
    const address = thumbnailUrl(this.items[index].picture, Math.max(place.width, place.height));
    const image = tile.querySelector("img");
    if (image.getAttribute("src") !== address) image.setAttribute("src", address);
    return put(tile, place);
  }

  #erase() {
    this.drawn.clear();
    this.list.replaceChildren();
  }
}

/** @param {HTMLElement} tile @param {import("./layout.js").Place} place */
function put(tile, { left, top, width, height }) {
  Object.assign(tile.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
  tile.classList.toggle("narrow", width < NARROW);
  return tile;
}
