/** The pictures of a state, a page at a time: of a search, or all by date. */

import { get, post } from "./api.js";
import { addConditions, conditionsOf, isSearch, partsOf, wayOf } from "./state.js";

const PAGE = 60;
/** The most that a search can leave out and return. */
const MOST_HITS = 10_000;

/** @typedef {import("./grid.js").Item} Item */

export class Results {
  /** @param {import("./state.js").State} state */
  constructor(state) {
    this.state = state;
    /** Number of all that match; null: not known, as of a search. @type {?number} */
    this.total = null;
    this.count = 0;
    this.isDone = false;
    /** The first page of a search. @type {?import("./api.js").Answer} */
    this.answer = null;
    this.newest = "";
    /** @type {Set<string>} */
    this.seen = new Set();
    this.aborter = new AbortController();
  }

  /** Nobody waits for it any more. */
  abandon() {
    this.aborter.abort();
  }

  /** Somebody waits for it again. */
  revive() {
    this.aborter = new AbortController();
  }

  /** @returns {Promise<Item[]>} the next page; empty at the end */
  async next() {
    if (this.isDone) return [];
    const found = isSearch(this.state) ? await this.#search() : await this.#browse();
    const fresh = found.filter((item) => !this.seen.has(item.picture.id));
    fresh.forEach((item) => this.seen.add(item.picture.id));
    return fresh;
  }

  async #browse() {
    const sort = this.state.sort === "oldest" ? "oldest" : "newest";
    const asked = new URLSearchParams({ offset: this.count, limit: PAGE, sort });
    addConditions(this.state, asked);
    const { total, pictures } = await get(`/pictures?${asked}`, this.aborter.signal);
    this.total = total;
    this.count += pictures.length;
    this.isDone = !pictures.length || this.count >= total;
    return pictures.map((picture) => ({ picture, confidence: null, others: [] }));
  }

  async #search() {
    const { state } = this;
    // By date only results of one page are in order, so there is one large page.
    const size = state.sort === "date" ? 4 * PAGE : PAGE;
    const request = {
      parts: partsOf(state),
      k: size,
      offset: this.count,
      sort: state.sort === "date" ? "date" : "score",
      only_confident: state.sure && !state.q, // of what words find it is not known
      group: state.fold,
      // Feedback looks for more of what comes first, and so can bring back what was marked as bad.
      ...(state.bad.length && { rerank: "none" }),
      ...wayOf(state),
      where: conditionsOf(state),
    };
    const answer = await post("/search", request, this.aborter.signal);
    this.answer ??= answer;
    this.count += size;
    const found = answer.hits.reduce((sum, hit) => sum + 1 + hit.others.length, 0);
    this.isDone = state.sort === "date" || found < size || this.count + size > MOST_HITS;
    return answer.hits.map(({ picture, confidence, others }) => ({ picture, confidence, others }));
  }
}
