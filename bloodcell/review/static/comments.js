// Comments on the slide and on a cell.
import { html, useRef, useSignal } from "./html.js";
import { new_key } from "./identity.js";
import { announce } from "./notices.js";
import { send_comment } from "./slide_requests.js";
import { may } from "./state.js";
import { moment, said, t, visible } from "./texts.js";

/** Comments, oldest first. */
export function CommentList({ comments }) {
  if (!comments.length) return html`<p class="quiet">${t("No comment yet.")}</p>`;
  return html`<ul class="comments">
    ${comments.map(
      ({ by, at, text }) => html`<li key=${at + by + text}>
        <p><bdi>${text.split("\n").map(visible).join("\n")}</bdi></p>
        <span class="quiet"><bdi>${visible(by)}</bdi> ${moment(at)}</span>
      </li>`,
    )}
  </ul>`;
}

/** A form for a comment on a cell, or on the slide if `cell_id` is null. What was written stays until it is stored. */
export function CommentForm({ cell_id }) {
  const text = useSignal("");
  const failure = useSignal("");
  const is_sending = useSignal(false);
  const tried = useRef({}); // the comment as it was sent last: only the same text has the same key
  const id = `comment-${cell_id ?? "slide"}`;
  if (!may.value.label) return null;
  const send = async (event) => {
    event.preventDefault();
    if (!text.peek().trim() || is_sending.peek()) return;
    is_sending.value = true;
    failure.value = "";
    const words = text.peek().trim();
    if (tried.current.text !== words) tried.current = { key: new_key(), text: words };
    try {
      await send_comment({ key: tried.current.key, cell_id, text: words });
      text.value = "";
      tried.current = {};
      announce(t("Comment stored"));
    } catch (failed) {
      failure.value = t("Not stored yet. {why} Try again.", { why: said(failed.text) });
    } finally {
      is_sending.value = false;
    }
  };
  return html`<form class="comment-form" onSubmit=${send}>
    <label for=${id}>${cell_id === null ? t("Comment on the slide") : t("Comment on the cell")}</label>
    <textarea id=${id} rows="2" maxlength="4000" value=${text.value}
        onInput=${(event) => (text.value = event.currentTarget.value)}></textarea>
    ${failure.value && html`<p class="error" role="alert">${failure.value}</p>`}
    <button class="button small" disabled=${is_sending.value}>${t("Add comment")}</button>
  </form>`;
}
