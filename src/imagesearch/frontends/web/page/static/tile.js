/** One picture in the grid: the picture, what is known of it, and what can be done with it. */

import { byId, icon } from "./dom.js";
import { urlOf } from "./state.js";
import { day, fileName, percent, plural, sureness } from "./text.js";

/** @typedef {import("./api.js").Picture} Picture */

const TILE = byId("tile-template");

/** @param {import("./grid.js").Item} item @param {import("./state.js").State} state @returns {HTMLElement} */
export function makeTile({ picture, confidence, others }, state) {
  const tile = TILE.content.firstElementChild.cloneNode(true);
  const link = tile.querySelector(".tile-link");
  const name = fileName(picture.path);
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

/** @returns {HTMLElement} a grey one, while the answer is awaited */
export function makeSkeleton() {
  const tile = document.createElement("li");
  tile.className = "tile skeleton";
  tile.setAttribute("aria-hidden", "true");
  return tile;
}

/** @param {HTMLElement} tile @param {boolean} isSelected */
export function paintSelection(tile, isSelected) {
  tile.classList.toggle("selected", isSelected);
  tile.querySelector(".pick input").checked = isSelected;
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
