/** While indexing runs, new pictures are announced where all pictures are shown. */

import { get } from "./api.js";
import { byId } from "./dom.js";
import { isSearch } from "./state.js";
import { plural } from "./text.js";

/** Milliseconds between two looks: while a job runs, and else. */
const OFTEN = 4000;
const SELDOM = 20_000;

/** @param {() => import("./state.js").State} current @param {import("./gallery.js").Gallery} gallery */
export function watchForNews(current, gallery) {
  byId("show-news").addEventListener("click", async () => {
    await gallery.load(current());
    byId("news").hidden = true;
    window.scrollTo(0, 0);
  });
  const look = async () => {
    let pause = SELDOM;
    try {
      if (!document.hidden) pause = await announce(current(), gallery);
    } catch (error) {
      console.info("Whether there are new pictures is unknown:", error.message);
    }
    setTimeout(look, pause);
  };
  setTimeout(look, OFTEN);
}

/** @returns {Promise<number>} milliseconds until the next look */
async function announce(state, gallery) {
  const { collection, running_jobs: running } = await get("/status");
  const isStart = !state.view && !isSearch(state) && !Object.keys(state.where).length;
  const known = gallery.results?.total;
  const added = isStart && typeof known === "number" ? (collection?.rows ?? 0) - known : 0;
  // Nothing is under the reader's eyes yet, so nothing can jump.
  if (added > 0 && known === 0) await gallery.load(state);
  byId("news").hidden = !(added > 0 && known > 0);
  byId("show-news").textContent = `Show ${plural(added, "new picture")}`;
  return running ? OFTEN : SELDOM;
}
