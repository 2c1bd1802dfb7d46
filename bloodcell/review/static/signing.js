// Signing: what is missing, the reasons that have to be ticked by hand, and the signature.
import { batch, effect, html, signal, useEffect, useRef } from "./html.js";
import { announce } from "./notices.js";
import { sending } from "./labelling.js";
import { go_to_cell } from "./selection.js";
import { refresh_slide, sign_slide } from "./slide_requests.js";
import { cells, is_writable, may, needing, person, result, signing } from "./state.js";
import { said, t, visible } from "./texts.js";

const STATES = {
  final: () => t("final: I have reviewed the slide"),
  amended: () => t("amended: something is added to what was signed"),
  corrected: () => t("corrected: something that was signed was wrong"),
};

const ticked = signal(new Set());
const state = signal("");
const reason = signal("");
const password = signal("");
const failure = signal("");
const signed = signal(null);
const is_sending = signal(false);
let shown_digest = signing.peek().digest;

// what was ticked and chosen was for the result that was shown then
effect(() => {
  const { digest } = signing.value;
  if (digest === shown_digest) return;
  shown_digest = digest;
  batch(() => {
    ticked.value = new Set();
    state.value = password.value = "";
  });
});

/** Moves the focus to the form, or to what is missing. */
export function go_to_signing() {
  const section = document.getElementById("signing");
  section?.scrollIntoView({ block: "nearest" });
  (section?.querySelector("a, input, select, button") ?? section)?.focus();
}

/** The section of the side panel in which the slide is signed. */
export function Signing() {
  const { missing, named, states, needs_reason, needs_password, digest } = signing.value;
  const is_signed = signed.value?.digest === digest; // and nothing has changed since
  const heading = useRef(null);
  useEffect(() => {
    if (signed.value) heading.current?.focus();
  }, [signed.value]);
  return html`<section id="signing" class="signing" tabindex="-1" aria-labelledby="signing-title">
    <h2 id="signing-title" ref=${heading} tabindex="-1">${t("Sign")} <kbd>s</kbd></h2>
    ${is_signed && html`<p class="notice success">✔ ${signed_text(signed.value)} <a
        href="/">${t("Back to the worklist")}</a></p>`}
    ${!missing.length && !is_signed && !states.length && result.value?.signed_by && html`<p
        class="notice success">✔ ${t("Signed by {who}, version {version}", { who: visible(result.value.signed_by), version: result.value.version })}</p>`}
    ${missing.length > 0 && html`<${Missing} missing=${missing} />`}
    ${
      !missing.length &&
      !is_signed &&
      states.length > 0 &&
      may.value.sign &&
      html`<form onSubmit=${sign} autocomplete="off">
      ${named.length > 0 && html`<fieldset>
          <legend>${t("I have seen and considered:")}</legend>${named.map((one) => html`<${Reason} key=${one.name}
          named=${one} />`)}</fieldset>`}
      <fieldset><legend>${t("Sign as")}</legend>
        ${states.map((one) => html`<label class="choice" key=${one}><input type="radio" name="state" value=${one}
            required checked=${state.value === one} onChange=${() => (state.value = one)} />
            <span>${(STATES[one] ?? (() => one))()}</span></label>`)}
      </fieldset>
      ${needs_reason && html`<label class="field">${t("Reason")}<textarea rows="2" required maxlength="1000"
          value=${reason.value} onInput=${(event) => (reason.value = event.currentTarget.value)}></textarea></label>`}
      ${!needs_password && html`<p><a class="button" href=${`/login/oidc/start?again=true&next=${location.pathname}`}>
          ${t("Log in again, then sign within two minutes")}</a></p>`}
      ${needs_password && html`<input hidden autocomplete="username" value=${person.name} /><label
          class="field">${t("Your password")}<input type="password" required autocomplete="current-password"
          value=${password.value} onInput=${(event) => (password.value = event.currentTarget.value)} /></label>`}
      ${failure.value && html`<p class="error" role="alert">${failure.value}</p>`}
      <button class="button primary" disabled=${!is_writable.value || is_sending.value}>${t("Sign the slide")}</button>
    </form>`
    }
    ${!may.value.sign && html`<p class="quiet">${t("You may look at this slide, not sign it.")}</p>`}
  </section>`;
}

function Missing({ missing }) {
  return html`<p>${t("Before this slide can be signed:")}</p>
    <ul class="missing-list">
      ${missing.map(({ what, n, text }) => {
        const cell_id = needing.value.find((id) => cells.get(id).needs.value === what);
        const words = visible(t(text.replace(/: \d+$/, ": {n}"), { n }));
        return html`<li key=${what}>${cell_id === undefined ? words : html`<a href=${`#cell-${cell_id}`}
            onClick=${(event) => jump(event, cell_id)}>${words}</a>`}</li>`;
      })}
    </ul>`;
}

function jump(event, cell_id) {
  event.preventDefault();
  go_to_cell(cell_id);
}

function Reason({ named }) {
  const change = (event) => {
    const changed = new Set(ticked.peek());
    if (event.currentTarget.checked) changed.add(named.name);
    else changed.delete(named.name);
    ticked.value = changed;
  };
  return html`<label class="choice"><input type="checkbox" required checked=${ticked.value.has(named.name)}
      onChange=${change} />
    <span>${said(named.text)} ${named.withholds && html`<span
        class="chip possibly">${t("withholds the result")}</span>`}</span></label>`;
}

const signed_text = ({ version, state }) => t("Signed: version {version}, {state}.", { version, state: t(state) });

async function sign(event) {
  event.preventDefault();
  if (is_sending.peek()) return;
  failure.value = "";
  signed.value = null;
  if (sending.waiting.peek().length) {
    failure.value = t("Changes still wait to be saved: {n}. Sign when they are.", { n: sending.waiting.peek().length });
    return;
  }
  is_sending.value = true;
  const { named, digest, needs_reason } = signing.peek();
  try {
    const names = named.map(({ name }) => name).filter((name) => ticked.peek().has(name));
    const answer = await sign_slide({
      digest,
      state: state.peek(),
      reason: needs_reason ? reason.peek().trim() : null,
      ticked: names,
      password: password.peek(),
    });
    signed.value = { ...answer, digest: signing.peek().digest };
    ticked.value = new Set();
    state.value = reason.value = "";
    announce(signed_text(signed.peek()));
  } catch (failed) {
    if (is_unknown(failed) || failed.status === 409) await refresh_slide();
    failure.value = failure_text(failed, signing.peek().digest !== digest);
  } finally {
    password.value = "";
    is_sending.value = false;
  }
}

/** Whether the slide may be signed all the same: no answer came, or one of a server in trouble. */
const is_unknown = ({ status }) => status === 0 || status >= 500;

function failure_text(failed, has_changed) {
  if (is_unknown(failed))
    return t("The server does not answer: it is not known whether the slide was signed. Look at it, then try again.");
  if (has_changed && failed.status === 409)
    return t("The slide has changed since you looked at it. Look at what is new, then sign again.");
  if (failed.code === "wrong_password") return t("The password is wrong.");
  return [failed.text, failed.next].filter(Boolean).map(said).join(" ");
}
