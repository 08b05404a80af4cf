/** Filters, the order, and what is left out or folded. */

import { byId, element } from "./dom.js";
import { FILTERS, isSearch, nearOf } from "./state.js";

/** @typedef {import("./state.js").State} State */

const ORDERS = {
  search: [["", "Most similar first"], ["date", "Newest first"]],
  all: [["", "Newest first"], ["oldest", "Oldest first"]],
};

/** @param {(changes: Partial<State>) => void} go @param {Promise<{folders: string[]}>} status */
export function setUpFilters(go, status) {
  const form = byId("filters");
  const button = byId("filters-button");
  button.addEventListener("click", () => {
    form.hidden = !form.hidden;
    button.setAttribute("aria-expanded", String(!form.hidden));
    if (!form.hidden) form.elements.under.focus();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const where = given(form);
    if (where.near && !isPlace(where.near)) showFilterError("Near: latitude, longitude and kilometres, such as 53.55, 9.99, 5 km");
    else go({ where });
  });
  byId("filters-clear").addEventListener("click", () => {
    form.reset();
    go({ where: {} });
  });
  byId("sort").addEventListener("change", (event) => go({ sort: event.target.value }));
  byId("sure").addEventListener("change", (event) => go({ sure: event.target.checked }));
  byId("fold").addEventListener("change", (event) => go({ fold: event.target.checked }));
  status.then(({ folders }) => folders.forEach((folder) => addFolder(folder)), () => undefined); // told elsewhere
}

/** @param {State} state */
export function showFilters(state) {
  const form = byId("filters");
  if (state.where.under) addFolder(state.where.under);
  for (const name of FILTERS) form.elements[name].value = state.where[name] ?? "";
  const active = FILTERS.filter((name) => state.where[name]).length;
  byId("filters-text").textContent = active ? `Filters (${active})` : "Filters";
  byId("filters-error").textContent = "";
  const orders = ORDERS[isSearch(state) ? "search" : "all"];
  byId("sort").replaceChildren(...orders.map(([value, text]) => element("option", { value }, text)));
  byId("sort").value = orders.some(([value]) => value === state.sort) ? state.sort : "";
  byId("sure").checked = state.sure;
  byId("fold").checked = state.fold;
  byId("fold-label").hidden = !isSearch(state);
}

/** Only where it is known how sure hits are can unsure ones be left out. @param {?import("./api.js").Answer} answer */
export function offerSure(answer) {
  byId("sure-label").hidden = !answer || (answer.best !== null && answer.best.confidence === null);
}

/** What the server says against a filter. @param {string} text */
export function showFilterError(text) {
  byId("filters").hidden = false;
  byId("filters-button").setAttribute("aria-expanded", "true");
  byId("filters-error").textContent = text;
}

/** @param {string} text */
function isPlace(text) {
  const numbers = nearOf(text);
  return numbers.length === 3 && numbers.every(Number.isFinite);
}

/** @param {string} folder */
function addFolder(folder) {
  const select = byId("filter-under");
  if ([...select.options].some((option) => option.value === folder)) return;
  select.append(element("option", { value: folder }, folder));
}

/** @param {HTMLFormElement} form */
function given(form) {
  const entries = FILTERS.map((name) => [name, form.elements[name].value.trim()]);
  return Object.fromEntries(entries.filter(([, value]) => value));
}
