// Says whether changes wait to be saved, and why.
import { html, useEffect, useSignal } from "./html.js";
import { announce } from "./notices.js";
import { said, t, visible } from "./texts.js";

/** A quiet word while all is well. */
export function SavingState({ sending }) {
  const n = sending.waiting.value.filter(({ is_held }) => !is_held).length;
  return html`<span class="saving-state">${n ? html`<span class="spinner" aria-hidden="true">
      </span> ${t("Saving: {n}", { n })}` : html`✔ ${t("Saved")}`}</span>`;
}

/** A banner while the network, the server or somebody else keeps changes waiting. */
export function WaitingBanner({ sending }) {
  const trouble = sending.trouble.value;
  const n = sending.waiting.value.length;
  const now = useSignal(Date.now());
  useEffect(() => {
    const timer = setInterval(() => (now.value = Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const is_shown = Boolean(trouble && n);
  useEffect(() => {
    if (is_shown) announce(t("Changes that wait to be saved: {n}", { n }));
  }, [is_shown]);
  if (!is_shown) return null;
  const seconds = Math.max(0, Math.ceil(((sending.retry_at.value ?? now.value) - now.value) / 1000));
  return html`<div class="notice warning banner">
    <p><b>${t("Changes that wait to be saved: {n}", { n })}</b> ${why(trouble)} ${sending.retry_at.value && html`<span
        aria-hidden="true">${t("Next try in {s} s.", { s: seconds })}</span>`}</p>
    <button type="button" class="button" onClick=${() => sending.send_now()}>${t("Try now")}</button>
    ${!trouble.is_passing && html`<button type="button" class="button"
        onClick=${() => confirm(t("Discard the changes that are not saved: {n}?", { n })) && sending.discard()}>${t("Discard them")}</button>`}
  </div>`;
}

function why(trouble) {
  if (trouble.status === 0) return t("The server cannot be reached; the changes are kept in this browser.");
  if (trouble.is_passing) return t("The server does not answer; the changes are kept in this browser.");
  if (trouble.code === "held")
    return t("{who} has the slide now.", { who: visible(trouble.holder ?? t("Somebody else")) });
  return [trouble.text, trouble.next].filter(Boolean).map(said).join(" ");
}
