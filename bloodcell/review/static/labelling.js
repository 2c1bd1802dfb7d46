// Labels, and taking them back. Each change is shown at once and sent as one append-only label.
import { batch, signal } from "./html.js";
import { announce, tell } from "./notices.js";
import { Sending } from "./sending.js";
import { focus_cell, next_after, select_only, set_current, targets } from "./selection.js";
import { cells, is_own, is_writable, line_of, person, show_waiting, slide, take_answer } from "./state.js";
import { refresh_slide } from "./slide_requests.js";
import { said, t, visible } from "./texts.js";

const done = signal([]); // actions that may be undone, oldest first: [{cell_id, label}], with the labels before

/** Whether there is something to undo. */
export const can_undo = () => done.value.length > 0;

/** The labels on their way to the server. */
export const sending = new Sending({
  person: person.name,
  subject: `labels:${slide.slide_id}`,
  url: `/api/slides/${slide.slide_id}/labels`,
  on_answer: take_labels_answer,
  on_other_tab: refresh_slide,
});
sending.waiting.subscribe(show_waiting);

/** Returns the newest label of this person for a cell; null if there is none. */
const own_label = (cell) => cell.labels.findLast(is_own)?.label ?? null;

/**
 * Labels cells, by default those that are selected, or else the current one.
 * @param {string | null} label A line; null takes the person's own label back.
 * @param {number[]} [ids]
 */
export function label_cells(label, ids = targets()) {
  if (!ids.length || !explain_if_read_only()) return;
  const changed = ids.filter((id) => own_label(cells.get(id).cell.peek()) !== label);
  const before = changed.map((cell_id) => ({ cell_id, label: own_label(cells.get(cell_id).cell.peek()) }));
  const next = next_after(ids);
  if (changed.length) {
    done.value = [...done.peek(), before];
    send(changed.map((cell_id) => ({ cell_id, label })));
  }
  batch(() => {
    select_only([]);
    set_current(next);
  });
  if (!document.querySelector("dialog[open]")) focus_cell(next);
  announce(
    label === null
      ? t("Label taken back: {n}", { n: ids.length })
      : t("{name}: {n}", { name: said(line_of(label)?.name ?? label), n: ids.length }),
  );
}

/** Takes the last action back: each of its cells gets the person's label from before again. */
export function undo() {
  const action = done.peek().at(-1);
  if (!action || !explain_if_read_only()) return;
  done.value = done.peek().slice(0, -1);
  send(action);
  const is_behind_dialog = document.querySelector("dialog[open]") !== null; // what nobody sees is not selected
  select_only(action.length > 1 && !is_behind_dialog ? action.map(({ cell_id }) => cell_id) : []);
  if (is_behind_dialog) set_current(action[0].cell_id);
  else focus_cell(action[0].cell_id);
  announce(t("Undone: {n}", { n: action.length }));
}

function send(changes) {
  sending.add(changes.map((change) => ({ ...change, seen: cells.get(change.cell_id).server.peek().seen })));
}

function explain_if_read_only() {
  if (!is_writable.peek()) tell(t("You cannot change this slide now."), { kind: "warning" });
  return is_writable.peek();
}

function take_labels_answer(answer) {
  take_answer(answer);
  for (const { cell_id, outcome, text } of answer.outcomes) {
    if (outcome === "stored") continue;
    forget(cell_id);
    const cell = cells.get(cell_id)?.server.peek();
    tell(outcome === "conflict" ? conflict_text(cell, text) : t("Not stored: {why}", { why: said(text) }), {
      kind: "warning",
      cell_id,
    });
  }
}

/** Leaves a cell out of what may be undone: its label was not stored. */
function forget(cell_id) {
  const others = (action) => action.filter((change) => change.cell_id !== cell_id);
  done.value = done
    .peek()
    .map(others)
    .filter((action) => action.length);
}

function conflict_text(cell, text) {
  const theirs = cell?.labels.findLast((label) => !is_own(label));
  if (!theirs) return t("Not stored, because the cell has changed since: {why}", { why: said(text) });
  const name = line_of(theirs.label)?.name ?? theirs.label;
  return t("Not stored: {who} has labelled this cell {label} since. Look at it again.", {
    who: visible(theirs.by),
    label: said(name),
  });
}
