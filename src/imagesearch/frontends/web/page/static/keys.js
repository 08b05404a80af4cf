/** What the keyboard does; keys.html lists it. */

import { byId } from "./dom.js";

const MOVES = { ArrowLeft: -1, ArrowRight: 1 };
const ROWS = { ArrowUp: -1, ArrowDown: 1 };
const ACTS = { m: "similar", "+": "good", "=": "good", "-": "bad" };

/** The button and the key that show the shortcuts, on every page. */
export function setUpHelp() {
  byId("help").addEventListener("click", () => byId("keys").showModal());
  document.addEventListener("keydown", (event) => {
    if (event.key === "?" && !isTyping(event.target)) byId("keys").showModal();
  });
}

/**
 * @param {{grid: import("./grid.js").Grid, selection: import("./selection.js").Selection,
 *   detail: import("./detail.js").DetailView, act: (what: string, index: number, isRange?: boolean) => void}} parts
 */
export function setUpKeys({ grid, selection, detail, act }) {
  setUpHelp();
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const isList = !detail.isOpen;
    const isKnown = isList ? inGrid(event, grid, act) || inList(event, selection) : detail.key(event);
    if (isKnown || focusSearch(event)) event.preventDefault();
  });
}

/** @returns {boolean} whether the key meant something */
function focusSearch(event) {
  if (event.key !== "/") return false;
  byId(byId("q").disabled ? "choose" : "q").focus();
  return true;
}

/** @returns {boolean} whether the key meant something */
function inList(event, selection) {
  if (event.key === "Escape" && selection.size) selection.clear();
  else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) selection.all();
  else return false;
  return true;
}

/** @returns {boolean} whether the key meant something */
function inGrid(event, grid, act) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const index = grid.indexAt(document.activeElement);
  const isArrow = event.key in MOVES || event.key in ROWS;
  if (index < 0) return isArrow && document.activeElement === document.body && enter(grid);
  if (event.key in MOVES) grid.focus(index + MOVES[event.key]);
  else if (event.key in ROWS) grid.focus(grid.inNextRow(index, ROWS[event.key]));
  else if (event.key === "Home") grid.focus(0);
  else if (event.key === "End") grid.focus(grid.places.length - 1);
  else if (event.key.toLowerCase() === "x") act("select", index, event.shiftKey);
  else if (event.key.toLowerCase() in ACTS) act(ACTS[event.key.toLowerCase()], index);
  else return false;
  return true;
}

/** Go to the first tile that is on the screen. */
function enter(grid) {
  const index = grid.firstVisible();
  if (index >= 0) grid.focus(index);
  return index >= 0;
}

/** @param {EventTarget} target */
export function isTyping(target) {
  if (target instanceof HTMLInputElement) return !["checkbox", "button", "submit"].includes(target.type);
  return target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
}
