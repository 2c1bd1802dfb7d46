// The dialog that lists all keys.
import { html, signal, useEffect, useRef } from "./html.js";
import { single_keys, switch_single_keys } from "./single_keys.js";
import { lines } from "./state.js";
import { said, t } from "./texts.js";

const shown = signal(false);

/** Opens the dialog. */
export const help = { open: () => (shown.value = true), is_open: () => shown.peek() };

const KEYS = () => [
  ["← → ↑ ↓ Home End PgUp PgDn", t("go to another cell")],
  ["Shift + ← → ↑ ↓", t("extend the selection")],
  ["Space", t("select or deselect the cell")],
  ["Ctrl + A", t("select the section")],
  ["Esc", t("end the selection; close what is open")],
  ["Enter", t("show the cell large")],
  ["+ −", t("zoom in the large view")],
  ["n", t("next cell that needs a person")],
  ["Shift + N", t("previous cell that needs a person")],
  ["l", t("menu of all labels")],
  ["u, Ctrl + Z", t("undo")],
  ["s", t("go to signing")],
  ["?", t("this help")],
];

/** The dialog, while it is open. */
export const Help = () => shown.value && html`<${OpenHelp} />`;

function OpenHelp() {
  const dialog = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => {
      dialog.current?.close();
      before?.focus?.();
    };
  }, []);
  const close = () => (shown.value = false);
  return html`<dialog class="help" ref=${dialog} aria-labelledby="help-title" onClose=${close}>
    <header><h2 id="help-title">${t("Keys")}</h2><button type="button" class="button"
        onClick=${close}>${t("Close")} <kbd>Esc</kbd></button></header>
    <div class="columns">
      <dl class="key-list">${KEYS().map(([key, text]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${text}</dd>
          </div>`)}</dl>
      <dl class="key-list">${lines.filter(({ key }) => key).map(({ key, name }) => html`<div key=${key}><dt>
          <kbd>${key}</kbd></dt><dd>${said(name)}</dd></div>`)}</dl>
    </div>
    <p class="quiet">${t("With the mouse: click, Shift + click, Ctrl + click; draw a box beside the cells, or with Shift anywhere; drag cells onto a section or onto a line of the differential; right click for the menu.")}</p>
    <label class="choice"><input type="checkbox" checked=${single_keys.value}
        onChange=${(event) => switch_single_keys(event.currentTarget.checked)} />
        <span>${t("Keys of one character act (switch off for speech input)")}</span></label>
  </dialog>`;
}
