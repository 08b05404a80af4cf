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
 * Where all pictures are, in whole pixels.
 *
 * @typedef {{left: number, top: number, width: number, height: number}} Place
 * @param {number[]} ratios widths by heights
 * @param {number} width of a row, a whole number
 * @param {number} gap between two pictures
 * @param {{top?: number, isEnd?: boolean}} [how] ``top``: where the first row begins; ``isEnd``: whether no more
 *   pictures follow; else those that fill no row are left out, because they will be placed otherwise
 * @returns {{places: Place[], rows: number[], bottom: number}} ``rows``: index of the first of each row
 */
export function justify(ratios, width, gap, { top = 0, isEnd = true } = {}) {
  const target = rowHeight(width);
  const places = [];
  const rows = [];
  let first = 0;
  let bottom = top;
  while (first < ratios.length) {
    const { end, height, isOpen } = nextRow(ratios, first, width, gap, target);
    if (isOpen && !isEnd) break;
    const isFull = height <= target * MOST_STRETCHED;
    rows.push(first);
    places.push(...row(ratios.slice(first, end), isFull ? height : target, gap, bottom));
    bottom = places.at(-1).top + places.at(-1).height + gap;
    first = end;
  }
  return { places, rows, bottom };
}

/** Where the row ends whose height is closest to the usual one, that height, and whether more would fit in. */
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
  return { end: ratios.length, height: before, isOpen: true };
}

/** @returns {Place[]} one row; edges are rounded, not widths, so that their sum is exact */
function row(ratios, height, gap, top) {
  let edge = 0;
  return ratios.map((ratio, index) => {
    const left = Math.round(edge);
    edge += ratio * height;
    const width = Math.round(edge) - left;
    return { left: left + gap * index, top, width, height: Math.round(height) };
  });
}
