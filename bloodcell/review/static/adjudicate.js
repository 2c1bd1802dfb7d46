// Adjudication: each contested cell with what each person said of it, and no other cell of its slide.
import { html, render, signal } from "./html.js";
import { LineButtons, listen_to_line_keys } from "./line_buttons.js";
import { LogInOverlay } from "./log_in_overlay.js";
import { Notices, announce, tell } from "./notices.js";
import { block, page } from "./page_data.js";
import { Picture } from "./picture.js";
import { is_seen, note_picture } from "./seen_picture.js";
import { Sending } from "./sending.js";
import { SavingState, WaitingBanner } from "./sending_status.js";
import { moment, said, t, visible } from "./texts.js";

const { cells, lines } = block("disputes");
const note = signal("");
const chosen = signal(null);

const sending = new Sending({
  person: page.person,
  subject: "adjudications",
  url: "/api/adjudications",
  on_answer: ({ outcomes }) => outcomes.filter(({ outcome }) => outcome !== "stored").forEach(tell_outcome),
});

const before = new Set(sending.waiting.peek().map(({ cell_id }) => cell_id)); // decided before a reload
const left = signal(cells.filter(({ cell_id }) => !before.has(cell_id)));

function tell_outcome({ cell_id, outcome, text }) {
  const barcode = visible(cells.find((cell) => cell.cell_id === cell_id)?.slide.barcode ?? "");
  const words =
    outcome === "conflict"
      ? t("Slide {barcode}: somebody has labelled the cell since, so your decision is not stored.", { barcode })
      : t("Slide {barcode}: not stored.", { barcode });
  tell(`${words} ${said(text)}`, { kind: "warning" });
}

function choose(label) {
  const [cell] = left.peek();
  if (cell && is_seen(cell)) chosen.value = label;
}

function decide() {
  const [cell] = left.peek();
  if (!cell || !chosen.peek()) return;
  sending.add([{ cell_id: cell.cell_id, label: chosen.peek(), note: note.peek().trim() || null, seen: cell.seen }]);
  announce(t("Decided: {name}. Left: {n}", { name: name_of(chosen.peek()), n: left.peek().length - 1 }));
  left.value = left.peek().slice(1);
  chosen.value = null;
  note.value = "";
}

/** Puts a cell last, to be decided later. */
function skip() {
  const [cell, ...others] = left.peek();
  left.value = [...others, cell];
  chosen.value = null;
  note.value = "";
}

const name_of = (label) => said(lines.find(({ line }) => line === label)?.name ?? label);

function Adjudication() {
  const [cell] = left.value;
  return html`<div class="row"><p>${t("Contested cells left: {n}", { n: left.value.length })}</p>
      <span class="stretch"></span><${SavingState} sending=${sending} /></div>
    <${WaitingBanner} sending=${sending} />
    ${cell ? html`<${Dispute} key=${cell.cell_id} cell=${cell} />` : html`<div class="specimen done">
        <h2>${t("No contested cell is left.")}</h2></div>`}
    <${LogInOverlay} name=${page.person} /><${Notices} />`;
}

function Dispute({ cell }) {
  return html`<div class="disputes">
    <${Picture} url=${cell.image} um_per_px=${null} name=${t("contested")} tell=${(state) => note_picture(cell, state)} />
    <div>
      <h2>${t("Slide")} <bdi>${visible(cell.slide.barcode)}</bdi></h2>
      <h3>${t("What was said")}</h3>
      <ul class="said">${cell.labels.map((label) => html`<li key=${label.by + label.at}>
          <b>${said(label.name)}</b> <bdi>${visible(label.by)}</bdi> <span
          class="quiet">${moment(label.at)}</span>${label.note && html`<br />
          <bdi>${visible(label.note)}</bdi>`}</li>`)}</ul>
      <h3>${t("Your decision")}</h3>
      <${LineButtons} lines=${lines} chosen=${chosen.value} choose=${choose} />
      ${chosen.value && html`<p><b>${t("Chosen: {name}", { name: name_of(chosen.value) })}</b></p>`}
      <label class="field">${t("Note (optional)")}<textarea rows="2" maxlength="1000" value=${note.value}
          onInput=${(event) => (note.value = event.currentTarget.value)}></textarea></label>
      <p class="row"><button type="button" class="button primary" disabled=${!chosen.value}
          onClick=${decide}>${t("Store the decision")} <kbd>Enter</kbd></button>
        <button type="button" class="button quiet" onClick=${skip}
            disabled=${left.value.length < 2}>${t("Decide later")}</button></p>
    </div>
  </div>`;
}

render(html`<${Adjudication} />`, document.getElementById("desk"));
listen_to_line_keys(lines, choose, {});
addEventListener("keydown", (event) => {
  if (
    event.key === "Enter" &&
    !event.defaultPrevented &&
    !event.target.closest("button, a, input, textarea, select, dialog, summary")
  )
    decide();
});
sending.send_now();
