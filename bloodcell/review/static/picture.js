// The original pixels of a cell, with zoom, panning and a scale bar.
import { html, signal, useComputed, useEffect, useRef, useSignal } from "./html.js";
import { t } from "./texts.js";

const STEPS = [1, 2, 3, 4, 6, 8];
const BARS_UM = [1, 2, 5, 10, 20, 50];
const LONGEST_BAR_PX = 140;
const step = signal(1); // the same for the next cell

/**
 * A picture that + and − zoom, and that is moved by dragging. `um_per_px` is null if the site has not said it. `tell` is
 * told "shown" or "missing".
 */
export function Picture({ url, um_per_px, name, tell = () => {} }) {
  const shift = useSignal({ x: 0, y: 0 });
  const is_missing = useSignal(url === null);
  const is_shown = useSignal(false);
  const frame = useRef(null);
  const scale = useComputed(() => STEPS[step.value]);
  const zoom = (by) => {
    step.value = Math.max(0, Math.min(STEPS.length - 1, step.peek() + by));
    if (STEPS[step.peek()] === 1) shift.value = { x: 0, y: 0 };
  };
  // a picture that has left the page may still arrive, after the one that took its place
  const take = (told, to_change) => ({ currentTarget }) => {
    if (!currentTarget.isConnected) return;
    to_change.value = true;
    tell(told);
  };
  useEffect(() => {
    const on_key = (event) => {
      if (event.target.matches?.("input, textarea, select") || event.ctrlKey || event.metaKey) return;
      if (event.key === "+" || event.key === "=") zoom(1);
      else if (event.key === "-") zoom(-1);
    };
    addEventListener("keydown", on_key);
    return () => removeEventListener("keydown", on_key);
  }, []);
  const on_wheel = (event) => {
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1 : -1);
  };
  const style = {
    transform: `translate(-50%, -50%) translate(${shift.value.x}px, ${shift.value.y}px) scale(${scale.value})`,
  };
  return html`<div class="picture-view">
    <div class="frame" aria-busy=${!is_shown.value && !is_missing.value} ref=${frame} onWheel=${on_wheel} onPointerDown=${(event) => pan(event, shift)}>
      ${
        is_missing.value
          ? html`<p class="missing">${t("The picture is missing or altered in the store.")}</p>`
          : html`<img src=${url} alt=${t("The cell, counted as {name}", { name })} draggable=${false} style=${style}
              onLoad=${take("shown", is_shown)} onError=${take("missing", is_missing)} />`
      }
      ${um_per_px && !is_missing.value && html`<${ScaleBar} px_per_um=${scale.value / um_per_px} />`}
    </div>
    <div class="row">
      <button type="button" class="button" onClick=${() => zoom(-1)} disabled=${step.value === 0}>− <span
          class="unseen">${t("Zoom out")}</span></button>
      <output aria-live="polite">${scale.value}×</output>
      <button type="button" class="button" onClick=${() => zoom(1)} disabled=${step.value === STEPS.length - 1}>+ <span
          class="unseen">${t("Zoom in")}</span></button>
    </div>
  </div>`;
}

function ScaleBar({ px_per_um }) {
  const um = BARS_UM.findLast((length) => length * px_per_um <= LONGEST_BAR_PX) ?? BARS_UM[0];
  return html`<div class="scale-bar" style=${{ width: `${um * px_per_um}px` }}>${um} µm</div>`;
}

function pan(event, shift) {
  const { clientX, clientY, currentTarget, pointerId } = event;
  const { x, y } = shift.peek();
  currentTarget.setPointerCapture(pointerId);
  const listening = new AbortController();
  const moved = (now) => (shift.value = { x: x + now.clientX - clientX, y: y + now.clientY - clientY });
  currentTarget.addEventListener("pointermove", moved, { signal: listening.signal });
  for (const name of ["pointerup", "pointercancel"])
    currentTarget.addEventListener(name, () => listening.abort(), { signal: listening.signal });
}
