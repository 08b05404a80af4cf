/** The search field, and pictures that are dropped, pasted, chosen or photographed. */

import { get, upload } from "./api.js";
import { byId, element, toast } from "./dom.js";
import { noQuery } from "./state.js";

/** @typedef {(changes: Partial<import("./state.js").State>) => void} Go */

/** Milliseconds after the last key until labels are suggested. */
const REST = 120;

/**
 * @param {Go} go
 * @param {Promise<{words: {free_text: boolean, known: number, explanation: string}}>} status
 */
export function setUpSearch(go, status) {
  const form = byId("search");
  const field = byId("q");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const q = field.value.trim();
    if (q) go({ ...noQuery(), q });
  });
  status.then(({ words }) => adapt(field, words), () => undefined); // told where the pictures would be
  setUpPictures(go);
}

/** Offer what the model understands. */
function adapt(field, words) {
  if (words.free_text) {
    field.placeholder = "Search by words, or drop a picture";
  } else if (words.known) {
    field.placeholder = "Search for a label, or drop a picture";
    byId("q-hint").textContent = `The model knows ${words.known} labels; some are suggested as you type.`;
    suggest(field);
    suggest(byId("more-words"));
  } else {
    field.disabled = true;
    field.placeholder = "Drop or paste a picture";
    byId("q-hint").textContent = words.explanation;
    byId("words-note").textContent = `Words cannot be searched for: ${words.explanation}`;
    byId("words-note").hidden = false;
  }
}

/** @param {HTMLInputElement} field */
function suggest(field) {
  let timer = 0;
  const ask = async () => {
    const containing = field.value.trim();
    try {
      const { labels } = await get(`/words?${new URLSearchParams({ containing, limit: 12 })}`);
      if (field.value.trim() !== containing) return;
      byId("suggestions").replaceChildren(...labels.map((value) => element("option", { value })));
    } catch (error) {
      console.info("There are no suggestions:", error.message);
    }
  };
  field.addEventListener("focus", ask, { once: true });
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, REST);
  });
}

/** @param {Go} go */
function setUpPictures(go) {
  const searchBy = (file) => searchByFile(file, go);
  for (const [button, input] of [["choose", "file"], ["photograph", "camera"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", (event) => {
      const [file] = event.target.files;
      event.target.value = ""; // so that the same file can be chosen again
      if (file) searchBy(file);
    });
  }
  document.addEventListener("paste", (event) => {
    const file = pictureIn(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    searchBy(file);
  });
  setUpDrop(searchBy);
}

/** @param {(file: File) => void} searchBy */
function setUpDrop(searchBy) {
  const veil = byId("drop");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0; // entering a child comes before leaving its parent
  const enter = (change) => {
    depth = Math.max(0, depth + change);
    veil.hidden = depth === 0;
  };
  document.addEventListener("dragenter", (event) => hasFiles(event) && enter(1));
  document.addEventListener("dragleave", (event) => hasFiles(event) && enter(-1));
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    enter(-depth);
    const file = pictureIn(event.dataTransfer) ?? event.dataTransfer.files[0];
    if (file) searchBy(file);
  });
}

/** @param {?DataTransfer} data */
const pictureIn = (data) => [...(data?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? null;

/** @param {File} file @param {Go} go */
async function searchByFile(file, go) {
  document.body.classList.add("uploading");
  const count = byId("count").textContent;
  byId("count").textContent = "The picture is being read …";
  try {
    const kept = await upload(file);
    byId("q").value = "";
    go({ ...noQuery(), upload: kept.id });
  } catch (error) {
    byId("count").textContent = count;
    toast(error.status === 422 ? `This cannot be searched for. ${error.message}` : error.message);
  } finally {
    document.body.classList.remove("uploading");
  }
}
