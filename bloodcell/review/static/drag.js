// Dragging cells onto a section of the gallery, or onto a line of the differential.
import { label_cells } from "./labelling.js";
import { select_by_click, selected, targets } from "./selection.js";
import { line_of } from "./state.js";
import { t } from "./texts.js";

const TYPE = "application/x-bloodcell-cells";

/** Lets the cells of the gallery be dragged; returns a function that ends it. */
export function drag_sources(root) {
  const start = (event) => {
    const id = Number(event.target.closest?.("[data-cell]")?.dataset.cell ?? NaN);
    if (Number.isNaN(id)) return;
    if (!selected.peek().has(id)) select_by_click(id);
    const n = targets().length;
    event.dataTransfer.setData(TYPE, targets().join());
    event.dataTransfer.effectAllowed = "move";
    const image = Object.assign(document.createElement("div"), {
      className: "drag-image",
      textContent: t("Cells: {n}", { n }),
    });
    document.body.append(image);
    event.dataTransfer.setDragImage(image, -8, -8);
    setTimeout(() => image.remove(), 0);
  };
  root.addEventListener("dragstart", start);
  return () => root.removeEventListener("dragstart", start);
}

/** Returns the attributes of an element on which cells may be dropped, which labels them. */
export function drop_target(line) {
  if (!line_of(line)) return {};
  const accepts = (event) => event.dataTransfer.types.includes(TYPE);
  return {
    "data-line": line,
    onDragEnter: (event) => accepts(event) && event.preventDefault(),
    onDragOver: (event) => {
      if (!accepts(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "move";
      event.currentTarget.classList.add("drop");
    },
    onDragLeave: (event) => {
      if (!event.currentTarget.contains(event.relatedTarget)) event.currentTarget.classList.remove("drop");
    },
    onDrop: (event) => {
      if (!accepts(event)) return;
      event.preventDefault();
      event.currentTarget.classList.remove("drop");
      label_cells(line, event.dataTransfer.getData(TYPE).split(",").map(Number));
    },
  };
}
