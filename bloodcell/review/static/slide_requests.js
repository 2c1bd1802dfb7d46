// Requests of the page of a slide besides labels.
import { request } from "./requests.js";
import { slide, take_answer } from "./state.js";

const url = `/api/slides/${slide.slide_id}`;
let refreshing = null; // the fetch that is under way or about to be

/** Fetches the slide again, soon, and once if asked several times. What cannot be fetched now stays as it is. */
export function refresh_slide() {
  refreshing ??= new Promise((resolve) => setTimeout(resolve, 100))
    .then(() => {
      refreshing = null;
      return request("GET", url);
    })
    .then(take_answer, () => {});
  return refreshing;
}

/** Stores a comment on the slide, or on a cell. */
export async function send_comment(comment) {
  take_answer(await request("POST", `${url}/comments`, comment));
}

/** Asks for the slide, or keeps it. */
export async function hold_slide({ take_over = false } = {}) {
  take_answer(await request("POST", `${url}/lease`, { take_over }));
}

/** Gives the slide back while the page is being closed. */
export function give_slide_back(csrf) {
  fetch(`${url}/lease`, {
    method: "DELETE",
    headers: { "X-CSRF-Token": csrf },
    keepalive: true,
    credentials: "same-origin",
  }).catch(() => {});
}

/** Signs the slide; returns what was signed. */
export async function sign_slide(signature) {
  const answer = await request("POST", `${url}/sign`, signature);
  take_answer(answer);
  return answer.signed;
}

/** Returns what is known of one cell besides the slide's JSON. */
export const fetch_cell = (cell_id) => request("GET", `${url}/cells/${cell_id}`);

/** Returns the address of a cell's original pixels. */
export const image_url = (cell_id) => `/slides/${slide.slide_id}/cells/${cell_id}/image`;
