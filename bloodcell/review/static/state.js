// What the page of a slide knows: what the server sent, what the person has changed since, and what is selected.
import { batch, computed, signal } from "./html.js";
import { block } from "./page_data.js";

const sent = block("slide");

/** What is known of the slide itself. */
export const slide = sent.slide;
/** Whose page this is: {name, roles}. */
export const person = sent.person;
/** The vocabulary: {line, name, key, kind}. */
export const lines = sent.lines;
/** The pictures that tiles are parts of. */
export const sprites = signal(sent.sprites);
/** What the person may do: {label, sign}. */
export const may = signal(sent.may);
/** Who has the slide: {holder, is_mine, until}. */
export const lease = signal(sent.lease);
/** The version of the result in force; null without one. */
export const result = signal(sent.result);
/** A newer version that differs from what was signed; null without one. */
export const waiting_result = signal(sent.waiting);
/** Whether the numbers of the newest version are not reportable yet. */
export const is_withheld = signal(sent.is_withheld ?? false);
/** The order of the sections. */
export const gallery_order = signal(sent.gallery);
/** Comments on the slide and its cells, oldest first. */
export const comments = signal(sent.comments);
/** The differential as it counts now; null without a result. */
export const differential = signal(sent.differential);
/** What signing needs: {missing, named, states, needs_reason, digest, needs_password}. */
export const signing = signal(sent.signing);

/** Whether the server has answered who has the slide since the page was opened. */
export const is_lease_answered = signal(false);

/**
 * Whether this page may change the slide: the person may, and nobody else has it. Before the first answer, a slide that
 * nobody had is as good as the person's: the server refuses a label if somebody was faster.
 */
export const is_writable = computed(
  () => may.value.label && (lease.value.is_mine || (!is_lease_answered.value && !lease.value.holder)),
);

/** Whether a label is this person's. */
export const is_own = (label) => label.is_own;

/** One cell: as the server last sent it, and the label that waits to be acknowledged. */
class CellState {
  constructor(cell) {
    this.server = signal(cell);
    this.pending = signal(undefined); // a label, or null for a label taken back; undefined if nothing waits
    this.is_selected = signal(false);
    this.is_current = signal(false);
    this.cell = computed(() =>
      this.pending.value === undefined ? this.server.value : expected(this.server.value, this.pending.value),
    );
    this.line = computed(() => this.cell.value.line);
    this.needs = computed(() => this.cell.value.needs);
  }
}

/** Cell id -> its state, in the order of the server. */
export const cells = new Map(sent.cells.map((cell) => [cell.cell_id, new CellState(cell)]));
const order = signal([...cells.keys()]);

/** Returns a line of the vocabulary by its code. */
export const line_of = (code) => lines.find(({ line }) => line === code) ?? null;

const key_of_line = new Map(lines.map(({ line }) => [line, line]));

/** Returns what a cell most likely becomes by a label of this person, until the server says so. */
function expected(cell, label) {
  const others = cell.labels.filter((one) => !is_own(one));
  const own = { by: person.name, label, at: new Date().toISOString(), is_blind: false, is_own: true };
  const labels = label === null ? others : [...others, own];
  const said = new Set(labels.map((one) => key_of_line.get(one.label)).filter(Boolean));
  const unlabelled =
    cell.analyser_code && !cell.analyser_class && line_of(cell.analyser_code) ? cell.analyser_code : cell.called_class;
  const line = said.size > 1 ? "contested" : (said.values().next().value ?? unlabelled);
  const needs = said.size > 1 ? "contested" : said.size ? null : line === "unclassified" ? "unclassified" : cell.needs;
  return { ...cell, line, labels, needs };
}

/** The sections of the gallery that have cells: {line, ids}. */
export const sections = computed(() => {
  const of_line = new Map();
  for (const id of order.value) {
    const line = cells.get(id).line.value;
    if (!of_line.has(line)) of_line.set(line, []);
    of_line.get(line).push(id);
  }
  const known = gallery_order.value.filter((line) => of_line.has(line));
  const unknown = [...of_line.keys()].filter((line) => !known.includes(line));
  return [...known, ...unknown].map((line) => ({ line, ids: of_line.get(line) }));
});

/** Cells that a person has to look at, in the order of the gallery. */
export const needing = computed(() =>
  sections.value.flatMap(({ ids }) => ids.filter((id) => cells.get(id).needs.value)),
);

/** Takes over cells that the server has sent; they may be some of the slide's cells. */
export function take_cells(changed) {
  for (const cell of changed) {
    const known = cells.get(cell.cell_id);
    if (known) known.server.value = cell;
    else cells.set(cell.cell_id, new CellState(cell));
  }
  if (cells.size !== order.peek().length) order.value = [...cells.keys()];
}

/** Takes over what is in an answer of the server, which has some or all parts of the slide. */
export function take_answer(answer) {
  batch(() => {
    if (answer.sprites) sprites.value = answer.sprites;
    if (answer.gallery) gallery_order.value = answer.gallery;
    if (answer.cells) take_cells(answer.cells);
    const parts = { may, lease, result, comments, differential, signing, is_withheld, waiting: waiting_result };
    for (const [name, part] of Object.entries(parts)) if (answer[name] !== undefined) part.value = answer[name];
  });
}

/** Shows what waits to be acknowledged: the newest label of each cell. */
export function show_waiting(changes) {
  const newest = new Map(changes.map(({ cell_id, label }) => [cell_id, label]));
  batch(() => {
    for (const [id, state] of cells) state.pending.value = newest.get(id);
  });
}
