// What the page tells: spoken through the live region, or shown as a notice that stays until it is closed.
import { html, signal } from "./html.js";
import { t } from "./texts.js";

const told = signal([]);
let n_told = 0;

/** Has a screen reader speak a text. */
export function announce(text) {
  const regions = document.querySelectorAll("[data-spoken]"); // that of the page, and that of an open dialog
  for (const region of regions) region.textContent = "";
  setTimeout(() => regions.forEach((region) => (region.textContent = text)), 30);
}

/**
 * Shows a notice until the person closes it.
 * @param {string} text
 * @param {{kind?: "plain" | "warning", cell_id?: number}} [options] `cell_id`: a button goes to this cell.
 */
export function tell(text, { kind = "plain", cell_id } = {}) {
  const others = told.peek().filter((notice) => notice.text !== text || notice.cell_id !== cell_id);
  told.value = [...others.slice(-4), { id: n_told++, text, kind, cell_id }];
  announce(text);
}

/** The notices that are open. */
export function Notices({ go_to }) {
  const close = (id) => (told.value = told.peek().filter((notice) => notice.id !== id));
  return html`<div class="toasts">
    ${told.value.map(
      ({ id, text, kind, cell_id }) => html`<div class="notice ${kind}" key=${id}>
        <p>${text}</p>
        ${cell_id !== undefined && html`<button type="button" class="button small"
            onClick=${() => go_to(cell_id)}>${t("Show the cell")}</button>`}
        <button type="button" class="button small quiet" onClick=${() => close(id)}>${t("Close")}</button>
      </div>`,
    )}
  </div>`;
}
