// The cells of the slide, in sections by what they count as: each section is a listbox.
import { html, useEffect, useRef } from "./html.js";
import { line_name } from "./cell_texts.js";
import { box_selection } from "./box_selection.js";
import { drag_sources, drop_target } from "./drag.js";
import { show_cell } from "./cell_view.js";
import { label_menu } from "./label_menu.js";
import {
  extend_to,
  focus_cell,
  n_columns,
  select_by_click,
  select_only,
  selected,
  set_current,
  toggle,
} from "./selection.js";
import { cells, sections } from "./state.js";
import { count, t } from "./texts.js";
import { Tile } from "./tile.js";

const ROWS_IN_A_CHUNK = 6;
const TILE_WIDTH = 112;
const LONG_PRESS_MS = 500;
let is_touched = false; // the pointer that was pressed last was a finger; Firefox does not say so in its clicks

/** All sections that have cells. */
export function Gallery() {
  const root = useRef(null);
  useEffect(() => {
    const resized = new ResizeObserver(
      ([{ contentRect }]) => (n_columns.value = Math.max(2, Math.floor((contentRect.width + 8) / (TILE_WIDTH + 8)))),
    );
    resized.observe(root.current);
    const stops = [
      box_selection(root.current),
      drag_sources(root.current),
      long_press(root.current),
      () => resized.disconnect(),
    ];
    return () => stops.forEach((stop) => stop());
  }, []);
  return html`<div class="gallery" ref=${root} onClick=${on_click} onDblClick=${on_double_click}
      onContextMenu=${on_context_menu} onFocusIn=${on_focus}>
    ${sections.value.map(({ line, ids }) => html`<${Section} key=${line} line=${line} ids=${ids} />`)}
    ${!sections.value.length && html`<p class="empty">${t("This slide has no cell that could be used.")}</p>`}
  </div>`;
}

function Section({ line, ids }) {
  const size = n_columns.value * ROWS_IN_A_CHUNK;
  const n_needing = ids.filter((id) => cells.get(id).needs.value).length;
  const chunks = [];
  for (let at = 0; at < ids.length; at += size) chunks.push(ids.slice(at, at + size).join());
  return html`<section class="cells" ...${drop_target(line)}>
    <header>
      <h2 id=${`of-${line}`}>${line_name(line)} <span class="n">${count(ids.length)}</span></h2>
      ${n_needing > 0 && html`<span class="todo">${t("to look at: {n}", { n: n_needing })}</span>`}
      <button type="button" class="button small quiet" onClick=${() => select_section_of(ids)}>${t("Select all")}<span
          class="unseen"> ${line_name(line)}</span></button>
    </header>
    <div role="listbox" aria-multiselectable="true" aria-labelledby=${`of-${line}`} aria-orientation="horizontal">
      ${chunks.map((chunk, at) => html`<${Chunk} key=${at} ids=${chunk} />`)}
    </div>
  </section>`;
}

/** A part of a section that the browser need not draw while it is out of sight. `ids` is text, so that it compares. */
function Chunk({ ids }) {
  const listed = ids.split(",").map(Number);
  const style = {
    gridTemplateColumns: `repeat(${n_columns.value}, minmax(0, 1fr))`,
    "--rows": Math.ceil(listed.length / n_columns.value),
  };
  return html`<div role="presentation" class="chunk" style=${style}>${listed.map((id) => html`<${Tile} key=${id}
      id=${id} />`)}</div>`;
}

function select_section_of(ids) {
  select_only(ids);
  focus_cell(ids[0]);
}

const cell_of = (event) => Number(event.target.closest?.("[data-cell]")?.dataset.cell ?? NaN);

function on_click(event) {
  const id = cell_of(event);
  if (Number.isNaN(id)) return;
  const is_adding = event.ctrlKey || event.metaKey || (is_touched && selected.peek().size > 0);
  if (event.shiftKey) extend_to(id);
  else if (is_adding) {
    toggle(id);
    focus_cell(id);
  } else if (is_touched) focus_cell(id);
  else select_by_click(id);
}

function on_double_click(event) {
  const id = cell_of(event);
  if (!Number.isNaN(id)) show_cell(id);
}

function on_context_menu(event) {
  const id = cell_of(event);
  if (Number.isNaN(id)) return;
  event.preventDefault();
  if (is_touched) return; // the long press has selected the cell
  if (!selected.peek().has(id)) select_by_click(id);
  label_menu.open_at(event.clientX, event.clientY);
}

function on_focus(event) {
  const id = cell_of(event);
  if (!Number.isNaN(id)) set_current(id);
}

/** On touch, a long press selects a cell; taps then add others. */
function long_press(root) {
  let timer = null;
  const stop = () => clearTimeout(timer);
  const start = (event) => {
    const id = cell_of(event);
    stop();
    is_touched = event.pointerType === "touch";
    if (event.pointerType !== "mouse" && !Number.isNaN(id)) timer = setTimeout(() => pressed(id), LONG_PRESS_MS);
  };
  const pressed = (id) => {
    toggle(id);
    set_current(id);
    // the click that ends the press does not deselect the cell again
    root.addEventListener("click", (event) => event.stopPropagation(), { capture: true, once: true });
  };
  const ending = ["pointerup", "pointercancel", "pointermove"];
  root.addEventListener("pointerdown", start);
  ending.forEach((name) => root.addEventListener(name, stop));
  return () => {
    root.removeEventListener("pointerdown", start);
    ending.forEach((name) => root.removeEventListener(name, stop));
  };
}
