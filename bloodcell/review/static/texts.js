// Texts in the page's language, and figures as the rest of bloodcell writes them.
import { block, page } from "./page_data.js";

const translations = new Map(Object.entries(block("texts") ?? {}));

const IGNORABLE =
  "\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u3164" +
  "\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}";
const CONTROL = "\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u2028\\u2029\\u{d800}-\\u{dfff}";
const INVISIBLE = new RegExp(`[${CONTROL}${IGNORABLE}]`, "gu");

/**
 * Returns a text in the page's language, with values in place of the names in braces.
 * @param {string} text The English text, such as "Cells: {n}".
 * @param {Record<string, unknown>} [values] Name in braces -> value.
 * @returns {string}
 */
export function t(text, values = {}) {
  return (translations.get(text) ?? text).replace(/\{(\w+)\}/g, (found, name) =>
    name in values ? String(values[name]) : found,
  );
}

// texts with values that come put together, those with more words first: see bloodcell/review/shaped_texts.py
const words_in = (shape) => shape.replace(/\{\w+\}/g, "").length;
const shapes = [...page.shapes]
  .sort((one, other) => words_in(other) - words_in(one))
  .map((shape) => {
    const literal = shape.replace(/[.?*+()[\]|^$\\]/g, "\\$&");
    return [shape, new RegExp(`^${literal.replace(/\{(\w+)\}/g, "(?<$1>.+?)")}$`, "s")];
  });

function shaped(text) {
  if (translations.has(text)) return translations.get(text);
  for (const [shape, pattern] of shapes) {
    const values = pattern.exec(text)?.groups;
    if (values) return t(shape, "role" in values ? { role: t(values.role) } : values);
  }
  return text;
}

/**
 * Returns a text that the server sent, such as a name, a reason or an error, in the page's language.
 * @param {string | null | undefined} text The English text.
 * @returns {string}
 */
export function said(text) {
  if (!text) return "";
  return visible(translations.get(text) ?? text.split("; ").map(shaped).join("; "));
}

/**
 * Returns text from outside in which each invisible character is spelt out, as in \u202e.
 * @param {unknown} text
 * @returns {string}
 */
export function visible(text) {
  return String(text ?? "").replace(INVISIBLE, (found) => {
    const code = found.codePointAt(0);
    return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\U${code.toString(16).padStart(8, "0")}`;
  });
}

/**
 * Returns a figure with a decimal point; a dash where there is none.
 * @param {number | null | undefined} value
 * @param {number} [decimals]
 * @returns {string}
 */
export const number = (value, decimals = 1) => (value === null || value === undefined ? "–" : value.toFixed(decimals));

/**
 * Returns a whole number with commas between thousands.
 * @param {number} n
 * @returns {string}
 */
export const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

/**
 * Returns both ends of an interval: 48.0–63.0; a dash where there is none.
 * @param {number | null} lower
 * @param {number | null} upper
 * @returns {string}
 */
export const interval = (lower, upper) =>
  lower === null || upper === null ? "–" : `${number(lower)}–${number(upper)}`;

/**
 * Returns a confidence in 0..1 in whole per cent, never 100.
 * @param {number} value
 * @returns {string}
 */
export const probability = (value) => (value > 0.99 ? "> 99 %" : `${(100 * value).toFixed(0)} %`);

/**
 * Returns a date and time to the minute, in the time zone of the browser.
 * @param {string | null} iso
 * @returns {string}
 */
export function moment(iso) {
  const at = iso ? new Date(iso) : null;
  if (!at || Number.isNaN(at.getTime())) return visible(iso);
  const two = (value) => String(value).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}
