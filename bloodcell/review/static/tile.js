// One cell of the gallery.
import { html } from "./html.js";
import { NEEDS, accessible_name, line_name } from "./cell_texts.js";
import { cells, is_writable, sprites } from "./state.js";
import { probability, t, visible } from "./texts.js";

/** Returns the style that shows one tile of a sprite, in any size. */
export function tile_style(cell) {
  const sprite = sprites.value[cell.sprite];
  if (!cell.has_image || !sprite) return undefined;
  const rows = Math.ceil(sprite.n / sprite.columns);
  const place = (at, n) => (n > 1 ? (100 * at) / (n - 1) : 0);
  return {
    backgroundImage: `url("${encodeURI(sprite.url)}")`,
    backgroundSize: `${100 * sprite.columns}% ${100 * rows}%`,
    backgroundPosition: `${place(cell.tile % sprite.columns, sprite.columns)}% ${place(Math.floor(cell.tile / sprite.columns), rows)}%`,
  };
}

/** The picture of a cell as part of the sprite, or words in its place. */
function Picture({ cell }) {
  const style = tile_style(cell);
  return style
    ? html`<div class="picture" style=${style}></div>`
    : html`<div class="picture missing">${t("no picture")}</div>`;
}

/** A cell with its picture, what it counts as and why, and what it needs. */
export function Tile({ id }) {
  const state = cells.get(id);
  const cell = state.cell.value;
  const is_saving = state.pending.value !== undefined;
  const classes = ["cell", cell.needs && "needs", is_saving && "saving", cell.labels.length && "labelled"]
    .filter(Boolean)
    .join(" ");
  return html`<div
    id=${`cell-${id}`}
    data-cell=${id}
    class=${classes}
    role="option"
    aria-selected=${state.is_selected.value}
    tabindex=${state.is_current.value ? 0 : -1}
    draggable=${is_writable.value}
  >
    <span class="unseen">${accessible_name(cell, is_saving)}</span>
    <div aria-hidden="true">
      <${Picture} cell=${cell} />
      ${cell.needs && html`<span class="badge">${(NEEDS[cell.needs] ?? (() => cell.needs))()}</span>`}
      ${is_saving && html`<span class="badge saving-mark">${t("saving")}</span>`}
      <div class="first"><${FirstLine} cell=${cell} /></div>
      <div class="second"><${SecondLine} cell=${cell} /></div>
    </div>
  </div>`;
}

/** What a person said; or else the model's first choice, by name where it is not what the section is called. */
function FirstLine({ cell }) {
  if (cell.labels.length)
    return html`<span
        class="name">✎ ${[...new Set(cell.labels.map(({ label }) => line_name(label)))].join(" / ")}</span>`;
  const [first] = cell.choices;
  if (!first) return html`<span>–</span>`;
  if (cell.resembles) return html`<span class="name">${t("like your {code}", { code: cell.resembles })}</span>`;
  const name =
    cell.called_class === "unclassified"
      ? `${line_name(first[0])}?`
      : first[0] === cell.line
        ? ""
        : line_name(first[0]);
  return html`<span class="name">${name}</span><span>${probability(first[1])}</span>`;
}

function SecondLine({ cell }) {
  const second = cell.choices[1];
  const is_shown = second && second[1] >= 0.01 && !cell.labels.length;
  const marks = [cell.n_comments && `❝${cell.n_comments}`, cell.analyser_code && visible(cell.analyser_code)].filter(
    Boolean,
  );
  return html`<span class="code">${marks.join(" ")}</span>${is_shown && html`<span
      class="name">${line_name(second[0])}</span><span>${probability(second[1])}</span>`}`;
}
