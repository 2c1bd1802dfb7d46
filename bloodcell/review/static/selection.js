// Which cell is the current one, which are selected, and where the arrows lead.
import { batch, computed, signal } from "./html.js";
import { cells, needing, sections } from "./state.js";

/** Id of the cell that has the focus when the gallery has it; null without cells. */
export const current = signal(null);
/** Ids of the selected cells. */
export const selected = signal(new Set());
/** How many cells are side by side. */
export const n_columns = signal(6);
let anchor = null;
let was_visited = false; // whether the person has been on a cell yet
let is_by_click = false;
let n_focusing = 0;

/** The section of the current cell. */
export const current_section = computed(() => section_of(current.value));

/** Returns the section that a cell is shown in. */
export const section_of = (id) => sections.value.find(({ ids }) => ids.includes(id)) ?? null;

/** Returns the cells that a label would go to: the selected ones, or else the current one. */
export function targets() {
  if (selected.peek().size) return sections.peek().flatMap(({ ids }) => ids.filter((id) => selected.peek().has(id)));
  return current.peek() === null ? [] : [current.peek()];
}

/** Selects these cells and no others. */
export function select_only(ids) {
  batch(() => {
    const wanted = new Set(ids);
    for (const id of selected.peek()) if (!wanted.has(id) && cells.has(id)) cells.get(id).is_selected.value = false;
    for (const id of wanted) cells.get(id).is_selected.value = true;
    selected.value = wanted;
    is_by_click = false;
  });
}

/** Makes a cell the current one, which has the focus when the gallery has. */
export function set_current(id) {
  was_visited = true;
  batch(() => {
    if (cells.has(current.peek())) cells.get(current.peek()).is_current.value = false;
    if (cells.has(id)) cells.get(id).is_current.value = true;
    current.value = id;
  });
}

/** Makes the first cell the current one, before the person has been on any. */
export function begin() {
  set_current(sections.peek()[0]?.ids[0] ?? null);
  was_visited = false;
}

/** Makes a cell the current one and moves the focus to it. */
export function focus_cell(id) {
  set_current(id);
  // after this frame's drawing, since the cell may have just moved to another section
  n_focusing += 1;
  requestAnimationFrame(() => {
    n_focusing -= 1;
    document.getElementById(`cell-${id}`)?.focus();
  });
}

/** Whether the focus is about to move to the current cell, which then scrolls into sight. */
export const is_focusing = () => n_focusing > 0;

/** Goes to a cell that may be far away: what was selected elsewhere is no longer, so that a label goes to this cell. */
export function go_to_cell(id) {
  if (id === null) return;
  select_only([]);
  anchor = null;
  focus_cell(id);
}

/** Selects or deselects a cell. */
export function toggle(id) {
  const wanted = new Set(selected.peek());
  if (!wanted.delete(id)) wanted.add(id);
  select_only(wanted);
  anchor = id;
}

/** Selects one cell, as a click does. */
export function select_by_click(id) {
  select_only([id]);
  anchor = id;
  is_by_click = true;
  focus_cell(id);
}

/** Selects from where the selection began to a cell of the same section. */
export function extend_to(id) {
  const { ids } = section_of(id);
  const from = ids.indexOf(ids.includes(anchor) ? anchor : ids.includes(current.peek()) ? current.peek() : id);
  const to = ids.indexOf(id);
  anchor = ids[from];
  select_only(ids.slice(Math.min(from, to), Math.max(from, to) + 1));
  focus_cell(id);
}

/** Selects all cells of the current section. */
export function select_section() {
  if (current_section.peek()) select_only(current_section.peek().ids);
}

/** Goes where a key of the listbox leads; returns whether it is such a key. */
export function move(key, { extends_selection = false } = {}) {
  const section = current_section.peek();
  if (!section) return false;
  const target = target_of(key, section);
  if (target === undefined) return false;
  if (extends_selection && section.ids.includes(target)) extend_to(target);
  else {
    if (is_by_click) select_only([]);
    anchor = null;
    focus_cell(target);
  }
  return true;
}

function target_of(key, { ids }) {
  const at = ids.indexOf(current.peek());
  const columns = n_columns.peek();
  const page = columns * Math.max(1, Math.floor(innerHeight / 160) - 1);
  const within = (place) => ids[Math.min(ids.length - 1, Math.max(0, place))];
  switch (key) {
    case "ArrowRight":
      return at + 1 < ids.length ? ids[at + 1] : (neighbour_section(1)?.ids[0] ?? ids[at]);
    case "ArrowLeft":
      return at > 0 ? ids[at - 1] : (neighbour_section(-1)?.ids.at(-1) ?? ids[at]);
    case "ArrowDown":
      return down(ids, at, columns);
    case "ArrowUp":
      return up(ids, at, columns);
    case "Home":
      return ids[0];
    case "End":
      return ids.at(-1);
    case "PageDown":
      return within(at + page);
    case "PageUp":
      return within(at - page);
    default:
      return undefined;
  }
}

function down(ids, at, columns) {
  if (at + columns < ids.length) return ids[at + columns];
  if (Math.floor(at / columns) < Math.floor((ids.length - 1) / columns)) return ids.at(-1);
  const below = neighbour_section(1)?.ids;
  return below ? below[Math.min(at % columns, below.length - 1)] : ids[at];
}

function up(ids, at, columns) {
  if (at >= columns) return ids[at - columns];
  const above = neighbour_section(-1)?.ids;
  if (!above) return ids[at];
  const last_row = Math.floor((above.length - 1) / columns) * columns;
  return above[Math.min(last_row + at, above.length - 1)];
}

function neighbour_section(step) {
  return sections.peek()[sections.peek().indexOf(current_section.peek()) + step];
}

/** Returns the next cell (or the one before, with -1) that needs a person, going round; null if none does. */
export function next_needing(step) {
  const wanted = needing.peek();
  if (!wanted.length) return null;
  const all = sections.peek().flatMap(({ ids }) => ids);
  const here = was_visited ? all.indexOf(current.peek()) : -1;
  const places = wanted.map((id) => all.indexOf(id));
  const found = step > 0 ? places.find((place) => place > here) : places.findLast((place) => place < here && here >= 0);
  return all[found ?? places.at(step > 0 ? 0 : -1)];
}

/** Returns where the focus goes when cells leave the section that the person is in. */
export function next_after(leaving) {
  const gone = new Set(leaving);
  const section = current_section.peek();
  if (!section) return null;
  const at = section.ids.indexOf(current.peek());
  const stays = (id) => !gone.has(id);
  const next = section.ids.slice(at).find(stays) ?? section.ids.slice(0, at).findLast(stays);
  if (next !== undefined) return next;
  const place = sections.peek().indexOf(section);
  const others = [...sections.peek().slice(place + 1), ...sections.peek().slice(0, place).reverse()];
  return others.flatMap(({ ids }) => ids).find(stays) ?? current.peek();
}
