// The keys of the page of a slide. Keys of one character can be switched off (WCAG 2.1.4).
import { hide_cell, is_cell_shown, show_cell } from "./cell_view.js";
import { help } from "./help.js";
import { label_menu } from "./label_menu.js";
import { can_undo, label_cells, undo } from "./labelling.js";
import { announce } from "./notices.js";
import {
  current,
  focus_cell,
  go_to_cell,
  is_focusing,
  move,
  next_needing,
  select_only,
  select_section,
  selected,
  toggle,
} from "./selection.js";
import { panel } from "./side_panel.js";
import { go_to_signing } from "./signing.js";
import { key_bindings, single_keys } from "./single_keys.js";
import { lines } from "./state.js";
import { t } from "./texts.js";
import { tinykeys } from "./vendor/tinykeys.js";

const MOVES = ["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "Home", "End", "PageDown", "PageUp"];

/** Whether keys are meant for the cells: the focus is on one, in the large view, or nowhere. */
function is_among_cells() {
  const focused = document.activeElement;
  if (help.is_open() || document.querySelector("dialog.log-in")) return false;
  return (
    is_cell_shown() ||
    !focused ||
    focused === document.body ||
    focused === document.documentElement ||
    focused.matches("[data-cell], #main, .selection-bar button")
  );
}

/** Whether the focus is where a person types a password: a letter of it must never label a cell. */
const is_at_signing = () => document.activeElement?.closest("#signing") != null;

const single =
  (act, { anywhere = false } = {}) =>
  (event) => {
    if (!single_keys.peek() || document.querySelector("dialog.log-in")) return;
    if (anywhere ? is_at_signing() : !is_among_cells()) return;
    event.preventDefault();
    act();
  };

const go_to_needing = (step) => go_to_cell(next_needing(step));

/** Labels what the person sees: in the large view its cell, in the gallery no cell that was scrolled away. */
function label_by_key(line) {
  if (is_cell_shown()) return label_cells(line, current.peek() === null ? [] : [current.peek()]);
  if (selected.peek().size || current.peek() === null || is_in_sight(current.peek())) return label_cells(line);
  document.getElementById(`cell-${current.peek()}`).scrollIntoView({ block: "center" }); // what has the focus already, too
  focus_cell(current.peek());
  announce(t("The current cell was out of sight. Press the key again to label it."));
}

/** Whether a cell can be seen in the gallery, or will be in a moment. */
function is_in_sight(id) {
  const place = document.getElementById(`cell-${id}`)?.getBoundingClientRect();
  if (is_focusing() || !place) return true;
  const bar = document.querySelector(".toolbar").getBoundingClientRect();
  return place.bottom > Math.max(0, bar.bottom) && place.top < innerHeight;
}

/** Has the keys act. */
export function listen_to_keys() {
  const of_lines = key_bindings(lines).map(([key, line]) => [key, single(() => label_by_key(line))]);
  const undo_again = (event) => {
    if (!can_undo()) return;
    event.preventDefault();
    undo();
  };
  tinykeys(window, {
    ...Object.fromEntries(of_lines),
    u: single(undo, { anywhere: true }),
    n: single(() => go_to_needing(1), { anywhere: true }),
    "Shift+N": single(() => go_to_needing(-1), { anywhere: true }),
    s: single(
      () => {
        if (is_cell_shown()) hide_cell();
        panel.open();
        requestAnimationFrame(go_to_signing);
      },
      { anywhere: true },
    ),
    l: single(() => open_menu()),
    "[Shift]+?": single(() => help.open(), { anywhere: true }),
    "$mod+z": undo_again,
  });
  addEventListener("keydown", on_listbox_key);
}

function open_menu() {
  const cell = document.getElementById(`cell-${current.peek()}`);
  if (!is_cell_shown() && cell) label_menu.open_below(cell);
}

/** The keys of a listbox, which act again while they are held down. */
function on_listbox_key(event) {
  if (event.defaultPrevented || event.altKey || event.target.closest?.("input, textarea, select") || !is_among_cells())
    return;
  const has_modifier = event.ctrlKey || event.metaKey;
  let is_done = true;
  if (MOVES.includes(event.key) && !has_modifier)
    is_done = is_scrolling(event) ? false : move(event.key, { extends_selection: event.shiftKey && !is_cell_shown() });
  else if (has_modifier && event.key.toLowerCase() === "a" && !is_cell_shown()) select_section();
  else if (event.target.closest?.("button, a") || has_modifier) is_done = false;
  else if (event.key === " " && !is_cell_shown() && current.peek() !== null) toggle(current.peek());
  else if (event.key === "Enter" && !is_cell_shown() && current.peek() !== null) show_cell(current.peek());
  else if (event.key === "Escape" && !is_cell_shown() && selected.peek().size) select_only([]);
  else is_done = false;
  if (is_done) event.preventDefault();
}

/** In the large view, only left and right go to other cells: the others scroll. */
const is_scrolling = ({ key }) => is_cell_shown() && key !== "ArrowRight" && key !== "ArrowLeft";
