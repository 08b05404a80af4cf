/** What is said where there are no pictures: nothing indexed, nothing found, or an error. */

import { byId, element } from "./dom.js";
import { emptyState, isSearch, urlOf } from "./state.js";
import { fileName, percent, sureness } from "./text.js";

/** @param {import("./state.js").State} state @param {?import("./api.js").Answer} answer */
export function showEmpty(state, answer) {
  if (isSearch(state)) showNothingFound(state, answer);
  else if (Object.keys(state.where).length) {
    show("No picture matches the filters", [say("Fewer or wider filters find more.")]);
  } else {
    show("Nothing has been indexed yet", [
      element("p", {}, "Run ", element("code", {}, "imagesearch index FOLDER"), " or start indexing here."),
      element("p", { class: "buttons" }, element("a", { class: "primary", href: "/jobs" }, "Index a folder")),
    ]);
  }
}

/** @param {import("./state.js").State} state @param {?import("./api.js").Answer} answer */
function showNothingFound(state, answer) {
  const best = answer?.best;
  const said = [];
  if (best && state.sure) {
    const how = best.confidence === null ? "" : ` (${percent(best.confidence)}: ${sureness(best.confidence)})`;
    said.push(say(`The closest picture is ${fileName(best.picture.path)}${how}; that may well be chance.`));
    said.push(element("p", { class: "buttons" }, button("Show unsure hits as well", () => byId("sure").click())));
  } else {
    said.push(say("There is no picture that matches."));
  }
  show("Nothing found", said);
}

/** @param {Error & {title?: string, kind?: string, status?: number}} error @param {() => void} retry */
export function showError(error, retry) {
  if (error.kind === "nothing-indexed") {
    showEmpty(emptyState(), null);
    return;
  }
  // What makes no sense now makes none later.
  const mayPass = !error.status || error.status >= 500 || error.status === 429;
  const again = mayPass ? [element("p", { class: "buttons" }, button("Try again", retry))] : [];
  const title = error.status === 422 ? "This cannot be searched for" : error.title || "This did not work";
  show(title, [say(error.message), ...again]);
}

/** The model knows some labels only. @param {import("./state.js").State} state @param {string[]} nearest */
export function showUnknownWords(state, nearest) {
  const links = nearest.map((q) => element("a", { class: "plain", href: urlOf({ ...state, q }), "data-go": "" }, q));
  const offered = links.length ? [say("Did you mean:"), element("p", { class: "buttons" }, ...links)] : [];
  show(`The model does not know “${state.q}”`, [...offered, say("Labels that it knows are suggested as you type.")]);
}

/** An upload is kept for a day only. @param {() => void} choose */
export function showExpired(choose) {
  show("The picture is not here any more", [
    say("Pictures that were dropped here are kept for a day. Drop it once more, or choose another one."),
    element("p", { class: "buttons" }, button("Choose a picture", choose)),
  ]);
}

/** No message. */
export const hideMessage = () => {
  byId("message").hidden = true;
};

/** @param {string} title @param {Node[]} parts */
function show(title, parts) {
  byId("message").replaceChildren(element("h2", {}, title), ...parts);
  byId("message").hidden = false;
}

/** @param {string} text */
const say = (text) => element("p", {}, text);

/** @param {string} text @param {() => void} act */
function button(text, act) {
  const made = element("button", { type: "button", class: "plain" }, text);
  made.addEventListener("click", act);
  return made;
}
