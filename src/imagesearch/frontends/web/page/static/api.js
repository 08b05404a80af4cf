/**
 * The HTTP API, as far as the page uses it.
 *
 * @typedef {{id: string, path: string, root: string, content_hash: string, size: number, mtime_ns: string,
 *   width: number, height: number, taken: ?string, camera: ?string, latitude: ?number, longitude: ?number,
 *   annotations: Object<string, *>, date: string}} Picture
 * @typedef {{rank: number, score: number, expected: ?number, confidence: ?number, picture: Picture,
 *   others?: Hit[]}} Hit
 * @typedef {{query: string, meanings: string[], hits: Hit[], grouped: boolean, best: ?Hit}} Answer
 */

const BASE = "/api/v1";

/** What went wrong, as the server says (RFC 9457). */
export class ApiError extends Error {
  /** @param {{title?: string, detail?: string, status?: number, type?: string, error?: {nearest?: string[]}}} problem */
  constructor(problem) {
    super(problem.detail || problem.title || "The server does not say why.");
    this.title = problem.title ?? "";
    this.status = problem.status ?? 0;
    this.kind = (problem.type ?? "").split(":").pop();
    /** Words that can be searched for, and are like those that cannot. @type {string[]} */
    this.nearest = problem.error?.nearest ?? [];
  }
}

/**
 * Ask the server.
 *
 * @param {string} method
 * @param {string} path below /api/v1
 * @param {{json?: *, form?: FormData, signal?: AbortSignal}} [what]
 * @returns {Promise<any>} the answer
 */
export async function ask(method, path, { json, form, signal } = {}) {
  const headers = json === undefined ? {} : { "Content-Type": "application/json" };
  const body = json === undefined ? form : JSON.stringify(json);
  let response;
  try {
    response = await fetch(BASE + path, { method, headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({ title: "No connection", detail: "The server cannot be reached. Is it still running?" });
  }
  if (response.ok) return response.json();
  if (response.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
  throw new ApiError(await problemOf(response));
}

/** @param {Response} response */
async function problemOf(response) {
  const { status, statusText: title } = response;
  const plain = { title, status, detail: `The server answered ${status}.` };
  if (!response.headers.get("Content-Type")?.includes("json")) return plain;
  return { ...plain, ...(await response.json()) };
}

/** @param {string} path @param {AbortSignal} [signal] */
export const get = (path, signal) => ask("GET", path, { signal });

/** @param {string} path @param {*} json @param {AbortSignal} [signal] */
export const post = (path, json, signal) => ask("POST", path, { json, signal });

/**
 * Give the server a picture to search by; it keeps it for a day.
 *
 * @param {Blob} file
 * @returns {Promise<{id: string, name: string, width: number, height: number, expires: string}>}
 */
export function upload(file) {
  const form = new FormData();
  form.append("image", file, file.name || "picture from the clipboard");
  return ask("POST", "/uploads", { form });
}

/** Sizes of thumbnails that the server makes: longest sides in pixels. */
const SIZES = [160, 320, 640, 1600];

/**
 * The address of a thumbnail; it changes with the file, so that browsers may keep it.
 *
 * @param {Picture} picture
 * @param {number} longest longest side on the screen, in pixels of CSS
 */
export function thumbnailUrl(picture, longest) {
  const pixels = longest * Math.min(window.devicePixelRatio || 1, 3);
  // A little too small looks the same, and is a quarter of the bytes.
  const size = SIZES.find((one) => one * 1.15 >= pixels) ?? SIZES.at(-1);
  return `${BASE}/pictures/${picture.id}/thumbnail?size=${size}&v=${encodeURIComponent(picture.content_hash)}`;
}

/** As large as thumbnails get. @param {string} id */
export const largeUrl = (id) => `${BASE}/pictures/${id}/thumbnail?size=${SIZES.at(-1)}`;

/** The smallest thumbnail, where no more than the id is known. @param {string} id */
export const iconUrl = (id) => `${BASE}/pictures/${id}/thumbnail?size=${SIZES[0]}`;

/** @param {Picture} picture */
export const downloadUrl = (picture) => `${BASE}/pictures/${picture.id}/image?download=true`;

/** Of several pictures in one file. @param {string[]} ids */
export const archiveUrl = (ids) => `${BASE}/archive?${ids.map((id) => `ids=${id}`).join("&")}`;

/** @param {string} id */
export const previewUrl = (id) => `${BASE}/uploads/${encodeURIComponent(id)}/preview`;
