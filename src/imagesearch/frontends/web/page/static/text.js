/** How things are said. */

const counted = new Intl.NumberFormat("en");
const DAY = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });
const MOMENT = new Intl.DateTimeFormat("en", { dateStyle: "long", timeStyle: "short" });

/** @param {number} value */
export const number = (value) => counted.format(value);

/** @param {number} count @param {string} one @param {string} [many] */
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** @param {string} path */
export const fileName = (path) => path.split(/[\\/]/).pop() || path;

/** @param {string} iso a date by the clock of the camera */
export const day = (iso) => formatted(DAY, iso);

/** @param {string} iso */
export const moment = (iso) => formatted(MOMENT, iso);

/** @param {Intl.DateTimeFormat} format @param {string} iso */
function formatted(format, iso) {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? iso : format.format(date);
}

/** @param {number} share 0 to 1 */
export function percent(share) {
  const value = share * 100;
  if (value > 99 && value < 100) return "> 99 %";
  if (value > 0 && value < 1) return "< 1 %";
  return `${Math.round(value)} %`;
}

/** @param {?number} confidence probability that a hit is related, 0 to 1 */
export function sureness(confidence) {
  if (confidence === null || confidence === undefined) return "";
  if (confidence >= 0.9) return "very likely related";
  if (confidence >= 0.5) return "probably related";
  if (confidence >= 0.2) return "possibly related";
  return "probably unrelated";
}

/** @param {number} bytes */
export function bytes(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${value.toFixed(unit > 0 && value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 60) return plural(Math.max(1, Math.round(seconds)), "second");
  if (seconds < 3600) return plural(Math.round(seconds / 60), "minute");
  return `${plural(Math.floor(seconds / 3600), "hour")} ${plural(Math.round((seconds % 3600) / 60), "minute")}`;
}
