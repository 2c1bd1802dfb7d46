// The data blocks of a page.

/**
 * Returns the JSON of a data block of the page; null if the page has none of that name.
 * @param {string} name The id of the block.
 */
export function block(name) {
  const found = document.getElementById(name);
  return found ? JSON.parse(found.textContent) : null;
}

/** What every page knows: the token that a POST carries, and the language. */
export const page = { csrf: "", language: "en", shapes: [], ...block("page") };
