// Who has the slide. It is renewed while the page is visible, and given back when the page is left.
import { effect, html } from "./html.js";
import { sending } from "./labelling.js";
import { tell } from "./notices.js";
import { page } from "./page_data.js";
import { give_slide_back, hold_slide } from "./slide_requests.js";
import { is_lease_answered, is_writable, lease, may, person, slide } from "./state.js";
import { said, t, visible } from "./texts.js";

const RENEWED_EVERY_MS = 30_000;
const RENEWED_AGAIN_MS = 2_000; // what the page before a reload gives back may arrive late
const LEFT = `bloodcell-desk:left:${slide.slide_id}`;

/** Keeps the slide while the page is visible. */
export function keep_slide() {
  const renew = () => {
    if (document.visibilityState === "visible" && may.peek().label && (lease.peek().is_mine || !lease.peek().holder))
      hold({});
  };
  const renew_soon = () => [0, RENEWED_AGAIN_MS].forEach((pause_ms) => setTimeout(renew, pause_ms));
  renew_soon();
  setInterval(renew, RENEWED_EVERY_MS);
  document.addEventListener("visibilitychange", renew);
  addEventListener("pagehide", leave);
  addEventListener("storage", ({ key, newValue }) => key === LEFT && newValue && renew_soon());
  effect(() => {
    const trouble = sending.trouble.value;
    if (trouble?.code !== "held") return;
    lease.value = { holder: trouble.holder ?? lease.peek().holder, is_mine: false, until: null };
    is_lease_answered.value = true;
  });
}

/** Gives the slide back. Other tabs with this slide then ask for it again. */
function leave() {
  if (!lease.peek().is_mine) return;
  give_slide_back(page.csrf);
  try {
    localStorage.setItem(LEFT, String(Date.now()));
  } catch {
    // the other tabs ask again when they renew it
  }
}

async function hold(options) {
  try {
    await hold_slide(options);
    if (sending.waiting.peek().length) sending.send_now();
  } catch (failure) {
    if (failure.code === "held") lease.value = { holder: failure.holder, is_mine: false, until: null };
    else if (!failure.is_passing) tell(said(failure.text), { kind: "warning" });
  } finally {
    is_lease_answered.value = true;
  }
}

/** Says who has the slide if it is somebody else. */
export function LeaseBanner() {
  if (!may.value.label) return html`<p class="notice banner">${t("You may look at this slide, not change it.")}</p>`;
  if (is_writable.value) return null;
  const { holder } = lease.value;
  const text =
    holder && holder.toLowerCase() !== person.name.toLowerCase() // the same person may have logged in as AMartin
      ? t("{who} has this slide; you cannot change it meanwhile.", { who: visible(holder) })
      : t("You do not have this slide any more, so you cannot change it.");
  return html`<div class="notice warning banner" role="status"><p>${text}</p>
    <button type="button" class="button" onClick=${() => hold({ take_over: true })}>${t("Take over")}</button></div>`;
}
