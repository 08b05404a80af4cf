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
    else if (event.key.toLowerCase() === "m") this.change({ ...noQuery(), picture: this.id });
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
    const message = element("div", { class: "message" }, title, element("p", {}, error.message));
    this.place.replaceChildren(this.#bar(), message);
  }

  /** @param {import("./api.js").Picture} picture */
  #draw(picture) {
    const name = fileName(picture.path);
    document.title = `${name} - ImageSearch`;
    const title = element("h1", { id: "detail-title", tabindex: "-1" }, name);
    const labels = element("section", { class: "detail-part", hidden: "" });
    const near = element("section", { class: "detail-part neighbours", hidden: "" });
    const about = element("div", { class: "detail-about" }, title, actions(picture), facts(picture), labels);
    this.place.replaceChildren(this.#bar(), element("div", { class: "detail-body" }, large(picture), about), near);
    title.focus({ preventScroll: true });
    this.offerSteps();
    this.#addLabels(picture, labels).catch((error) => toast(error.message));
    this.#addNeighbours(picture, near).catch((error) => toast(error.message));
  }

  #bar() {
    const back = element("button", { type: "button", class: "plain" }, icon("back"), "Back to the pictures");
    back.id = "detail-back";
    back.addEventListener("click", () => this.close());
    const steps = [this.#stepButton("previous", "back", -1), this.#stepButton("next", "next", 1)];
    return element("div", { class: "detail-bar" }, back, element("div", { class: "buttons" }, ...steps));
  }

  /** @param {"previous"|"next"} which @param {string} shape @param {1|-1} by */
  #stepButton(which, shape, by) {
    const text = which === "next" ? "Next picture" : "Previous picture";
    const button = element("button", { type: "button", class: "icon", "aria-label": text, title: text }, icon(shape));
    button.id = `detail-${which}`;
    button.addEventListener("click", () => this.#step(by));
    return button;
  }

  /** @param {import("./api.js").Picture} picture @param {HTMLElement} place */
  async #addLabels(picture, place) {
    const { classifier, words } = await this.status;
    if (!classifier) return;
    const { predictions } = await post("/classify", { picture: { kind: "picture", id: picture.id }, top: 5 });
    const list = element("ul", { class: "labels", "aria-labelledby": "detail-labels-title" });
    list.id = "detail-labels";
    list.append(...labelBars(predictions, words.free_text || words.known > 0));
    place.replaceChildren(element("h2", { id: "detail-labels-title" }, "What it shows"), list);
    place.hidden = false;
  }

  /** @param {import("./api.js").Picture} picture @param {HTMLElement} place */
  async #addNeighbours(picture, place) {
    const answer = await post("/search", { parts: [{ kind: "picture", id: picture.id }], k: NEIGHBOURS + 1 });
    const hits = answer.hits.filter((hit) => hit.picture.id !== picture.id).slice(0, NEIGHBOURS);
    if (!hits.length) return;
    const list = element("ul", { class: "strip", role: "list", "aria-labelledby": "neighbours-title" });
    list.id = "neighbours";
    list.append(...hits.map((hit) => neighbour(hit)));
    place.replaceChildren(element("h2", { id: "neighbours-title" }, "Similar pictures"), list);
    place.hidden = false;
  }
}

/** The picture itself. @param {import("./api.js").Picture} picture */
function large(picture) {
  const image = element("img", { id: "detail-image", alt: fileName(picture.path), src: thumbnailUrl(picture, 1600) });
  image.width = picture.width;
  image.height = picture.height;
  const missing = element("p", { class: "note", hidden: "" }, "The file cannot be read any more.");
  image.addEventListener("error", () => {
    image.hidden = true;
    missing.hidden = false;
  });
  return element("figure", {}, image, missing);
}

/** What can be done with it. @param {import("./api.js").Picture} picture */
function actions(picture) {
  const search = urlOf({ ...emptyState(), picture: picture.id });
  const similar = element("a", { class: "primary", href: search, "data-go": "" }, "More like this");
  similar.id = "detail-similar";
  const name = fileName(picture.path);
  const save = element("a", { class: "plain", href: downloadUrl(picture), download: name }, "Download");
  save.id = "detail-download";
  return element("p", { class: "buttons" }, similar, save);
}

/** @param {import("./api.js").Hit} hit */
function neighbour({ picture, confidence }) {
  const sure = confidence === null ? "" : percent(confidence);
  const name = [fileName(picture.path), day(picture.date), sure].filter(Boolean).join(", ");
  const image = element("img", { alt: "", loading: "lazy", src: thumbnailUrl(picture, 200) });
  image.width = picture.width;
  image.height = picture.height;
  const shown = element("span", { class: "sure" }, sure);
  const caption = element("span", { class: "caption", "aria-hidden": "true" }, shown);
  const address = urlOf({ ...emptyState(), view: picture.id });
  const link = element("a", { href: address, "data-go": "", "aria-label": name }, image, caption);
  return element("li", { class: "strip-tile" }, link);
}

/** @param {import("./api.js").Picture} picture */
function facts(picture) {
  const { latitude, longitude } = picture;
  const known = [
    [picture.taken ? "Taken" : "File changed", moment(picture.date)],
    ["Camera", picture.camera],
    ["Size", `${picture.width} × ${picture.height} pixels, ${bytes(picture.size)}`],
    ["Place", latitude === null || longitude === null ? null : placeLink(latitude, longitude)],
    ["Folder", picture.path.slice(0, -fileName(picture.path).length - 1) || "/"],
    ...Object.entries(picture.annotations).map(([name, value]) => [name, String(value)]),
  ];
  const list = element("dl", { class: "facts" });
  for (const [name, value] of known) {
    if (value) list.append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  }
  return list;
}

/** Coordinates that lead to what was taken near them. @param {number} latitude @param {number} longitude */
function placeLink(latitude, longitude) {
  const place = `${latitude.toFixed(5)}, ${longitude.toFixed(5)}`;
  const href = urlOf({ ...emptyState(), where: { near: `${place}, 1 km` } });
  return element("a", { href, "data-go": "", title: "Pictures taken within a kilometre" }, place);
}

/** @param {Error & {status?: number}} error */
const titleOf = (error) => (error.status === 404 ? "There is no such picture" : "The picture cannot be shown");
