/** The page of labelling: one picture at a time, a key or a button for each label. */

import { get, largeUrl, post } from "./api.js";
import { byId, element, toast } from "./dom.js";
import { isTyping, setUpHelp } from "./keys.js";
import { Steps } from "./label_steps.js";
import { fileName, number, percent, plural } from "./text.js";
import { setUpTheme } from "./theme.js";

/**
 * @typedef {{id: string, path: string, copies: number, suggestions: {label: string, score: number}[]}} Question
 * @typedef {{questions: Question[], labels: {label: string, pictures: number}[], pictures: number, labelled: number,
 *   skipped: number, expected: ?{accuracy: number, low: number, high: number}, step: ?string, undone: ?Question}} State
 */

/** The keys of labels, in order; s, u and n mean something else, and q quits in the terminal. */
const KEYS = "1234567890abcdefghijklmoprtvwxyz";
const AHEAD = 4;
/** Answers to what somebody else made impossible: another picture may be the next now. */
const STALE = new Set([404, 409, 422]);

/** @type {?State} */
let state = null;
let isBusy = false;
const steps = new Steps();
/** What accuracy was expected after how many labels. @type {Map<number, number>} */
const curve = new Map();

/** @param {State} next */
function show(next) {
  state = next;
  const [question] = next.questions;
  byId("work").hidden = false; // the last answer can be taken back even where nothing is left
  for (const id of ["question", "choices", "skip"]) byId(id).hidden = !question;
  byId("state").hidden = Boolean(question);
  byId("state").textContent = question ? "" : nothingLeft(next);
  if (question) showQuestion(question, next);
  showProgress(next);
  for (const { id } of next.questions.slice(1)) new Image().src = largeUrl(id);
}

/** @param {State} next */
function nothingLeft({ labelled, pictures }) {
  const rest = labelled < pictures ? " The others are near copies of these, or were skipped." : "";
  return `Nothing is left to label: ${number(labelled)} of ${plural(pictures, "picture")} have a label.${rest}`;
}

/** @param {Question} question @param {State} next */
function showQuestion(question, { labels }) {
  const picture = byId("picture");
  picture.src = largeUrl(question.id);
  picture.alt = fileName(question.path);
  byId("name").textContent = fileName(question.path);
  byId("name").title = question.path;
  byId("name").href = `/picture/${question.id}`;
  byId("copies").textContent = question.copies > 1 ? `${number(question.copies)} files with this content` : "";
  const shares = new Map(question.suggestions.map(({ label, score }) => [label, score]));
  const likely = question.suggestions[0]?.label;
  const focused = document.activeElement?.dataset?.label;
  byId("labels").replaceChildren(
    ...labels.map(({ label, pictures }, place) =>
      element("li", {}, labelButton(label, pictures, KEYS[place], shares.get(label), label === likely)),
    ),
  );
  if (focused !== undefined) {
    [...byId("labels").querySelectorAll("button")].find((one) => one.dataset.label === focused)?.focus();
  }
}

/** @param {string} label @param {number} count @param {?string} key @param {?number} share @param {boolean} isLikely */
function labelButton(label, count, key, share, isLikely) {
  const button = element("button", { type: "button", "data-label": label });
  if (isLikely) button.classList.add("likely");
  if (key) button.append(element("kbd", {}, key.toUpperCase()));
  button.append(element("span", { class: "name" }, label));
  if (share !== undefined) button.append(element("span", { class: "share" }, percent(share)));
  button.append(element("span", { class: "count", title: plural(count, "picture") }, number(count)));
  button.addEventListener("click", () => give(label));
  return button;
}

