/** One picture by itself: large, with what is known of it and its neighbours. */

import { downloadUrl, get, post, thumbnailUrl } from "./api.js";
import { byId, element, icon, toast } from "./dom.js";
import { labelBars } from "./query.js";
import { emptyState, noQuery, urlOf } from "./state.js";
import { bytes, day, fileName, moment, percent } from "./text.js";

const NEIGHBOURS = 12;

export class DetailView {
  /**
   * @param {{gallery: import("./gallery.js").Gallery, status: Promise<*>,
   *   change: (changes: Partial<import("./state.js").State>) => void,
   *   open: (id: string, how?: {replace?: boolean}) => void, close: () => void}} parts
   */
  constructor(parts) {
    Object.assign(this, parts);
    this.place = byId("detail");
    this.id = "";
  }

  get isOpen() {
    return Boolean(this.id);
  }

  /** @param {string} id of the picture; empty: none */
  async show(id) {
    this.id = id;
    this.place.hidden = !id;
    if (!id) {
      this.place.replaceChildren();
      return;
    }
    window.scrollTo(0, 0);
    try {
      const known = this.gallery.grid.items[this.#index()]?.picture;
      const picture = known ?? (await get(`/pictures/${id}`));
      if (id === this.id) this.#draw(picture);
    } catch (error) {
      if (id === this.id) this.#fail(error);
    }
  }

  /** @param {KeyboardEvent} event @returns {boolean} whether it meant something */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    if (event.key === "Escape") this.close();
    else if (event.key === "ArrowLeft") this.#step(-1);
    else if (event.key === "ArrowRight") this.#step(1);
    else if (event.key === "m") this.change({ ...noQuery(), picture: this.id });
    else return false;
    return true;
  }

