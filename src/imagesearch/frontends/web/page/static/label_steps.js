/** What was labelled or skipped in this tab and can be taken back, also after the page was loaded again. */

const NAME = "label-steps";
/** Steps that are kept; storage is bounded. */
const MOST = 1000;

export class Steps {
  /** @type {string[]} the last one at the end */
  #keys = kept();

  /** @returns {string|undefined} */
  get last() {
    return this.#keys.at(-1);
  }

  /** @param {string} key as the server names it */
  add(key) {
    this.#keep([...this.#keys, key].slice(-MOST));
  }

  /** @param {string} key */
  remove(key) {
    this.#keep(this.#keys.filter((one) => one !== key));
  }

  /** @param {string[]} keys */
  #keep(keys) {
    this.#keys = keys;
    try {
      sessionStorage.setItem(NAME, JSON.stringify(keys));
    } catch (error) {
      console.info("What can be taken back is not kept:", error.message); // storage is switched off
    }
  }
}

/** @returns {string[]} */
function kept() {
  try {
    const keys = JSON.parse(sessionStorage.getItem(NAME) ?? "[]");
    return Array.isArray(keys) ? keys.filter((key) => /^[0-9a-f]{16}$/.test(key)) : [];
  } catch {
    return []; // storage is switched off, or holds something else
  }
}
