/** One job of indexing, as it goes on. */

import { element } from "./dom.js";
import { duration, moment, number, plural } from "./text.js";

const STATES = { queued: "Waiting", running: "Running", done: "Done", failed: "Failed", cancelled: "Cancelled" };
/** Stages of indexing, as the library calls them. */
const STAGES = {
  find: "Looking for pictures",
  encode: "Reading pictures",
  index: "Making the index",
  optimize: "Tidying up",
};
/** Seconds of work before the time that is left is worth telling. */
const SETTLED = 2;

export class JobCard {
  /** @param {*} job as the API tells it @param {{cancel: (id: string) => void, ended: (said: string) => void}} hooks */
  constructor(job, { cancel, ended }) {
    this.ended = ended;
    this.stage = "";
    this.title = element("h3", {});
    this.state = element("span", { class: "job-state" });
    this.bar = element("progress", { max: "1", "aria-label": "Progress" });
    this.text = element("p", { class: "job-text" });
    this.error = element("p", { class: "error" });
    this.button = element("button", { type: "button", class: "plain" }, "Cancel");
    this.button.addEventListener("click", () => {
      this.button.disabled = true;
      cancel(job.id);
    });
    const side = element("span", { class: "buttons" }, this.state, this.button);
    const head = element("div", { class: "job-head" }, this.title, side);
    this.element = element("li", { class: "job", "data-id": job.id }, head, this.bar, this.text, this.error);
    this.show(job);
    if (isOpen(job)) this.#watch(job.id);
  }

  /** @param {*} job */
  show(job) {
    this.element.dataset.state = job.state;
    this.title.textContent = job.folders.length ? job.folders.join(", ") : "All folders that were indexed before";
    this.state.textContent = STATES[job.state];
    this.button.hidden = !isOpen(job);
    this.error.textContent = job.error ?? "";
    this.bar.hidden = job.state !== "running";
    if (job.state === "running") this.#showProgress(job.progress);
    else this.text.textContent = job.report ? summary(job) : `Ordered ${moment(job.created)}`;
  }

  /** @param {string} id */
  #watch(id) {
    const source = new EventSource(`/api/v1/jobs/${id}/events`);
    source.addEventListener("job", (event) => {
      const job = JSON.parse(event.data);
      this.show(job);
      if (isOpen(job)) return;
      source.close();
      this.ended(`${this.title.textContent}: ${this.state.textContent}. ${this.text.textContent}`);
    });
    source.addEventListener("error", () => {
      const isLost = source.readyState === EventSource.CLOSED; // else the browser connects again
      if (isLost) this.error.textContent = "The connection was lost: load the page again.";
    });
  }

  /** @param {?{stage: string, done: number, total: ?number}} progress */
  #showProgress(progress) {
    if (!progress) {
      this.bar.removeAttribute("value");
      this.text.textContent = "Starting …";
      return;
    }
    const { stage, done, total } = progress;
    if (stage !== this.stage) Object.assign(this, { stage, since: performance.now(), first: done });
    if (total) this.bar.value = done / total;
    else this.bar.removeAttribute("value");
    const count = total ? `${number(done)} of ${number(total)}` : number(done);
    this.text.textContent = `${STAGES[stage] ?? stage}: ${count}${this.#left(done, total)}`;
  }

  /** How long the stage takes from here, by its pace so far. @param {number} done @param {?number} total */
  #left(done, total) {
    const seconds = (performance.now() - this.since) / 1000;
    const made = done - this.first;
    if (!total || made <= 0 || seconds < SETTLED || done >= total) return "";
    return `, about ${duration((seconds / made) * (total - done))} left`;
  }
}

/** @param {{state: string}} job */
const isOpen = ({ state }) => state === "queued" || state === "running";

/** What was done. @param {*} job */
function summary({ report, dry_run: isDry }) {
  const counts = [
    [report.indexed, "new or changed"],
    [report.unchanged, "unchanged"],
    [report.removed, "removed"],
    [report.skipped.length, "skipped"],
  ];
  const said = counts.filter(([count]) => count > 0).map(([count, what]) => `${number(count)} ${what}`);
  const offline = report.offline.map(
    ({ root, reason, pictures }) => `${plural(pictures, "picture")} kept although missing (${root}: ${reason})`,
  );
  const text = [...said, ...offline].join(", ") || "no pictures found";
  return `${isDry ? "Would be: " : ""}${text}, in ${duration(report.seconds)}`;
}