/** @param {State} next */
function showProgress({ labelled, pictures, skipped, expected }) {
  byId("so-far").hidden = false;
  const aside = skipped ? `, ${number(skipped)} skipped` : "";
  byId("progress").textContent = `${number(labelled)} of ${plural(pictures, "picture")} labelled${aside}`;
  byId("bar").value = pictures ? labelled / pictures : 0;
  const range = expected && `${percent(expected.low)} to ${percent(expected.high)}`;
  byId("expected").textContent = expected
    ? `Expected accuracy for the others: ${percent(expected.accuracy)} (${range})`
    : "The accuracy to expect is told once labels have some pictures each.";
  if (expected) curve.set(labelled, expected.accuracy);
  else curve.delete(labelled);
  const points = [...curve].sort(([one], [other]) => one - other);
  byId("curve").toggleAttribute("hidden", points.length < 2);
  if (points.length < 2) return;
  const [first, last] = [points[0], points.at(-1)];
  const x = (count) => (100 * (count - first[0])) / (last[0] - first[0]);
  const line = points.map(([count, accuracy]) => `${x(count).toFixed(2)},${(29 - 28 * accuracy).toFixed(2)}`);
  byId("curve").firstElementChild.setAttribute("points", line.join(" "));
  const from = `from ${percent(first[1])} after ${plural(first[0], "label")}`;
  byId("curve").setAttribute("aria-label", `Expected accuracy: ${from} to ${percent(last[1])} after ${last[0]}`);
}

/**
 * Ask for a change, and show what comes then.
 *
 * @param {() => Promise<State>} change @param {(next: State) => string} said what is announced
 * @returns {Promise<boolean>} whether it was made
 */
async function apply(change, said) {
  if (isBusy) return false;
  isBusy = true;
  byId("error").textContent = "";
  try {
    const next = await change();
    show(next);
    const following = next.questions[0] ? ` Next: ${fileName(next.questions[0].path)}.` : "";
    byId("live").textContent = said(next) + following;
    return true;
  } catch (error) {
    byId("error").textContent = error.message;
    if (!state) fail(error);
    else if (STALE.has(error.status)) await get(`/labelling?count=${AHEAD}`).then(show, () => {});
    return false;
  } finally {
    isBusy = false;
  }
}

/** @param {string} label @returns {Promise<boolean>} whether the picture has it now */
async function give(label) {
  const [question] = state?.questions ?? [];
  if (!question) return false;
  const order = { id: question.id, label, count: AHEAD };
  return apply(
    () => answering(post("/labelling/labels", order)),
    () => `${fileName(question.path)} is ${label}.`,
  );
}

function skip() {
  const [question] = state?.questions ?? [];
  if (!question) return;
  const order = { id: question.id, count: AHEAD };
  apply(
    () => answering(post("/labelling/skips", order)),
    () => "Skipped.",
  );
}

/** @param {Promise<State>} answer */
async function answering(answer) {
  const next = await answer;
  steps.add(next.step);
  return next;
}

/** @param {string} step @param {Promise<State>} answer */
async function takingBack(step, answer) {
  try {
    const next = await answer;
    steps.remove(step);
    return next;
  } catch (error) {
    // The picture is gone, or somebody else has labelled it since: what was said before can still be taken back.
    if (error.status === 422 || error.kind === "labelled-meanwhile") steps.remove(step);
    throw error;
  }
}

async function undo() {
  const step = steps.last;
  if (step === undefined) {
    toast("There is nothing to take back.");
    return;
  }
  let isKnown = true;
  const done = await apply(
    () => takingBack(step, post(`/labelling/undo?count=${AHEAD}&step=${step}`, {})),
    ({ undone }) => {
      isKnown = Boolean(undone);
      return isKnown ? "Taken back." : "";
    },
  );
  if (done && !isKnown) toast("The last answer cannot be taken back any more.");
}

/** @param {Error} error */
function fail(error) {
  byId("work").hidden = true;
  byId("state").hidden = false;
  byId("state").textContent = error.message;
}

byId("new").addEventListener("submit", async (event) => {
  event.preventDefault();
  const label = byId("new-label").value.trim();
  if (!label) return;
  byId("main").focus();
  if (await give(label)) byId("new-label").value = "";
});
byId("skip").addEventListener("click", skip);
byId("undo").addEventListener("click", undo);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.repeat) return; // a key that is held down answers once
  const key = event.key.toLowerCase();
  const place = KEYS.indexOf(key);
  const likely = state?.questions[0]?.suggestions[0]?.label;
  const isFree = [document.body, byId("main")].includes(document.activeElement);
  if (key === "s") skip();
  else if (key === "u") undo();
  else if (key === "n") byId("new-label").focus();
  else if (key === "enter" && likely && isFree) give(likely);
  else if (key.length === 1 && place >= 0 && state?.labels[place]) give(state.labels[place].label);
  else return;
  event.preventDefault();
});

setUpTheme();
setUpHelp();
get(`/labelling?count=${AHEAD}`).then(show, fail);
