// Blind reading: one cell at a time. The newest choice is held back, so that it can still be changed: only the first
// label of a cell that is sent counts as read blind.
import { html, render, signal } from "./html.js";
import { LineButtons, listen_to_line_keys } from "./line_buttons.js";
import { LogInOverlay } from "./log_in_overlay.js";
import { Notices, announce, tell } from "./notices.js";
import { block, page } from "./page_data.js";
import { is_seen, note_picture, picture_of } from "./seen_picture.js";
import { Sending } from "./sending.js";
import { SavingState, WaitingBanner } from "./sending_status.js";
import { said, t } from "./texts.js";

const { mode, cells, lines, n_wanted, n_done } = block("blind");
const is_finished = signal(false);

const sending = new Sending({
  person: page.person,
  subject: `blind-${mode}`,
  url: "/api/blind",
  extra: { mode },
  on_answer: ({ outcomes }) => {
    for (const { outcome, text } of outcomes)
      if (outcome !== "stored") tell(t("Not stored: {why}", { why: said(text) }), { kind: "warning" });
  },
});

const read_before = new Set(sending.waiting.peek().map(({ cell_id }) => cell_id)); // chosen before a reload
const place = signal(first_unread());

const left_out = signal(new Set()); // cells without a picture

function first_unread() {
  const at = cells.findIndex(({ cell_id }) => !read_before.has(cell_id));
  return at < 0 ? cells.length : at;
}

const held = () => sending.waiting.value.find(({ is_held }) => is_held) ?? null;

function choose(label) {
  const cell = cells[place.peek()];
  if (!cell || is_finished.peek() || !is_seen(cell)) return;
  sending.release();
  sending.add([{ cell_id: cell.cell_id, label, is_held: true }]);
  place.value += 1;
  announce(
    t("{name}. Cell {n} of {all}.", {
      name: name_of(label),
      n: Math.min(place.peek() - n_left_out() + n_done + 1, n_wanted),
      all: n_wanted,
    }),
  );
}

/** Goes on to the next cell without a label, where there is nothing to see. */
function leave_out() {
  left_out.value = new Set([...left_out.peek(), cells[place.peek()].cell_id]);
  place.value += 1;
}

/** Returns how many of the cells before this place were left out. */
const n_left_out = () => cells.slice(0, place.value).filter(({ cell_id }) => left_out.value.has(cell_id)).length;

const name_of = (label) => said(lines.find(({ line }) => line === label)?.name ?? label);

function take_back() {
  const last = sending.waiting.peek().find(({ is_held }) => is_held);
  if (!last) return;
  const at = cells.findIndex(({ cell_id }) => cell_id === last.cell_id);
  if (at < 0) return; // chosen before a reload, and not to be read any more
  sending.remove(last.key);
  place.value = at;
  is_finished.value = false;
  announce(t("The last choice is taken back."));
}

function finish() {
  sending.release();
  is_finished.value = true;
  document.getElementById("finished")?.focus();
}

function Reading() {
  const cell = cells[place.value];
  const n_read = Math.min(n_done + place.value - n_left_out(), n_wanted);
  return html`<div class="reading">
      <${WaitingBanner} sending=${sending} />
      <div class="progress">
        <label for="read">${t("Read: {n} of {all}", { n: n_read, all: n_wanted })}</label>
        <progress id="read" max=${Math.max(n_wanted, 1)} value=${n_read}></progress>
      </div>
      ${
        is_finished.value || !cell
          ? html`<${End} />`
          : html`<${Specimen} key=${cell.cell_id} cell=${cell} />
        <${LineButtons} lines=${lines} choose=${choose} />`
      }
      ${cells[place.value + 1] && html`<link rel="prefetch" as="image" href=${cells[place.value + 1].image} />`}
      <${LastChoice} />
    </div>
    <${LogInOverlay} name=${page.person} /><${Notices} />`;
}

function Specimen({ cell }) {
  const state = picture_of(cell);
  // a picture that has left the page may still arrive, after the one that took its place
  const take = (told) => ({ currentTarget }) => currentTarget.isConnected && note_picture(cell, told);
  if (state === "missing")
    return html`<div class="specimen missing"><div><p>${t("The picture is missing or altered in the store.")}</p>
      <button type="button" class="button" onClick=${leave_out}>${t("Next cell, without a label")}</button></div></div>`;
  return html`<div class="specimen" aria-busy=${state !== "shown"}><img src=${cell.image}
      alt=${t("A cell to be labelled without any other information")} onLoad=${take("shown")}
      onError=${take("missing")} /></div>`;
}

function LastChoice() {
  const last = held();
  return html`<div class="row">
    <button type="button" class="button" disabled=${!last} onClick=${take_back}>↶ ${t("Take back")} <kbd>u</kbd></button>
    ${last && html`<span>${t("Last choice: {name}. It is stored with the next one.", { name: name_of(last.label) })}</span>`}
    <span class="stretch"></span>
    <${SavingState} sending=${sending} />
    <button type="button" class="button" disabled=${!last} onClick=${finish}>${t("Finish")}</button>
  </div>`;
}

function End() {
  const is_all = place.value >= cells.length;
  const text = !cells.length
    ? t("There is no cell to read now.")
    : is_all
      ? t("All cells are read.")
      : t("You can go on later.");
  return html`<div class="specimen done"><div id="finished" tabindex="-1"><h2>${text}</h2>
    ${is_all && held() ? html`<p>${t("The last choice is not stored yet: press Finish.")}</p>` : html`<p>${mode === "sample"
            ? t("Thank you. These labels judge the models.")
            : t("Thank you. Where both readings agree, the slide can be signed.")} <a
        href="/">${t("Back to the worklist")}</a></p>`}
    ${n_left_out() > 0 && html`<p>${t("Cells without a picture, left out: {n}", { n: n_left_out() })}</p>`}
    ${!is_all && html`<button type="button" class="button"
        onClick=${() => (is_finished.value = false)}>${t("Go on")}</button>`}
  </div></div>`;
}

render(html`<${Reading} />`, document.getElementById("desk"));
listen_to_line_keys(lines, choose, { u: take_back, "$mod+z": take_back });
sending.send_now();