  #index() {
    return this.gallery.grid.indexOf(this.id);
  }

  /** Whether there is a picture before and after this one; to be called when the list has changed. */
  offerSteps() {
    if (!this.place.querySelector(".detail-bar")) return;
    const index = this.#index();
    const { grid, results } = this.gallery;
    byId("detail-previous").disabled = index <= 0;
    byId("detail-next").disabled = index < 0 || (index + 1 >= grid.items.length && Boolean(results?.isDone));
  }

  /** @param {1|-1} by */
  async #step(by) {
    const index = this.#index();
    if (index < 0) return;
    const { grid } = this.gallery;
    if (index + by >= grid.items.length) await this.gallery.more();
    const next = grid.items[index + by];
    if (next) this.open(next.picture.id, { replace: true });
  }

  /** @param {Error & {status?: number}} error */
  #fail(error) {
    document.title = "ImageSearch";
    const title = element("h1", { id: "detail-title" }, titleOf(error));
    this.place.replaceChildren(this.#bar(), element("div", { class: "message" }, title, element("p", {}, error.message)));
  }

  /** @param {import("./api.js").Picture} picture */
  #draw(picture) {
    const name = fileName(picture.path);
    document.title = `${name} - ImageSearch`;
    const image = element("img", {
      id: "detail-image", alt: name, width: String(picture.width), height: String(picture.height), src: thumbnailUrl(picture, 1600),
    });
    const missing = element("p", { class: "note", hidden: "" }, "The file cannot be read any more.");
    image.addEventListener("error", () => {
      image.hidden = true;
      missing.hidden = false;
    });
    const labels = element("section", { class: "detail-part", hidden: "" });
    const near = element("section", { class: "detail-part neighbours", hidden: "" });
    const about = element("div", { class: "detail-about" }, element("h1", { id: "detail-title", tabindex: "-1" }, name), this.#actions(picture), facts(picture), labels);
    this.place.replaceChildren(this.#bar(), element("div", { class: "detail-body" }, element("figure", {}, image, missing), about), near);
    byId("detail-title").focus({ preventScroll: true });
    this.offerSteps();
    this.#addLabels(picture, labels).catch((error) => toast(error.message));
    this.#addNeighbours(picture, near).catch((error) => toast(error.message));
  }

  #bar() {
    const back = element("button", { id: "detail-back", type: "button", class: "plain" }, icon("back"), "Back to the pictures");
    back.addEventListener("click", () => this.close());
    const steps = [["detail-previous", "Previous picture", "back", -1], ["detail-next", "Next picture", "next", 1]].map(([id, text, shape, by]) => {
      const button = element("button", { id, type: "button", class: "icon", "aria-label": text, title: text }, icon(shape));
      button.addEventListener("click", () => this.#step(by));
      return button;
    });
    return element("div", { class: "detail-bar" }, back, element("div", { class: "buttons" }, ...steps));
  }

  /** @param {import("./api.js").Picture} picture */
  #actions(picture) {
    const similar = element("a", { class: "primary", id: "detail-similar", href: urlOf({ ...emptyState(), picture: picture.id }), "data-go": "" }, "More like this");
    const download = element("a", { class: "plain", id: "detail-download", href: downloadUrl(picture), download: fileName(picture.path) }, "Download");
    return element("p", { class: "buttons" }, similar, download);
  }

  /** @param {import("./api.js").Picture} picture @param {HTMLElement} place */
  async #addLabels(picture, place) {
    const { classifier, words } = await this.status;
    if (!classifier) return;
    const { predictions } = await post("/classify", { picture: { kind: "picture", id: picture.id }, top: 5 });
    const list = element("ul", { class: "labels", id: "detail-labels", "aria-labelledby": "detail-labels-title" });
    list.append(...labelBars(predictions, words.free_text || words.known > 0));
    place.replaceChildren(element("h2", { id: "detail-labels-title" }, "What it shows"), list);
    place.hidden = false;
  }

  /** @param {import("./api.js").Picture} picture @param {HTMLElement} place */
  async #addNeighbours(picture, place) {
    const answer = await post("/search", { parts: [{ kind: "picture", id: picture.id }], k: NEIGHBOURS + 1 });
    const hits = answer.hits.filter((hit) => hit.picture.id !== picture.id).slice(0, NEIGHBOURS);
    if (!hits.length) return;
    const list = element("ul", { class: "strip", id: "neighbours", role: "list", "aria-labelledby": "neighbours-title" });
    list.append(...hits.map((hit) => neighbour(hit)));
    place.replaceChildren(element("h2", { id: "neighbours-title" }, "Similar pictures"), list);
    place.hidden = false;
  }
}

/** @param {import("./api.js").Hit} hit */
function neighbour({ picture, confidence }) {
  const sure = confidence === null ? "" : percent(confidence);
  const link = element("a", { href: urlOf({ ...emptyState(), view: picture.id }), "data-go": "", "aria-label": [fileName(picture.path), day(picture.date), sure].filter(Boolean).join(", ") });
  const image = element("img", { alt: "", loading: "lazy", width: String(picture.width), height: String(picture.height), src: thumbnailUrl(picture, 200) });
  link.append(image, element("span", { class: "caption", "aria-hidden": "true" }, element("span", { class: "sure" }, sure)));
  return element("li", { class: "strip-tile" }, link);
}

/** @param {import("./api.js").Picture} picture */
function facts(picture) {
  const { latitude, longitude } = picture;
  const known = [
    [picture.taken ? "Taken" : "File changed", moment(picture.date)],
    ["Camera", picture.camera],
    ["Size", picture.width ? `${picture.width} × ${picture.height} pixels, ${bytes(picture.size)}` : bytes(picture.size)],
    ["Place", latitude === null || longitude === null ? null : `${latitude.toFixed(5)}, ${longitude.toFixed(5)}`],
    ["Folder", picture.path.slice(0, -fileName(picture.path).length - 1) || "/"],
    ...Object.entries(picture.annotations).map(([name, value]) => [name, String(value)]),
  ];
  const list = element("dl", { class: "facts" });
  for (const [name, value] of known) {
    if (value) list.append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  }
  return list;
}

/** @param {Error & {status?: number}} error */
const titleOf = (error) => (error.status === 404 ? "There is no such picture" : "The picture cannot be shown");
