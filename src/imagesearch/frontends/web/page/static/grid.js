/** The list of pictures: tiles in a justified layout, filled page by page. */

import { thumbnailUrl } from "./api.js";
import { byId, icon } from "./dom.js";
import { justify, ratioOf } from "./layout.js";
import { urlOf } from "./state.js";
import { day, fileName, percent, plural, sureness } from "./text.js";

const GAP = 6;
/** Pixels; below, a tile has no room for its buttons in a row. */
const NARROW = 150;
const TILE = byId("tile-template");

/**
 * @typedef {import("./api.js").Picture} Picture
 * @typedef {{picture: Picture, confidence: ?number, others: import("./api.js").Hit[]}} Item
 */

export class Grid {
  /** @param {HTMLElement} list @param {() => import("./state.js").State} current */
  constructor(list, current) {
    this.list = list;
    this.current = current;
    /** @type {Item[]} */
    this.items = [];
    /** @type {HTMLElement[]} */
    this.tiles = [];
    this.rows = [0];
    /** @type {import("./layout.js").Place[]} */
    this.places = [];
    this.width = 0;
    new ResizeObserver(() => this.#resized()).observe(list);
  }

  /** Empty it; with a number of grey tiles while the answer is awaited. @param {number} [skeletons] */
  clear(skeletons = 0) {
    this.items = [];
    this.tiles = [];
    this.rows = [0];
    this.places = [];
    this.list.style.height = "0";
    this.list.replaceChildren();
    this.list.classList.toggle("waiting", skeletons > 0);
    this.list.setAttribute("aria-busy", String(skeletons > 0));
    if (!skeletons || !this.#width()) return;
    const ratios = Array.from({ length: skeletons }, (_, index) => [1.5, 1, 0.75, 1.33][(index * 7) % 4]);
    const { places, bottom } = justify(ratios, this.#width(), GAP);
    this.list.style.height = `${bottom}px`;
    for (const place of places) {
      const tile = document.createElement("li");
      tile.className = "tile skeleton";
      tile.setAttribute("aria-hidden", "true");
      put(tile, place);
      this.list.append(tile);
    }
  }

  /** Add a page. @param {Item[]} items */
  append(items) {
    if (this.list.classList.contains("waiting")) this.clear();
    // The last row was not full; it is laid out again.
    const from = this.rows.at(-1) ?? 0;
    this.items.push(...items);
    const added = items.map((item) => this.#tile(item));
    this.tiles.push(...added);
    this.#layOut(from);
    this.list.append(...added);
  }

  /** Put one more picture after another. @param {number} index @param {Item[]} items */
  insertAfter(index, items) {
    const added = items.map((item) => this.#tile(item));
    this.items.splice(index + 1, 0, ...items);
    this.tiles[index].after(...added);
    this.tiles.splice(index + 1, 0, ...added);
    this.rows = [0];
    this.#layOut(0);
  }

  /** @param {string} id @returns {number} where a picture is; -1: nowhere */
  indexOf(id) {
    return this.items.findIndex((item) => item.picture.id === id);
  }

  /** @param {Element} inside @returns {number} index of the tile that holds an element; -1: none does */
  indexAt(inside) {
    const tile = inside.closest?.(".tile");
    return tile ? this.tiles.indexOf(tile) : -1;
  }

  /** @param {number} index */
  focus(index) {
    const link = this.tiles[index]?.querySelector(".tile-link");
    link?.focus({ preventScroll: true });
    link?.scrollIntoView({ block: "nearest" });
  }

  /** The tile above or below one: that whose middle is closest. @param {number} index @param {1|-1} step */
  inNextRow(index, step) {
    const row = this.rows.findLastIndex((first) => first <= index);
    const first = this.rows[row + step];
    if (first === undefined) return index;
    const end = this.rows[row + step + 1] ?? this.tiles.length;
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

  #resized() {
    const width = this.#width();
    if (width && width !== this.width && this.tiles.length) {
      this.rows = [0];
      this.#layOut(0);
    }
  }

  /** @param {number} from index of the first of a row */
  #layOut(from) {
    const width = this.#width() || this.width;
    if (!width) return; // hidden; done when it is shown
    this.width = width;
    const ratios = this.items.slice(from).map((item) => ratioOf(item.picture));
    const { places, rows, bottom } = justify(ratios, width, GAP, from ? this.places[from].top : 0);
    this.places.splice(from, Infinity, ...places);
    this.rows = [...this.rows.filter((first) => first < from), ...rows.map((first) => first + from)];
    this.list.style.height = `${bottom}px`;
    places.forEach((place, index) => {
      const tile = this.tiles[from + index];
      put(tile, place);
      const image = tile.querySelector("img");
      const address = thumbnailUrl(this.items[from + index].picture, Math.max(place.width, place.height));
      if (image.getAttribute("src") !== address) image.setAttribute("src", address);
    });
  }

  /** @param {Item} item */
  #tile({ picture, confidence, others }) {
    const tile = TILE.content.firstElementChild.cloneNode(true);
    const link = tile.querySelector(".tile-link");
    const name = fileName(picture.path);
    const state = this.current();
    tile.dataset.id = picture.id;
    link.href = urlOf({ ...state, view: picture.id });
    link.setAttribute("aria-label", nameOf(picture, confidence));
    link.title = confidence === null ? name : `${name}\n${percent(confidence)}: ${sureness(confidence)}`;
    tile.querySelector(".when").textContent = day(picture.date);
    tile.querySelector(".sure").textContent = confidence === null ? "" : percent(confidence);
    tile.querySelector(".pick input").setAttribute("aria-label", `Select ${name}`);
    for (const button of tile.querySelectorAll(".actions button")) {
      button.setAttribute("aria-label", `${button.getAttribute("aria-label")}: ${name}`);
      const marked = state[button.dataset.do];
      if (marked) button.setAttribute("aria-pressed", String(marked.includes(picture.id)));
    }
    if (others.length) tile.append(unfoldButton(others.length, name));
    tile.querySelector("img").addEventListener("error", () => tile.classList.add("broken"), { once: true });
    return tile;
  }
}

/** @param {number} count @param {string} name */
function unfoldButton(count, name) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "unfold";
  button.dataset.do = "unfold";
  button.title = plural(count, "near-identical picture");
  button.setAttribute("aria-label", `Show ${button.title} of ${name}`);
  button.append(icon("stack"), `+${count}`);
  return button;
}

/** What a screen reader says of a tile. @param {Picture} picture @param {?number} confidence */
function nameOf(picture, confidence) {
  const parts = [fileName(picture.path), day(picture.date)];
  if (confidence !== null) parts.push(`${percent(confidence)}, ${sureness(confidence)}`);
  return parts.join(", ");
}

/** @param {HTMLElement} tile @param {import("./layout.js").Place} place */
function put(tile, { left, top, width, height }) {
  Object.assign(tile.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
  tile.classList.toggle("narrow", width < NARROW);
}
