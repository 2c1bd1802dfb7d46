// The panel beside the gallery: result, differential, signing, comments.
import { html, signal } from "./html.js";
import { CommentForm, CommentList } from "./comments.js";
import { Differential } from "./differential_table.js";
import { Signing } from "./signing.js";
import { current, focus_cell } from "./selection.js";
import { comments, result, waiting_result } from "./state.js";
import { moment, said, t, visible } from "./texts.js";

const is_open = signal(false); // on narrow screens the panel lies over the gallery

/** Opens and closes the panel on narrow screens. */
export const panel = {
  is_open,
  open: () => (is_open.value = true),
  close: () => {
    is_open.value = false;
    focus_cell(current.peek());
  },
};

const STATES = {
  machine: () => ["◌", t("machine: not signed")],
  withheld: () => ["■", t("withheld")],
  final: () => ["✔", t("final")],
  amended: () => ["✔", t("amended")],
  corrected: () => ["✔", t("corrected")],
};

/** A result's state in words, with a shape. */
export function State({ of }) {
  if (!of) return html`<span class="chip">◌ ${t("no result yet")}</span>`;
  const [shape, words] = (STATES[of.state] ?? (() => ["◌", visible(of.state)]))();
  return html`<span class=${`chip state ${of.state}`}>${shape} ${words}</span>`;
}

/** The panel. */
export function SidePanel() {
  const signed = result.value?.signed_by;
  return html`<aside id="panel" class=${is_open.value ? "panel open" : "panel"} aria-label=${t("Result of the slide")}
      onKeyDown=${(event) => event.key === "Escape" && panel.close()}>
    <button type="button" class="button panel-close" onClick=${panel.close}>${t("Back to the cells")}</button>
    <p class="result"><${State} of=${result.value} /> ${result.value && html`<span
        class="quiet">${t("version {n}", { n: result.value.version })} · ${moment(result.value.made_at)}${signed ? html` · <bdi>${visible(signed)}</bdi>` : ""}</span>`}</p>
    ${waiting_result.value && html`<p
        class="notice warning">${t("Version {n} differs from what was signed and waits for a signature.", { n: waiting_result.value.version })} ${said(waiting_result.value.why)}</p>`}
    <${Differential} />
    <${Signing} />
    <section class="slide-comments"><h2>${t("Comments on the slide")}</h2>
      <${CommentList} comments=${comments.value.filter(({ cell_id }) => cell_id === null)} />
      <${CommentForm} cell_id=${null} />
    </section>
  </aside>`;
}
