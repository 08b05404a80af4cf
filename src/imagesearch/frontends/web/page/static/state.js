/**
 * What is shown, as it stands in the address: it can be shared, and back and forward work.
 *
 * @typedef {{q: string, upload: string, picture: string, region: string, find: string, good: string[], bad: string[],
 *   sort: string, sure: boolean, fold: boolean, where: Object<string, string>, view: string}} State
 *   ``find``: what an upload is a copy of, see {@link WAYS}; empty: nothing, similar pictures are looked for.
 *   ``view``: id of the picture that is shown by itself; ``where``: filters, by the names of the API.
 */

export const FILTERS = ["under", "after", "before", "near", "camera", "min_width", "min_height", "formats", "expression"];
/** How to search for what an upload was made of, by the names of the API: of a screenshot, or of a part of it. */
const WAYS = { original: { views: "crops", rerank: "none" }, whole: { rerank: "patches" } };
const TEXTS = ["q", "upload", "picture", "region", "find", "sort"];
/** Of a hit that was marked as bad: it pushes away less than a good one attracts. */
const BAD_WEIGHT = -0.5;

/** Nothing is searched for; filters and how results are shown stay as they are. */
export const noQuery = () => ({ q: "", upload: "", picture: "", region: "", find: "", good: [], bad: [], sort: "" });

/** @returns {State} all pictures */
export const emptyState = () => ({ ...noQuery(), sure: false, fold: true, where: {}, view: "" });

/** @param {Location|URL} address @returns {State} */
export function readState(address) {
  const given = new URLSearchParams(address.search);
  const state = emptyState();
  for (const name of TEXTS) state[name] = (given.get(name) ?? "").trim();
  if (!Object.hasOwn(WAYS, state.find)) state.find = "";
  const idsOf = (name) => (given.get(name) ?? "").split(",").filter((id) => /^\d{1,19}$/.test(id));
  [state.good, state.bad] = [idsOf("good"), idsOf("bad")];
  for (const name of FILTERS) if (given.get(name)) state.where[name] = given.get(name);
  state.sure = given.get("sure") === "1";
  state.fold = given.get("fold") !== "0";
  state.view = /^\/picture\/(\d{1,19})$/.exec(address.pathname)?.[1] ?? "";
  return state;
}

/** @param {State} state */
export function urlOf(state) {
  const said = new URLSearchParams();
  for (const name of TEXTS) if (state[name]) said.set(name, state[name]);
  for (const name of ["good", "bad"]) if (state[name].length) said.set(name, state[name].join(","));
  for (const name of FILTERS) if (state.where[name]) said.set(name, state.where[name]);
  if (state.sure) said.set("sure", "1");
  if (!state.fold) said.set("fold", "0");
  const query = said.toString().replaceAll("%2C", ",");
  return (state.view ? `/picture/${state.view}` : "/") + (query ? `?${query}` : "");
}

/** Whether anything is searched for. @param {State} state */
export const isSearch = (state) =>
  Boolean(state.q || state.upload || state.picture || state.good.length || state.bad.length);

/** What differs where the list of pictures does. @param {State} state */
export const listKey = (state) => urlOf({ ...state, view: "" });

/** The picture that is searched for, as the API calls it. @param {State} state */
export function queryPicture(state) {
  if (!state.upload && !state.picture) return null;
  const part = state.upload ? { kind: "upload", id: state.upload } : { kind: "picture", id: state.picture };
  return state.region ? { ...part, region: state.region } : part;
}

/** Whether an upload is all that is searched for, so that its original can be looked for. @param {State} state */
export const isUploadAlone = (state) => Boolean(state.upload) && partsOf(state).length === 1;

/** Options of the search for an original. @param {State} state */
export const wayOf = (state) => (isUploadAlone(state) && WAYS[state.find]) || {};

/** The parts of the query. @param {State} state */
export function partsOf(state) {
  const parts = state.q ? [{ kind: "words", text: state.q }] : [];
  const picture = queryPicture(state);
  if (picture) parts.push(picture);
  parts.push(...state.good.map((id) => ({ kind: "picture", id })));
  parts.push(...state.bad.map((id) => ({ kind: "picture", id, weight: BAD_WEIGHT })));
  return parts;
}

/** The filters for the body of a search. @param {State} state */
export function conditionsOf(state) {
  const where = { ...state.where };
  for (const name of ["min_width", "min_height"]) if (where[name]) where[name] = Number(where[name]);
  if (where.under) where.under = [where.under];
  if (where.formats) where.formats = formatsOf(where.formats);
  if (where.near) where.near = nearOf(where.near);
  return where;
}

/** The filters for an address of GET /pictures. @param {State} state @param {URLSearchParams} target */
export function addConditions(state, target) {
  for (const [name, value] of Object.entries(state.where)) {
    if (name === "formats") formatsOf(value).forEach((one) => target.append(name, one));
    else if (name === "near") target.set(name, nearOf(value).join(","));
    else target.set(name, value);
  }
}

/** Kilometres from a place, where none are given. */
const NEAR = 10;

/** Latitude, longitude and kilometres; what is no number is NaN, which the server refuses. @param {string} text */
export function nearOf(text) {
  const numbers = text.replace(/km\s*$/i, "").split(/[\s,;°]+/).filter(Boolean).map(Number);
  return numbers.length === 2 ? [...numbers, NEAR] : numbers;
}

/** @param {string} text */
const formatsOf = (text) => text.split(/[\s,]+/).map((one) => one.replace(/^\./, "")).filter(Boolean);
