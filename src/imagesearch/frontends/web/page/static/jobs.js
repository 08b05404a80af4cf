/** The page of indexing: start it, watch it, and see which files could not be read. */

import { ask, get, post } from "./api.js";
import { byId, element, toast } from "./dom.js";
import { JobCard } from "./job_card.js";
import { setUpHelp } from "./keys.js";
import { plural } from "./text.js";
import { setUpTheme } from "./theme.js";

const PAGE = 100;

/** @type {Map<string, JobCard>} */
const cards = new Map();
let skippedShown = 0;

/** @param {{id: string}} job @param {"prepend"|"append"} where */
function add(job, where) {
  const card = new JobCard(job, { cancel, ended });
  cards.set(job.id, card);
  byId("jobs")[where](card.element);
  byId("jobs-empty").hidden = true;
}

/** @param {string} id */
async function cancel(id) {
  try {
    cards.get(id).show(await ask("DELETE", `/jobs/${id}`));
  } catch (error) {
    toast(error.message);
  }
}

/** @param {string} said */
function ended(said) {
  byId("jobs-live").textContent = said;
  refresh();
}

/** @param {{folders?: string[], retry_skipped?: boolean}} order @returns {Promise<boolean>} whether it was started */
async function start(order) {
  byId("start-error").textContent = "";
  try {
    add(await post("/jobs", order), "prepend");
    return true;
  } catch (error) {
    byId("start-error").textContent = error.message;
    return false;
  }
}

async function showStatus() {
  const { collection, folders, may_index: allowed, model } = await get("/status");
  const count = plural(collection?.rows ?? 0, "picture");
  const place = folders.length ? ` in ${plural(folders.length, "folder")}` : "";
  byId("library-state").textContent = `${count}${place}, indexed with the model ${model}.`;
  const offered = [...new Set([...folders, ...allowed])];
  byId("folders").replaceChildren(...offered.map((value) => element("option", { value })));
  byId("start-button").disabled = false;
}

/** @param {boolean} [isMore] add a page; else begin again */
async function showSkipped(isMore = false) {
  if (!isMore) skippedShown = 0;
  const { total, skipped } = await get(`/skipped?offset=${skippedShown}&limit=${PAGE}`);
  const item = ({ path, reason }) => element("li", {}, element("span", {}, path), element("p", {}, reason));
  const items = skipped.map(item);
  if (isMore) byId("skipped").append(...items);
  else byId("skipped").replaceChildren(...items);
  skippedShown += items.length;
  byId("skipped-count").textContent = total ? plural(total, "file") : "None.";
  byId("retry").hidden = !total;
  byId("skipped-more").hidden = skippedShown >= total;
}

function refresh() {
  const failed = (error) => toast(error.message);
  showStatus().catch(failed);
  showSkipped().catch(failed);
}

async function showJobs() {
  const { jobs } = await get("/jobs");
  jobs.forEach((job) => add(job, "append"));
  byId("jobs-empty").hidden = jobs.length > 0;
}

byId("start").addEventListener("submit", async (event) => {
  event.preventDefault();
  const folder = byId("folder").value.trim();
  if (await start({ folders: folder ? [folder] : [] })) byId("folder").value = "";
});
byId("retry").addEventListener("click", () => start({ retry_skipped: true }));
byId("skipped-more").addEventListener("click", () => showSkipped(true).catch((error) => toast(error.message)));

setUpTheme();
setUpHelp();
refresh();
showJobs().catch((error) => toast(error.message));
