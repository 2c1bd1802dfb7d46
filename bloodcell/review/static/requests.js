// Requests to the server of the desk. A request that finds the person logged out waits until they are logged in again.
import { signal } from "./html.js";
import { page } from "./page_data.js";

/** A request that the server did not carry out. `status` is 0 if no answer came. */
export class RequestFailed extends Error {
  constructor(status, { code = "away", text = "", next = null, holder = null } = {}) {
    super(text || code);
    Object.assign(this, { status, code, text, next, holder });
  }

  /** Whether the same request may succeed later. */
  get is_passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Whether the session has ended; requests wait while it has. */
export const is_logged_out = signal(false);
let waiting = Promise.resolve();
let go_on_waiting = () => {};

async function send_once(method, url, body) {
  let response;
  try {
    response = await fetch(url, {
      method,
      headers: {
        Accept: "application/json",
        ...(method !== "GET" && { "Content-Type": "application/json", "X-CSRF-Token": page.csrf }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    throw new RequestFailed(0);
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok)
    throw new RequestFailed(response.status, { ...answer?.error, holder: answer?.error?.holder ?? answer?.holder });
  if (answer === null && response.status !== 204) throw new RequestFailed(502);
  return answer;
}

/**
 * Returns the server's answer to a request.
 * @param {"GET" | "POST" | "DELETE"} method
 * @param {string} url
 * @param {object} [body]
 * @throws {RequestFailed} If the server refuses it or does not answer.
 */
export async function request(method, url, body) {
  for (;;) {
    try {
      return await send_once(method, url, body);
    } catch (failure) {
      if (failure.status !== 401) throw failure;
      await until_logged_in();
    }
  }
}

function until_logged_in() {
  if (!is_logged_out.peek()) {
    waiting = new Promise((resolve) => (go_on_waiting = resolve));
    is_logged_out.value = true;
  }
  return waiting;
}

/**
 * Logs the same person in again; requests that waited are then sent.
 * @param {string} password
 * @throws {RequestFailed} If the password is wrong or the server does not answer.
 */
export async function log_in_again(password) {
  take_session(await send_once("POST", "/api/session", { name: page.person, password }));
}

/**
 * Sends the requests that waited, after the same person has logged in in another tab.
 * @param {string} name The person whose page this is.
 * @throws {RequestFailed} If nobody is logged in, or somebody else is.
 */
export async function go_on(name) {
  const session = await send_once("GET", "/api/session");
  if (session.name !== name) throw new RequestFailed(403, { code: "somebody_else", text: session.name });
  take_session(session);
}

function take_session({ csrf }) {
  page.csrf = csrf;
  is_logged_out.value = false;
  go_on_waiting();
}
