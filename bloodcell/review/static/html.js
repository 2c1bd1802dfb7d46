// What components are written with: `html` tagged templates, hooks and signals.
import htm from "./vendor/htm.js";
import { h } from "./vendor/preact.js";

export { render } from "./vendor/preact.js";
export { useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact-hooks.js";
export { batch, computed, effect, signal, useComputed, useSignal } from "./vendor/signals.js";

/** Turns a tagged template into virtual nodes. */
export const html = htm.bind(h);
