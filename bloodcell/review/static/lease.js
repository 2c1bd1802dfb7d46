// Who has the slide. It is renewed while the page is visible, and given back when the page is left.
import { effect, html } from "./html.js";
import { sending } from "./labelling.js";
import { tell } from "./notices.js";
import { page } from "./page_data.js";
import { give_slide_back, hold_slide } from "./slide_requests.js";
import { lease, may, person } from "./state.js";
import { t, visible } from "./texts.js";

const RENEWED_EVERY_MS = 30_000;

/** Keeps the slide while the page is visible. */
export function keep_slide() {
  const renew = () => {
    if (document.visibilityState === "visible" && may.peek().label && (lease.peek().is_mine || !lease.peek().holder)) hold({});
  };
  renew();
  setInterval(renew, RENEWED_EVERY_MS);
  document.addEventListener("visibilitychange", renew);
  addEventListener("pagehide", () => lease.peek().is_mine && give_slide_back(page.csrf));
  effect(() => {
    const trouble = sending.trouble.value;
    if (trouble?.code === "held") lease.value = { holder: trouble.holder ?? lease.peek().holder, is_mine: false, until: null };
  });
}

async function hold(options) {
  try {
    await hold_slide(options);
    if (sending.waiting.peek().length) sending.send_now();
  } catch (failure) {
    if (failure.code === "held") lease.value = { holder: failure.holder, is_mine: false, until: null };
    else if (!failure.is_passing) tell(visible(failure.text), { kind: "warning" });
  }
}

/** Says who has the slide if it is somebody else. */
export function LeaseBanner() {
  if (!may.value.label) return html`<p class="notice banner">${t("You may look at this slide, not change it.")}</p>`;
  if (lease.value.is_mine) return null;
  const { holder } = lease.value;
  const text = holder && holder !== person.name ? t("{who} has this slide; you cannot change it meanwhile.", { who: visible(holder) }) : t("You do not have this slide any more, so you cannot change it.");
  return html`<div class="notice warning banner" role="status"><p>⚿ ${text}</p>
    <button type="button" class="button" onClick=${() => hold({ take_over: true })}>${t("Take over")}</button></div>`;
}
