/** The rectangle on the query picture: drawn, moved and resized by pointer or keyboard. */

import { byId } from "./dom.js";

/** @typedef {{x: number, y: number, width: number, height: number}} Box in shares of the picture, 0 to 1 */

const LEAST = 0.04;
const STEP = 0.02;
/** Milliseconds after the last key until the region is searched. */
const REST = 700;

export class RegionFrame {
  /** @param {(region: string) => void} chosen called with a region as the API writes it */
  constructor(chosen) {
    this.chosen = chosen;
    this.stage = byId("stage");
    this.frame = byId("region");
    /** @type {?Box} */
    this.box = null;
    this.timer = 0;
    this.stage.addEventListener("pointerdown", (event) => this.#press(event));
    this.frame.addEventListener("keydown", (event) => this.#key(event));
  }

  /** @param {number} width @param {number} height of the picture, pixels */
  setSize(width, height) {
    this.width = width;
    this.height = height;
  }

  /** @param {string} region as the API writes it; empty: the whole picture */
  show(region) {
    clearTimeout(this.timer);
    this.#set(region ? parse(region, this.width, this.height) : null);
  }

  /** Offer a region in the middle, to be moved. */
  begin() {
    this.#set({ x: 0.25, y: 0.25, width: 0.5, height: 0.5 });
    this.frame.focus();
    this.#chooseSoon(1600);
  }

  /** @param {?Box} box */
  #set(box) {
    this.box = box;
    this.frame.hidden = !box;
    this.stage.classList.toggle("framed", Boolean(box));
    if (!box) return;
    for (const [side, share] of [["left", box.x], ["top", box.y], ["width", box.width], ["height", box.height]]) {
      this.frame.style[side] = `${share * 100}%`;
    }
    const [x, y, width, height] = [box.x, box.y, box.width, box.height].map((share) => `${Math.round(share * 100)} %`);
    const where = `${x} from the left, ${y} from the top, ${width} wide, ${height} high`;
    this.frame.setAttribute("aria-label", `Region to search: ${where}`);
  }

  /** @param {PointerEvent} event */
  #press(event) {
    const isInside = this.frame.contains(event.target);
    // A finger beside the rectangle scrolls the page.
    if (event.button !== 0 || (event.pointerType === "touch" && !isInside)) return;
    event.preventDefault();
    clearTimeout(this.timer);
    const start = this.#at(event);
    const before = this.box;
    const side = event.target.dataset?.side;
    let moved = false;
    const move = (next) => {
      const now = this.#at(next);
      moved ||= Math.hypot(next.clientX - event.clientX, next.clientY - event.clientY) > 4;
      if (!moved) return;
      if (side) this.#set(resized(before, side, now));
      else if (isInside) this.#set(shifted(before, now.x - start.x, now.y - start.y));
      else this.#set(between(start, now));
    };
    const end = (last) => {
      for (const [name, handler] of [["pointermove", move], ["pointerup", end], ["pointercancel", end]]) {
        this.stage.removeEventListener(name, handler);
      }
      if (last.type === "pointercancel") this.#set(before);
      else if (moved) this.#choose();
    };
    this.stage.setPointerCapture(event.pointerId);
    this.stage.addEventListener("pointermove", move);
    this.stage.addEventListener("pointerup", end);
    this.stage.addEventListener("pointercancel", end);
    if (isInside) this.frame.focus({ preventScroll: true });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const steps = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    if (event.key === "Enter") this.#choose();
    else if (event.key in steps) {
      const [across, down] = steps[event.key];
      const { x, y, width, height } = this.box;
      const corner = { x: x + width + across, y: y + height + down };
      this.#set(event.shiftKey ? resized(this.box, "se", corner) : shifted(this.box, across, down));
      this.#chooseSoon(REST);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {number} milliseconds */
  #chooseSoon(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#choose(), milliseconds);
  }

  #choose() {
    clearTimeout(this.timer);
    if (this.box) this.chosen(format(this.box));
  }

  /** @param {PointerEvent} event */
  #at(event) {
    const { left, top, width, height } = this.stage.getBoundingClientRect();
    return { x: clamp((event.clientX - left) / width, 0, 1), y: clamp((event.clientY - top) / height, 0, 1) };
  }
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** @param {Box} box @param {number} across @param {number} down @returns {Box} */
function shifted(box, across, down) {
  return { ...box, x: clamp(box.x + across, 0, 1 - box.width), y: clamp(box.y + down, 0, 1 - box.height) };
}

/**
 * @param {Box} box
 * @param {string} side the corner that is dragged: "nw", "ne", "sw" or "se"
 * @param {{x: number, y: number}} to
 */
function resized(box, side, to) {
  const right = box.x + box.width;
  const bottom = box.y + box.height;
  const left = side.includes("w") ? clamp(to.x, 0, right - LEAST) : box.x;
  const top = side.includes("n") ? clamp(to.y, 0, bottom - LEAST) : box.y;
  const width = side.includes("w") ? right - left : clamp(to.x - left, LEAST, 1 - left);
  const height = side.includes("n") ? bottom - top : clamp(to.y - top, LEAST, 1 - top);
  return { x: left, y: top, width, height };
}

/** @returns {Box} with two points as its corners */
function between(one, other) {
  const width = Math.max(LEAST, Math.abs(one.x - other.x));
  const height = Math.max(LEAST, Math.abs(one.y - other.y));
  return { x: Math.min(one.x, other.x, 1 - width), y: Math.min(one.y, other.y, 1 - height), width, height };
}

/** Whole tenths of a percent, which never add up to more than all. @param {Box} box */
function format({ x, y, width, height }) {
  const start = [x, y].map((share) => Math.floor(share * 1000));
  const size = [width, height].map((share, index) => Math.min(Math.floor(share * 1000), 1000 - start[index]));
  return [...start, ...size].map((tenths) => `${tenths / 10}%`).join(",");
}

/** @param {string} region @param {number} across @param {number} down size of the picture in pixels @returns {?Box} */
function parse(region, across, down) {
  const parts = region.split(",").map((part, index) => {
    const value = Number.parseFloat(part);
    return part.trim().endsWith("%") ? value / 100 : value / (index % 2 ? down : across);
  });
  if (parts.length !== 4 || parts.some((part) => !Number.isFinite(part))) return null;
  const [x, y, width, height] = parts;
  return { x, y, width, height };
}
