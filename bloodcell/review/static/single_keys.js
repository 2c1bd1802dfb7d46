// Whether keys of one character act: speech input would press them by accident (WCAG 2.1.4).
import { signal } from "./html.js";

const SWITCH = "bloodcell-desk:single-keys";

/** Whether keys of one character act. */
export const single_keys = signal(stored_switch());

/** Switches the keys of one character on or off, for this browser. */
export function switch_single_keys(is_on) {
  single_keys.value = is_on;
  try {
    localStorage.setItem(SWITCH, is_on ? "on" : "off");
  } catch {
    // a browser that forbids localStorage: the switch lasts as long as the page
  }
}

/**
 * Returns what tinykeys binds for the keys of lines: [binding, line]. A digit is a place on the keyboard, since a French
 * one needs Shift for it.
 */
export function key_bindings(lines) {
  const bindings = (key) => (/\d/.test(key) ? [`[Shift]+Digit${key}`, `Numpad${key}`] : [key]);
  return lines.filter(({ key }) => key).flatMap(({ line, key }) => bindings(key).map((binding) => [binding, line]));
}

function stored_switch() {
  try {
    return localStorage.getItem(SWITCH) !== "off";
  } catch {
    return true;
  }
}
