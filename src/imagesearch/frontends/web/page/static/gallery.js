/** The results: loads them page by page into the grid, and says how many there are. */

import { byId } from "./dom.js";
import { showFilterError } from "./filters.js";
import { Grid } from "./grid.js";
import { hideMessage, showEmpty, showError, showExpired, showUnknownWords } from "./messages.js";
import { Results } from "./results.js";
import { isSearch, listKey } from "./state.js";
import { plural } from "./text.js";

/** @typedef {import("./state.js").State} State */

/** Pixels below the window where the next page is fetched already. */
const AHEAD = 1500;
/** Lists that going back shows at once. */
const KEPT = 8;

export class Gallery {
  /**
   * @param {() => State} current
   * @param {(answer: ?import("./api.js").Answer) => void} found called with the first page of a search
   */
  constructor(current, found) {
    this.grid = new Grid(byId("grid"), current);
    this.found = found;
    /** @type {?Results} */
    this.results = null;
    this.isLoading = false;
    /** @type {Map<string, {results: Results, items: import("./grid.js").Item[]}>} */
    this.kept = new Map();
    new IntersectionObserver((seen) => seen.at(-1).isIntersecting && this.more(), { rootMargin: `${AHEAD}px` })
      .observe(byId("sentinel"));
  }

  /** @param {State} state @param {boolean} [isBack] whether a list from before will do */
  async load(state, isBack = false) {
    this.#keep();
    this.results?.abandon();
    hideMessage();
    const kept = isBack ? this.kept.get(listKey(state)) : undefined;
    this.grid.list.classList.toggle("searched", isSearch(state));
    byId("heading").textContent = isSearch(state) ? "Results" : "Pictures";
    if (kept) {
      this.results = kept.results;
      this.results.revive();
      this.isLoading = false;
      this.grid.clear();
      this.grid.append(kept.items, kept.results);
      this.#tell();
      return;
    }
    this.results = new Results(state);
    this.grid.clear(24);
    byId("count").textContent = isSearch(state) ? "Searching …" : "";
    this.isLoading = false;
    await this.more();
  }

  /** Fetch the next page, unless one is on its way or there is none. */
  async more() {
    const { results } = this;
    if (!results || results.isDone || this.isLoading) return;
    this.isLoading = true;
    try {
      const items = await results.next();
      if (results !== this.results) return;
      this.grid.append(items, results);
      this.#tell();
    } catch (error) {
      if (results === this.results && error.name !== "AbortError") this.#failed(error);
      return;
    } finally {
      if (results === this.results) this.isLoading = false;
    }
    // A page that does not reach below the window is followed by the next one.
    const { top } = byId("sentinel").getBoundingClientRect();
    if (top > 0 && top < window.innerHeight + AHEAD) await this.more();
  }

  #keep() {
    if (!this.results?.count) return;
    const key = listKey(this.results.state);
    this.kept.delete(key);
    this.kept.set(key, { results: this.results, items: this.grid.items });
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
  }

  #tell() {
    const { results } = this;
    const shown = this.grid.items.length;
    this.found(results.answer);
    if (!shown && results.isDone) {
      showEmpty(results.state, results.answer);
      byId("count").textContent = isSearch(results.state) ? "Nothing found" : "No pictures";
    } else if (results.total !== null) {
      byId("count").textContent = plural(results.total, "picture");
    } else if (results.state.sort === "date") {
      byId("count").textContent = `The ${plural(shown, "most similar picture")}, newest first`;
    } else {
      byId("count").textContent = `${plural(shown, "picture")}${results.isDone ? "" : ", more as you scroll"}`;
    }
  }

  /** @param {import("./api.js").ApiError} error */
  #failed(error) {
    const { state } = this.results;
    if (!this.grid.items.length) this.grid.clear();
    byId("count").textContent = "";
    if (error.status === 404 && state.upload) showExpired(() => byId("choose").click());
    else if (error.kind === "unknown-words") showUnknownWords(state, error.nearest);
    else if (error.status === 422 && Object.keys(state.where).length) {
      showFilterError(error.message);
      byId("count").textContent = "A filter cannot be used";
    } else showError(error, () => (this.grid.items.length ? this.#again() : this.load(state)));
  }

  #again() {
    hideMessage();
    this.more();
  }
}
