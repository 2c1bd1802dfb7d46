// Logging in again without leaving the page, after the session has ended.
import { html, useEffect, useRef, useSignal } from "./html.js";
import { go_on, is_logged_out, log_in_again } from "./requests.js";
import { said, t, visible } from "./texts.js";

/** The overlay, while the person is logged out. */
export const LogInOverlay = ({ name }) => is_logged_out.value && html`<${Overlay} name=${name} />`;

function Overlay({ name }) {
  const dialog = useRef(null);
  const password = useSignal("");
  const failure = useSignal("");
  useEffect(() => {
    dialog.current.showModal();
    dialog.current.querySelector("input[type=password]").focus();
    return () => dialog.current?.close();
  }, []);
  const attempt = async (act) => {
    failure.value = "";
    try {
      await act();
    } catch (failed) {
      failure.value = failure_text(failed, name);
    }
    password.value = "";
  };
  const log_in = (event) => {
    event.preventDefault();
    attempt(() => log_in_again(password.peek()));
  };
  return html`<dialog class="log-in" ref=${dialog} aria-labelledby="log-in-title"
      onCancel=${(event) => event.preventDefault()}>
    <h2 id="log-in-title">${t("Log in again")}</h2>
    <p>${t("Your session has ended. Nothing is lost: your changes are kept in this browser and are saved as soon as you are logged in.")}</p>
    <form onSubmit=${log_in}>
      <p><b><bdi>${visible(name)}</bdi></b></p>
      <input hidden autocomplete="username" value=${name} />
      <label class="field">${t("Your password")}<input type="password" required autocomplete="current-password"
          value=${password.value} onInput=${(event) => (password.value = event.currentTarget.value)} /></label>
      ${failure.value && html`<p class="error" role="alert">${failure.value}</p>`}
      <button class="button primary">${t("Log in")}</button>
    </form>
    <p class="quiet">${t("Do you log in without a password?")} <a href="/login" target="_blank"
        rel="noopener">${t("Log in in a new tab")}</a>, ${t("then")}${" "}
      <button type="button" class="button small" onClick=${() => attempt(() => go_on(name))}>${t("go on here")}</button></p>
  </dialog>`;
}

function failure_text({ status, code, text, next }, name) {
  if (code === "wrong_password") return t("The password is wrong.");
  if (code === "somebody_else")
    return t("{other} is logged in now. Log in as {name}.", { other: visible(text), name: visible(name) });
  if (status === 401) return t("You are not logged in yet.");
  if (status === 0) return t("The server cannot be reached. Try again.");
  return [text, next].filter(Boolean).map(said).join(" ");
}
