// Selecting with the mouse: a box that begins beside the cells, or anywhere with shift.
import { batch } from "./html.js";
import { select_only, selected, set_current } from "./selection.js";

const SMALLEST = 5; // px, below which it is a click

/** Lets a box be drawn on the gallery; returns a function that ends it. */
export function box_selection(root) {
  const start = (event) => {
    const is_beside = !event.target.closest("[data-cell], button, a, input");
    if (event.pointerType === "mouse" && event.button === 0 && (is_beside || event.shiftKey)) new Box(root, event);
  };
  root.addEventListener("pointerdown", start);
  return () => root.removeEventListener("pointerdown", start);
}

class Box {
  constructor(root, { pageX, pageY, ctrlKey, metaKey }) {
    Object.assign(this, { root, from: [pageX, pageY], is_drawn: false });
    this.before = ctrlKey || metaKey ? [...selected.peek()] : [];
    this.element = Object.assign(document.createElement("div"), { className: "selection-box" });
    this.listening = new AbortController();
    const { signal } = this.listening;
    addEventListener("pointermove", (event) => this.draw(event), { signal });
    addEventListener("pointerup", (event) => this.end(event), { signal });
    addEventListener("pointercancel", () => this.remove(), { signal });
    // text is not selected and cells are not dragged meanwhile
    addEventListener("selectstart", (event) => event.preventDefault(), { signal });
    addEventListener("dragstart", (event) => event.preventDefault(), { signal, capture: true });
  }

  draw({ pageX, pageY }) {
    const [left, right] = [this.from[0], pageX].sort((one, other) => one - other);
    const [top, bottom] = [this.from[1], pageY].sort((one, other) => one - other);
    if (!this.is_drawn && right - left < SMALLEST && bottom - top < SMALLEST) return;
    if (!this.is_drawn) document.body.append(this.element);
    this.is_drawn = true;
    Object.assign(this.element.style, {
      left: `${left}px`,
      top: `${top}px`,
      width: `${right - left}px`,
      height: `${bottom - top}px`,
    });
    this.select({ left: left - scrollX, right: right - scrollX, top: top - scrollY, bottom: bottom - scrollY });
  }

  select(box) {
    const is_hit = (element) => {
      const { left, right, top, bottom } = element.getBoundingClientRect();
      return left < box.right && right > box.left && top < box.bottom && bottom > box.top;
    };
    const chunks = [...this.root.querySelectorAll(".chunk")].filter(is_hit);
    const hit = chunks
      .flatMap((chunk) => [...chunk.children].filter(is_hit))
      .map(({ dataset }) => Number(dataset.cell));
    batch(() => {
      select_only([...this.before, ...hit]);
      if (hit.length) set_current(hit[0]);
    });
  }

  end(event) {
    if (this.is_drawn) {
      // a box that ends on a cell is no click on it
      const ignore = (click) => click.stopPropagation();
      addEventListener("click", ignore, { capture: true, once: true });
      setTimeout(() => removeEventListener("click", ignore, { capture: true }), 0);
      this.root.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
    } else if (!event.target.closest?.("[data-cell]")) select_only(this.before);
    this.remove();
  }

  remove() {
    this.listening.abort();
    this.element.remove();
  }
}
