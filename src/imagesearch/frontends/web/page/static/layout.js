/** The justified layout: rows of equal height that fill the width, from the proportions of the pictures alone. */

/** Of a panorama or a long strip only the middle is shown. */
const NARROWEST = 0.45;
const WIDEST = 3;

/** @param {{width: number, height: number}} picture */
export function ratioOf({ width, height }) {
  if (!(width > 0 && height > 0)) return 1;
  return Math.min(WIDEST, Math.max(NARROWEST, width / height));
}

/** Height of a row that suits a width, both in pixels of CSS. @param {number} width */
export const rowHeight = (width) => (width < 500 ? 130 : width < 1000 ? 180 : width < 2000 ? 220 : 280);

/**
 * Sizes of all pictures in whole pixels.
 *
 * @param {number[]} ratios widths by heights
 * @param {number} width of a row, a whole number
 * @param {number} gap between two pictures
 * @returns {{sizes: {width: number, height: number}[], rows: number[]}} ``rows``: index of the first of each row
 */
export function justify(ratios, width, gap) {
  const target = rowHeight(width);
  const sizes = [];
  const rows = [];
  let first = 0;
  let sum = 0;
  for (let index = 0; index < ratios.length; index += 1) {
    sum += ratios[index];
    const free = width - gap * (index - first);
    const isLast = index === ratios.length - 1;
    if (free / sum > target * 1.15 && !isLast) continue;
    rows.push(first);
    sizes.push(...row(ratios.slice(first, index + 1), free, sum, target));
    first = index + 1;
    sum = 0;
  }
  return { sizes, rows };
}

/** One row; one that cannot fill the width (the last) keeps the usual height. */
function row(ratios, free, sum, target) {
  const full = free / sum;
  if (full > target * 1.3) return ratios.map((ratio) => ({ width: Math.floor(ratio * target), height: target }));
  const height = Math.round(full);
  let end = 0;
  let used = 0;
  return ratios.map((ratio) => {
    end += ratio * full;
    const width = Math.round(end) - used; // so that the sum is exact
    used += width;
    return { width, height };
  });
}
