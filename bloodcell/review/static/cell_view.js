// The large view of one cell: its pixels, what the model, the analyser and people say, and cells to compare it with.
import { effect, html, signal, useEffect, useRef } from "./html.js";
import { choice_text, line_name, reason_text } from "./cell_texts.js";
import { CommentForm, CommentList } from "./comments.js";
import { label_cells } from "./labelling.js";
import { Notices } from "./notices.js";
import { Picture } from "./picture.js";
import { current, focus_cell, go_to_cell, move, set_current } from "./selection.js";
import { fetch_cell, image_url } from "./slide_requests.js";
import { cells, comments, is_writable, line_of, lines, slide } from "./state.js";
import { moment, probability, said, t, visible } from "./texts.js";

const is_open = signal(false);
const details = signal(null); // what GET cells/{id} says of the current cell

/** Shows a cell large. */
export function show_cell(id) {
  go_to_cell(id);
  is_open.value = true;
}

/** Whether the large view is open. */
export const is_cell_shown = () => is_open.peek();

/** Closes the large view; the focus is then on the cell in the gallery. */
export function hide_cell() {
  is_open.value = false;
  focus_cell(current.peek());
}

effect(() => {
  const id = current.value;
  if (!is_open.value || id === null) return;
  cells.get(id).server.value; // the history is fetched again when a label is stored
  if (details.peek()?.cell_id !== id) details.value = null;
  fetch_cell(id).then(
    (fetched) => current.peek() === id && (details.value = fetched),
    () => {}, // the pixels and what the gallery knows are shown all the same
  );
});

/** The large view, while it is open. */
export function CellView() {
  return is_open.value && current.value !== null && html`<${OpenView} id=${current.value} />`;
}

function OpenView({ id }) {
  const dialog = useRef(null);
  useEffect(() => {
    dialog.current.showModal();
    dialog.current.querySelector("h2").focus();
    return () => dialog.current?.close();
  }, []);
  const cell = cells.get(id).cell.value;
  const known = details.value?.cell_id === id ? details.value : null;
  const on_cancel = (event) => {
    event.preventDefault();
    hide_cell();
  };
  return html`<dialog class="cell-view" ref=${dialog} aria-labelledby="cell-title" onCancel=${on_cancel}>
    <header>
      <h2 id="cell-title" tabindex="-1">${line_name(cell.line)} <small><bdi>${visible(cell.file_name)}</bdi></small></h2>
      <div class="row">
        <button type="button" class="button" onClick=${() => move("ArrowLeft")}>← ${t("Previous")}</button>
        <button type="button" class="button" onClick=${() => move("ArrowRight")}>${t("Next")} →</button>
        <button type="button" class="button" onClick=${hide_cell}>${t("Close")} <kbd>Esc</kbd></button>
      </div>
    </header>
    <div class="parts">
      <${Picture} key=${id} url=${cell.has_image ? image_url(id) : null} um_per_px=${slide.um_per_px}
          name=${line_name(cell.line)} />
      <div class="facts-of-cell">
        <${LabelButtons} id=${id} cell=${cell} />
        <${Probabilities} cell=${cell} known=${known} />
        <${History} cell=${cell} known=${known} />
        <section><h3>${t("Comments on this cell")}</h3>
          <${CommentList} comments=${comments.value.filter((comment) => comment.cell_id === id)} />
          <${CommentForm} key=${id} cell_id=${id} />
        </section>
        <${Examples} known=${known} />
      </div>
    </div>
    <${Notices} go_to=${set_current} />
    <div class="unseen" aria-live="polite" data-spoken></div>
  </dialog>`;
}

function LabelButtons({ id, cell }) {
  const own = (line) => cell.labels.some(({ label }) => label === line);
  return html`<section><h3>${t("Label as")}</h3>
    <div class="keys">
      ${lines
        .filter(({ key }) => key)
        .map(
          ({
            line,
            name,
            key,
          }) => html`<button key=${line} type="button" class="button small" aria-pressed=${own(line)}
              disabled=${!is_writable.value} onClick=${() => label_cells(line, [id])}>
            <kbd>${key}</kbd> ${said(name)}
          </button>`,
        )}
      <select aria-label=${t("Label as another line")} disabled=${!is_writable.value}
          onChange=${(event) => choose_other(event, id)}>
        <option value="">${t("another …")}</option>
        ${lines.filter(({ key }) => !key).map(({ line, name }) => html`<option key=${line}
            value=${line}>${said(name)}</option>`)}
      </select>
    </div>
  </section>`;
}

function choose_other(event, id) {
  const line = event.currentTarget.value;
  event.currentTarget.value = "";
  if (line_of(line)) label_cells(line, [id]);
}

function Probabilities({ cell, known }) {
  const shown = known?.probabilities ?? cell.choices;
  return html`<section><h3>${t("Model")} ${reason_text(cell) && html`<span
      class="chip possibly">${reason_text(cell)}</span>`}</h3>
    <ul class="bars">
      ${shown.map(
        (choice) => html`<li key=${choice[0]}>
          <span>${line_name(choice[0])}</span>
          <svg viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=${choice_text(choice)}><rect
              class="ground" width="100" height="8" /><rect class="value" width=${100 * choice[1]} height="8" /></svg>
          <span class="number">${probability(choice[1])}</span>
        </li>`,
      )}
    </ul>
    <p class="quiet">${t("Analyser:")} ${cell.analyser_code ? html`<b><bdi>${visible(cell.analyser_code)}</bdi>
        </b>` : t("no code")} · ${t("unlikeness to the training cells:")} ${cell.novelty?.toFixed(2) ?? "–"}</p>
  </section>`;
}

function History({ cell, known }) {
  const history = known?.history ?? cell.labels;
  return html`<section><h3>${t("Labels")}</h3>
    ${history.length ? html`<ol class="history">${history.map((entry, at) => html`<li key=${at}><${HistoryEntry}
        entry=${entry} /></li>`)}</ol>` : html`<p class="quiet">${t("Nobody has labelled this cell.")}</p>`}
    <p><a href=${`/slides/${slide.slide_id}/history?cell=${cell.cell_id}`}>${t("Who did what with this cell")}</a></p>
  </section>`;
}

function HistoryEntry({ entry }) {
  const kinds = [entry.is_blind && t("read blind"), entry.is_adjudication && t("adjudicated")].filter(Boolean);
  return html`<b>${entry.is_retraction ? t("label taken back") : line_name(entry.label)}</b> <bdi>${visible(entry.by)}</bdi>
    <span class="quiet"> ${moment(entry.at)}${kinds.map((kind) => ` · ${kind}`)}</span>`;
}

function Examples({ known }) {
  const examples = known?.examples?.filter((of_line) => of_line.cells.length) ?? [];
  if (!examples.length) return null;
  return html`<section><h3>${t("This laboratory’s confirmed cells")}</h3>
    ${examples.map(
      ({ line, cells: shown }) => html`<figure class="examples" key=${line}>
        <figcaption>${line_name(line)}</figcaption>
        <div>${shown.map(({ url }, at) => html`<img key=${url} src=${url}
            alt=${t("{line}, example {n}", { line: line_name(line), n: at + 1 })} loading="lazy" width="96"
            height="96" />`)}</div>
      </figure>`,
    )}
  </section>`;
}
