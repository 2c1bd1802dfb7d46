// The training queue: one cell at a time, with the reason why it is here. Labels go to the slides that the cells are of.
import { computed, html, render, signal } from "./html.js";
import { LineButtons, listen_to_line_keys } from "./line_buttons.js";
import { LogInOverlay } from "./log_in_overlay.js";
import { Notices, announce, tell } from "./notices.js";
import { block, page } from "./page_data.js";
import { Picture } from "./picture.js";
import { is_seen, note_picture, picture_of } from "./seen_picture.js";
import { Sending } from "./sending.js";
import { SavingState, WaitingBanner } from "./sending_status.js";
import { number, probability, said, t, visible } from "./texts.js";

const { cells, lines, n_all } = block("queue");
const newest = new Map(cells.map(({ cell_id, seen }) => [cell_id, seen])); // newest label of each cell, which a change names
const by_slide = new Map();
for (const { slide_id, barcode } of cells) if (!by_slide.has(slide_id)) by_slide.set(slide_id, sending_of(slide_id, barcode));
const sendings = [...by_slide.values()];
const every = { waiting: computed(() => sendings.flatMap((sending) => sending.waiting.value)) };

const before = new Set(every.waiting.peek().map(({ cell_id }) => cell_id)); // labelled before a reload
const left = signal(cells.filter(({ cell_id }) => !before.has(cell_id)));
const n_left_out = signal(0); // cells without a picture
const done = signal([]); // [{cell, label}] of this page, the newest last

function sending_of(slide_id, barcode) {
  return new Sending({
    person: page.person,
    subject: `training-${slide_id}`,
    url: `/api/slides/${slide_id}/labels`,
    on_answer: ({ outcomes, cells: changed }) => {
      for (const { cell_id, seen } of changed ?? []) newest.set(cell_id, seen);
      for (const { outcome, text } of outcomes) {
        if (outcome !== "stored") tell(t("Slide {barcode}: not stored. {why}", { barcode: visible(barcode), why: said(text) }), { kind: "warning" });
      }
    },
  });
}

const name_of = (label) => said(lines.find(({ line }) => line === label)?.name ?? label);
const send = ({ cell_id, slide_id }, label) => by_slide.get(slide_id).add([{ cell_id, label, seen: newest.get(cell_id) }]);

function choose(label) {
  const [cell, ...others] = left.peek();
  if (!cell || !is_seen(cell)) return;
  send(cell, label);
  done.value = [...done.peek(), { cell, label }];
  left.value = others;
  announce(t("{name}. Cells left: {n}", { name: name_of(label), n: others.length }));
}

/** Takes the last label back: before it is sent it is forgotten, after that a label is taken back on the server. */
function take_back() {
  const last = done.peek().at(-1);
  if (!last) return;
  const sending = by_slide.get(last.cell.slide_id);
  const unsent = sending.waiting.peek().find(({ cell_id }) => cell_id === last.cell.cell_id);
  if (unsent && !sending.is_sending) sending.remove(unsent.key);
  else send(last.cell, null);
  done.value = done.peek().slice(0, -1);
  left.value = [last.cell, ...left.peek()];
  announce(t("The last choice is taken back."));
}

/** Puts a cell last, or leaves it out if nobody can see it. */
function skip() {
  const [cell, ...others] = left.peek();
  if (!cell) return;
  if (picture_of(cell) === "missing") {
    n_left_out.value += 1;
    left.value = others;
  } else if (others.length) left.value = [...others, cell];
}

function Queue() {
  const [cell] = left.value;
  const n_done = n_all - left.value.length - n_left_out.value;
  const is_missing = cell && picture_of(cell) === "missing";
  const last = done.value.at(-1);
  return html`<div class="reading queue">
      ${sendings.map((sending) => html`<${WaitingBanner} sending=${sending} />`)}
      <div class="progress"><label for="labelled">${t("Labelled: {n} of {all}", { n: n_done, all: n_all })}</label><progress id="labelled" max=${Math.max(n_all, 1)} value=${n_done}></progress></div>
      ${cell ? html`<${Cell} key=${cell.cell_id} cell=${cell} />` : html`<div class="specimen done"><h2>${how_it_ended()}</h2></div>`}
      <div class="row">
        <button type="button" class="button" disabled=${!last} onClick=${take_back}>↶ ${t("Take back")} <kbd>u</kbd></button>
        <button type="button" class="button" disabled=${left.value.length < 2 && !is_missing} onClick=${skip}>${is_missing ? t("Next cell, without a label") : t("Later")} <kbd>n</kbd></button>
        ${last && html`<span>${t("Last choice: {name}.", { name: name_of(last.label) })}</span>`}
        <span class="stretch"></span>
        <${SavingState} sending=${every} />
      </div>
      ${left.value[1] && html`<link rel="prefetch" as="image" href=${left.value[1].image} />`}
    </div>
    <${LogInOverlay} name=${page.person} /><${Notices} />`;
}

function how_it_ended() {
  if (!n_all) return t("No cell of this night is worth a label for training.");
  if (n_left_out.value) return t("Cells without a picture, left out: {n}", { n: n_left_out.value });
  return t("All cells of this night are labelled.");
}

function Cell({ cell }) {
  const [novelty, threshold] = cell.novelty;
  const why = cell.why === "uncertain" ? t("The model is uncertain: its two most probable classes are close.") : t("The cell is unlike those the model knows, and unlike the other cells of this queue.");
  return html`<div class="disputes">
    <${Picture} url=${cell.image} um_per_px=${null} name=${said(cell.called_name)}
        tell=${(state) => note_picture(cell, state)} />
    <div>
      <h2>${t("Slide")} <a href=${`/slides/${cell.slide_id}`}><bdi>${visible(cell.barcode)}</bdi></a></h2>
      <p class="quiet"><bdi>${visible(cell.file_name)}</bdi></p>
      <p class="notice"><b>${cell.why === "uncertain" ? t("Uncertain") : t("Novel")}.</b> ${why}</p>
      <dl class="facts">
        <div><dt>${t("Called")}</dt><dd>${said(cell.called_name)}</dd></div>
        ${cell.choices.map(([line, p]) => html`<div key=${line}><dt>${name_of(line)}</dt><dd>${probability(p)}</dd></div>`)}
        <div><dt>${t("Novelty (threshold)")}</dt><dd>${number(novelty)} (${number(threshold)})</dd></div>
      </dl>
      <h3 class="label-title">${t("Label as")}</h3>
      <${LineButtons} lines=${lines} choose=${choose} />
    </div>
  </div>`;
}

render(html`<${Queue} />`, document.getElementById("desk"));
listen_to_line_keys(lines, choose, { u: take_back, "$mod+z": take_back, n: skip });
sendings.forEach((sending) => sending.send_now());
