/** What is searched for: the picture with its region, the parts as chips, and what the picture shows. */

import { get, iconUrl, post, previewUrl, thumbnailUrl } from "./api.js";
import { byId, element, icon } from "./dom.js";
import { RegionFrame } from "./region.js";
import { emptyState, isSearch, isUploadAlone, queryPicture, urlOf } from "./state.js";
import { fileName, percent } from "./text.js";

/** @typedef {import("./state.js").State} State */

export class QueryPanel {
  /**
   * @param {(changes: Partial<State>) => void} go
   * @param {Promise<{words: {free_text: boolean, known: number}, classifier: ?string}>} status
   */
  constructor(go, status) {
    this.go = go;
    this.status = status;
    this.frame = new RegionFrame((region) => go({ region }));
    this.shown = "";
    this.labelled = "";
    byId("region-start").addEventListener("click", () => this.frame.begin());
    byId("region-reset").addEventListener("click", () => go({ region: "" }));
    byId("find").addEventListener("change", () => go({ find: byId("find").value }));
    byId("add-words").addEventListener("submit", (event) => {
      event.preventDefault();
      const q = byId("more-words").value.trim();
      if (q) go({ q });
    });
  }

  /** @param {State} state */
  async show(state) {
    this.state = state;
    byId("query").hidden = !isSearch(state);
    this.#chips(state);
    byId("more-words").value = "";
    byId("find-label").hidden = !isUploadAlone(state);
    byId("find").value = state.find;
    await Promise.all([this.#picture(state), this.#labels(state), this.#offerWords(state)]);
  }

  /** Beside a picture, unless there are some. @param {State} state */
  async #offerWords(state) {
    const form = byId("add-words");
    form.hidden = true;
    const { words } = await this.status;
    form.hidden = this.state !== state || Boolean(state.q) || !queryPicture(state) || !(words.free_text || words.known);
  }

  /** How the server took the words. @param {string[]} meanings */
  explain(meanings) {
    const place = byId("meanings");
    place.textContent = meanings.join(" · ");
    place.hidden = !meanings.length;
  }

  /** @param {State} state */
  async #picture(state) {
    if (!state.upload && !state.picture) {
      byId("query-picture").hidden = true;
      this.shown = "";
      byId("query-title").textContent = "";
      return;
    }
    const key = `${state.upload}/${state.picture}`;
    if (key !== this.shown) {
      this.shown = key;
      byId("query-picture").hidden = true; // also where there is no such picture any more
      byId("query-image").removeAttribute("src");
      byId("query-title").textContent = "";
      await this.#load(state, key);
    }
    this.frame.show(state.region);
    byId("region-reset").hidden = !state.region;
    byId("region-start").hidden = Boolean(state.region);
  }

  /** @param {State} state @param {string} key */
  async #load(state, key) {
    const image = byId("query-image");
    const about = state.upload
      ? await get(`/uploads/${encodeURIComponent(state.upload)}`)
      : await get(`/pictures/${state.picture}`);
    if (key !== this.shown) return;
    const name = state.upload ? about.name : fileName(about.path);
    image.alt = `Picture that is searched for: ${name}`;
    image.width = about.width;
    image.height = about.height;
    this.frame.setSize(about.width, about.height);
    byId("query-title").textContent = name;
    image.src = state.upload ? previewUrl(state.upload) : thumbnailUrl(about, 640);
    byId("query-picture").hidden = false;
  }

  /** @param {State} state */
  async #labels(state) {
    const picture = queryPicture(state);
    const key = JSON.stringify(picture);
    const place = byId("labels");
    if (key === this.labelled) return;
    this.labelled = key;
    place.hidden = true;
    const { classifier, words } = await this.status;
    if (!picture || !classifier) return;
    const { predictions } = await post("/classify", { picture, top: 5 });
    if (key !== this.labelled) return;
    byId("labels-title").textContent = state.region ? "What the region shows" : "What it shows";
    byId("label-list").replaceChildren(...labelBars(predictions, words.free_text || words.known > 0));
    place.hidden = false;
  }

  /** @param {State} state */
  #chips(state) {
    const chips = [];
    if (state.q) chips.push(this.#chip(`“${state.q}”`, "", { q: "" }));
    if (state.upload || state.picture) {
      const whole = state.upload ? "Your picture" : "Like a picture";
      const text = state.region ? `${whole}, a region` : whole;
      chips.push(this.#chip(text, "", { upload: "", picture: "", region: "" }));
    }
    for (const kind of ["good", "bad"]) {
      state[kind].forEach((id) => chips.push(this.#marked(state, kind, id)));
    }
    byId("chips").replaceChildren(...chips);
  }

  /** @param {State} state @param {"good"|"bad"} kind @param {string} id */
  #marked(state, kind, id) {
    const text = kind === "good" ? "More like this" : "Less like this";
    const chip = this.#chip(text, kind, { [kind]: state[kind].filter((other) => other !== id) });
    chip.prepend(element("img", { alt: "", width: "24", height: "24", src: iconUrl(id) }));
    return chip;
  }

  /** @param {string} text @param {string} kind @param {Partial<State>} changes what removing it does */
  #chip(text, kind, changes) {
    const remove = element("button", { type: "button", title: "Remove" }, icon("close"));
    remove.setAttribute("aria-label", `Remove from the search: ${text}`);
    remove.addEventListener("click", () => this.go(changes));
    return element("li", { class: `chip ${kind}` }, element("span", {}, text), remove);
  }
}

/**
 * Labels as bars; each a link to a search for it, where words can be searched for.
 *
 * @param {{label: string, score: number}[]} predictions
 * @param {boolean} canSearch
 */
export function labelBars(predictions, canSearch) {
  return predictions.map(({ label, score }) => {
    const name = canSearch
      ? element("a", { href: urlOf({ ...emptyState(), q: label }), "data-go": "" }, label)
      : element("span", {}, label);
    const bar = element("span", { class: "bar-fill", "aria-hidden": "true" });
    bar.style.width = `${Math.max(0.5, score * 100)}%`;
    const track = element("span", { class: "bar-track", "aria-hidden": "true" }, bar);
    return element("li", {}, name, element("span", { class: "bar-value" }, percent(score)), track);
  });
}
