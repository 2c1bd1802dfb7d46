// Whether the picture of the cell on the page is there: a cell that nobody can see gets no label.
import { signal } from "./html.js";
import { announce } from "./notices.js";
import { t } from "./texts.js";

const newest = signal({});

/** Returns "loading", "shown" or "missing". */
export const picture_of = ({ cell_id }) => (newest.value.cell_id === cell_id ? newest.value.state : "loading");

/** Notes that the picture of a cell is "shown" or "missing". */
export function note_picture({ cell_id }, state) {
  newest.value = { cell_id, state };
}

/** Returns whether the cell can be labelled, and says why not. */
export function is_seen(cell) {
  const state = picture_of(cell);
  if (state === "missing") announce(t("The picture is missing: the cell gets no label."));
  else if (state === "loading") announce(t("The picture is not shown yet."));
  return state === "shown";
}
