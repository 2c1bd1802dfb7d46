// The menu with all lines, opened by the button "Label as…" or by a right click.
import { html, signal, useLayoutEffect, useRef } from "./html.js";
import { label_cells } from "./labelling.js";
import { focus_cell, current, targets } from "./selection.js";
import { lines } from "./state.js";
import { said, t } from "./texts.js";

const place = signal(null); // {x, y} in px while the menu is open

/** Opens and closes the menu. */
export const label_menu = {
  open_at: (x, y) => (place.value = { x, y }),
  open_below: (element) => {
    const { left, bottom } = element.getBoundingClientRect();
    place.value = { x: left, y: bottom + 4 };
  },
  is_open: () => place.peek() !== null,
};

const KINDS = [
  ["class", () => t("Classes")],
  ["other_leucocyte", () => t("Other leucocytes")],
  ["not_leucocyte", () => t("Not leucocytes")],
  ["undecided", () => t("Undecided")],
];

/** The menu, while it is open. */
export function LabelMenu() {
  return place.value && html`<${OpenMenu} x=${place.value.x} y=${place.value.y} />`;
}

function OpenMenu({ x, y }) {
  const menu = useRef(null);
  useLayoutEffect(() => {
    const { width, height } = menu.current.getBoundingClientRect();
    Object.assign(menu.current.style, {
      left: `${Math.max(8, Math.min(x, innerWidth - width - 8))}px`,
      top: `${Math.max(8, Math.min(y, innerHeight - height - 8))}px`,
    });
    menu.current.querySelector("[role=menuitem]").focus();
    const close_outside = (event) => !menu.current?.contains(event.target) && close();
    addEventListener("pointerdown", close_outside);
    return () => removeEventListener("pointerdown", close_outside);
  }, [x, y]);
  return html`<div class="menu" role="menu" aria-label=${t("Label as")} ref=${menu} onKeyDown=${on_key}>
    <p role="presentation">${t("Cells: {n}", { n: targets().length })}</p>
    ${KINDS.map(
      ([kind, title]) => html`<div role="group" aria-label=${title()} key=${kind}>
        <div class="title" role="presentation">${title()}</div>
        ${lines.filter((line) => line.kind === kind).map((line) => html`<${Item} key=${line.line} line=${line} />`)}
      </div>`,
    )}
    <div role="group" aria-label=${t("Own label")}>
      <button type="button" role="menuitem" tabindex="-1"
          onClick=${() => choose(null)}>${t("Take my label back")}</button>
    </div>
  </div>`;
}

function Item({ line }) {
  return html`<button type="button" role="menuitem" tabindex="-1" onClick=${() => choose(line.line)}>
    <span>${said(line.name)}</span>${line.key && html`<kbd>${line.key}</kbd>`}
  </button>`;
}

function choose(label) {
  close();
  label_cells(label);
}

function close() {
  place.value = null;
  if (current.peek() !== null && !document.querySelector("dialog[open]")) focus_cell(current.peek());
}

function on_key(event) {
  const items = [...event.currentTarget.querySelectorAll("[role=menuitem]")];
  const at = items.indexOf(document.activeElement);
  const places = {
    ArrowDown: (at + 1) % items.length,
    ArrowUp: (at - 1 + items.length) % items.length,
    Home: 0,
    End: items.length - 1,
  };
  const line = lines.find(({ key }) => key && key === event.key.toLowerCase());
  if (event.key in places) items[places[event.key]].focus();
  else if (event.key === "Escape" || event.key === "Tab") close();
  else if (line && !event.ctrlKey && !event.metaKey && !event.altKey) choose(line.line);
  else if (event.key !== "Enter" && event.key !== " ") return;
  if (event.key !== "Enter" && event.key !== " ") event.preventDefault();
  event.stopPropagation();
}
