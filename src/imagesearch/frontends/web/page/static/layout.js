/** The justified layout: rows of equal height that fill the width, from the proportions of the pictures alone. */

/** Of a panorama or a long strip only the middle is shown. */
const NARROWEST = 0.6;
const WIDEST = 3;
/** A row that would be so many times higher than usual is not full. */
const MOST_STRETCHED = 1.3;

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
  while (first < ratios.length) {
    const { end, height } = nextRow(ratios, first, width, gap, target);
    rows.push(first);
    sizes.push(...row(ratios.slice(first, end), height, height > target * MOST_STRETCHED ? target : 0));
    first = end;
  }
  return { sizes, rows };
}

/** How many pictures make a row whose height is closest to the usual one, and that height. */
function nextRow(ratios, first, width, gap, target) {
  let sum = 0;
  let before = Infinity;
  for (let end = first; end < ratios.length; end += 1) {
    sum += ratios[end];
    const height = (width - gap * (end - first)) / sum;
    if (height < target) {
      const isBetter = end === first || target / height <= before / target;
      return isBetter ? { end: end + 1, height } : { end, height: before };
    }
    before = height;
  }
  return { end: ratios.length, height: before };
}

/** Sizes of one row; one that cannot fill the width (the last) keeps the usual height. */
function row(ratios, full, usual) {
  if (usual) return ratios.map((ratio) => ({ width: Math.floor(ratio * usual), height: usual }));
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
