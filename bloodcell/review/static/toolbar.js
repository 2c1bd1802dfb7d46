// What is always in reach: what is left to do, labelling what is selected, undo, help.
import { html } from "./html.js";
import { show_cell } from "./cell_view.js";
import { help } from "./help.js";
import { label_menu } from "./label_menu.js";
import { can_undo, sending, undo } from "./labelling.js";
import { current, go_to_cell, next_needing, select_only, selected } from "./selection.js";
import { SavingState } from "./sending_status.js";
import { panel } from "./side_panel.js";
import { is_writable, needing } from "./state.js";
import { count, t } from "./texts.js";

/** The bar above the gallery. */
export function Toolbar() {
  const n = selected.value.size;
  return html`<div class="toolbar" role="group" aria-label=${t("Cells")}>
    <button type="button" class="button" aria-haspopup="menu" disabled=${!is_writable.value || current.value === null}
        onClick=${(event) => label_menu.open_below(event.currentTarget)}>
      ${t("Label as …")}${n > 0 && html` <b>${count(n)}</b>`}</button>
    ${n > 0 && html`<button type="button" class="button quiet"
        onClick=${() => select_only([])}>✕<span class="unseen"> ${t("End selection")}</span></button>`}
    <button type="button" class="button quiet" disabled=${current.value === null}
        onClick=${() => show_cell(current.peek())}>${t("Large view")}</button>
    <button type="button" class="button quiet" disabled=${!can_undo()} onClick=${undo}>↶ ${t("Undo")}</button>
    <button type="button" class="button" disabled=${!needing.value.length}
        onClick=${() => go_to_cell(next_needing(1))}>${t("To look at: {n}", { n: count(needing.value.length) })} <span
        aria-hidden="true">→</span></button>
    <span class="stretch"></span>
    <${SavingState} sending=${sending} />
    <button type="button" class="button panel-open" aria-expanded=${panel.is_open.value} aria-controls="panel"
        onClick=${() => (panel.is_open.peek() ? panel.close() : panel.open())}>${t("Differential")}</button>
    <button type="button" class="button quiet" onClick=${help.open}>${t("Keys")} <kbd>?</kbd></button>
  </div>`;
}
