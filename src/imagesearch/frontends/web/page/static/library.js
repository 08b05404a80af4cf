/** The page of pictures: puts its parts together, and moves from state to state. */

import { get } from "./api.js";
import { DetailView } from "./detail.js";
import { byId, toast } from "./dom.js";
import { offerSure, setUpFilters, showFilters } from "./filters.js";
import { Gallery } from "./gallery.js";
import { setUpKeys } from "./keys.js";
import { watchForNews } from "./news.js";
import { QueryPanel } from "./query.js";
import { setUpSearch } from "./search.js";
import { Selection } from "./selection.js";
import { isSearch, listKey, noQuery, readState, urlOf } from "./state.js";
import { setUpTheme } from "./theme.js";

/** @typedef {import("./state.js").State} State */

/** Pages that are looked through for a picture that was opened by its address. */
const FAR = 10;

let state = readState(location);
const status = get("/status");
const query = new QueryPanel(change, status);
const gallery = new Gallery(() => state, (answer) => {
  query.explain(answer?.meanings ?? []);
  offerSure(answer);
});
const { grid } = gallery;
const selection = new Selection(grid);
const detail = new DetailView({ gallery, status, change, open, close });

/** Show another list. @param {Partial<State>} changes */
function change(changes) {
  return go({ ...state, view: "", ...changes });
}

/** Show one picture by itself. @param {string} id @param {{replace?: boolean}} [how] */
function open(id, how) {
  go({ ...state, view: id }, how);
}

/** From one picture to the list: back where it was opened from there. */
function close() {
  if (history.state?.isFromList) history.back();
  else go({ ...state, view: "" });
}

/** Search for what is like a picture; filters stay. @param {string} id */
function searchLike(id) {
  change({ ...noQuery(), picture: id });
}

/** Mark a hit, or take the mark away. @param {string} id @param {"good"|"bad"} kind */
async function mark(id, kind) {
  if (!isSearch(state)) return;
  const other = kind === "good" ? "bad" : "good";
  const isMarked = state[kind].includes(id);
  const marked = state[kind].filter((one) => one !== id);
  await change({ [kind]: isMarked ? marked : [...marked, id], [other]: state[other].filter((one) => one !== id) });
  grid.focus(0); // the tile that had the focus is gone
}

/** @param {State} next @param {{replace?: boolean}} [how] */
function go(next, { replace = false } = {}) {
  const address = urlOf(next);
  const isElsewhere = address !== location.pathname + location.search;
  if (isElsewhere && replace) history.replaceState(history.state, "", address);
  else if (isElsewhere) {
    history.replaceState({ ...history.state, scroll: window.scrollY }, "");
    history.pushState({ isFromList: Boolean(next.view) && !state.view }, "", address);
  }
  return show(next);
}

/** @param {State} next @param {{isBack?: boolean, scroll?: number}} [how] */
async function show(next, { isBack = false, scroll } = {}) {
  const before = state;
  const isNewList = !gallery.results || listKey(gallery.results.state) !== listKey(next);
  state = next;
  byId("results").hidden = Boolean(state.view);
  if (!state.view) document.title = titleOf(state);
  if (isNewList) {
    byId("q").value = state.q;
    selection.clear();
    showFilters(state);
    query.explain([]); // what is searched for now may not be found
    query.show(state).catch((error) => error.status !== 404 && toast(error.message)); // of 404 the results tell
  }
  const shown = detail.show(state.view);
  if (isNewList) {
    if (!isBack) window.scrollTo(0, 0);
    await gallery.load(state, isBack);
  }
  await shown;
  if (isNewList && state.view) await reach(state.view);
  detail.offerSteps();
  grid.refresh();
  if (!state.view && before.view && !isNewList) returnTo(before.view, scroll);
  else if (scroll !== undefined) window.scrollTo(0, scroll);
}

/** Load pages until a picture is among them, so that there are a previous and a next one. @param {string} id */
async function reach(id) {
  const { results } = gallery;
  for (let page = 0; page < FAR && results === gallery.results && grid.indexOf(id) < 0; page += 1) await gallery.more();
}

/** Back from a picture: to where it is among the results. @param {string} id @param {number} [scroll] */
function returnTo(id, scroll) {
  if (scroll !== undefined) window.scrollTo(0, scroll);
  const index = grid.indexOf(id);
  if (index >= 0) grid.focus(index);
}

/** @param {State} state */
function titleOf(state) {
  if (!isSearch(state)) return "ImageSearch";
  return `${state.q || "Search by picture"} - ImageSearch`;
}

/** @param {string} what @param {number} index @param {boolean} [isRange] */
function act(what, index, isRange = false) {
  const { picture, others } = grid.items[index];
  if (what === "open") open(picture.id);
  else if (what === "similar") searchLike(picture.id);
  else if (what === "select") selection.toggle(index, isRange);
  else if (what === "unfold") unfold(index, others);
  else mark(picture.id, what);
}

/** @param {number} index @param {import("./api.js").Hit[]} others */
function unfold(index, others) {
  grid.items[index].others = [];
  grid.insertAfter(index, others.map(({ picture, confidence }) => ({ picture, confidence, others: [] })));
  grid.focus(index + 1);
}

grid.list.addEventListener("click", (event) => {
  const index = grid.indexAt(event.target);
  const what = event.target.closest("[data-do]")?.dataset.do ?? (event.target.closest(".tile-link") ? "open" : "");
  if (index < 0 || !what) return;
  if (what === "open" && (event.metaKey || event.ctrlKey)) return; // a new tab
  if (what === "open" && event.shiftKey) selection.toggle(index, true);
  else act(what, index, event.shiftKey);
  if (what !== "select" || event.shiftKey) event.preventDefault();
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-go]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  go(readState(link));
});

window.addEventListener("popstate", (event) => {
  show(readState(location), { isBack: true, scroll: event.state?.scroll ?? 0 });
});

history.scrollRestoration = "manual";
setUpTheme();
setUpSearch(change, status);
setUpFilters(change, status);
setUpKeys({ grid, selection, detail, act });
watchForNews(() => state, gallery);
show(state);
