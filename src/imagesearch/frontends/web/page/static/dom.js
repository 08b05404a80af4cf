/** Small helpers for elements; text never becomes markup here. */

/** @param {string} id @returns {HTMLElement & any} */
export const byId = (id) => document.getElementById(id);

/**
 * An element with text, attributes and children.
 *
 * @param {string} name
 * @param {Object<string, string>} [attributes]
 * @param {...(Node|string)} children
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** @param {string} name of an icon in icons.html */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

let fading = 0;

/** Tell something that needs no answer. @param {string} text */
export function toast(text) {
  const place = byId("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => place.classList.remove("shown"), 6000);
}
