// Buttons for all lines, and the keys of those that have one: for pages that show one cell at a time.
import { html } from "./html.js";
import { key_bindings, single_keys } from "./single_keys.js";
import { said, t } from "./texts.js";
import { tinykeys } from "./vendor/tinykeys.js";

/** A button for each line with a key, and a list of the others. */
export function LineButtons({ lines, chosen, choose }) {
  const choose_other = (event) => {
    const line = event.currentTarget.value;
    event.currentTarget.value = "";
    if (line) choose(line);
  };
  return html`<div class="keys" role="group" aria-label=${t("Label as")}>
    ${lines
      .filter(({ key }) => key)
      .map(
        ({ line, name, key }) =>
          html`<button type="button" class="button" key=${line}
              aria-pressed=${chosen === undefined ? undefined : chosen === line} onClick=${() => choose(line)}>
              <kbd>${key}</kbd> ${said(name)}</button>`,
      )}
    <select aria-label=${t("Label as another line")} onChange=${choose_other}>
      <option value="">${t("another …")}</option>
      ${lines.filter(({ key }) => !key).map(({ line, name }) => html`<option value=${line}
          key=${line}>${said(name)}</option>`)}
    </select>
  </div>`;
}

/** Has the keys of the lines, and others, act on the page. `acts`: key -> function. */
export function listen_to_line_keys(lines, choose, acts) {
  const of_lines = key_bindings(lines).map(([key, line]) => [key, () => choose(line)]);
  const guarded = ([key, act]) => [
    key,
    (event) => {
      if (document.querySelector("dialog[open]") || (!single_keys.peek() && !key.startsWith("$mod"))) return;
      event.preventDefault();
      act();
    },
  ];
  tinykeys(window, Object.fromEntries([...of_lines, ...Object.entries(acts)].map(guarded)));
}
