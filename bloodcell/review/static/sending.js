// Sends changes in order, in batches, until each is acknowledged: never lost, never stored twice, also over a reload.
import { batch, signal } from "./html.js";
import { ChangeStore } from "./change_store.js";
import { new_key } from "./identity.js";
import { RequestFailed, request } from "./requests.js";

const MOST_IN_A_BATCH = 200;
const PAUSES_S = [1, 2, 4, 8, 15, 30];

const without_hold = ({ is_held, ...change }) => change;

/** Changes of one kind on their way to the server. */
export class Sending {
  /**
   * @param {object} options
   * @param {string} options.person Name of the person whose changes these are.
   * @param {string} options.subject What is changed; one queue for each.
   * @param {string} options.url Where the changes are sent.
   * @param {object} [options.extra] Sent with each batch.
   * @param {(answer: object, sent: object[]) => void} options.on_answer Told of each answer, with the changes it is for.
   * @param {() => Promise<void>} [options.on_other_tab] Told when another tab has sent something.
   */
  constructor({ person, subject, url, extra = {}, on_answer, on_other_tab = async () => {} }) {
    Object.assign(this, { url, extra, on_answer, on_other_tab, lock: `bloodcell-desk:${person}:${subject}` });
    this.store = new ChangeStore(person, subject);
    this.waiting = signal(this.store.all());
    this.trouble = signal(null); // the RequestFailed that keeps changes waiting
    this.retry_at = signal(null); // in ms since 1970
    this.most = MOST_IN_A_BATCH;
    this.n_failures = 0;
    this.is_sending = false;
    this.timer = null;
    addEventListener("online", () => this.send_now());
    addEventListener("storage", (event) => this.store.has_key(event.key) && this.#follow_other_tab(event));
    addEventListener("beforeunload", (event) => this.#warn_before_leaving(event));
  }

  /**
   * Adds changes and sends them. Those with `is_held` wait until they are released.
   * @param {object[]} changes
   * @returns {object[]} The changes with their keys.
   */
  add(changes) {
    const keyed = changes.map((change) => ({ key: new_key(), ...change }));
    keyed.forEach((change) => this.store.add(change));
    this.#refresh();
    this.send_now();
    return keyed;
  }

  /** Lets changes be sent that were held back. */
  release() {
    this.store.update((change) => (change.is_held ? without_hold(change) : change));
    this.#refresh();
    this.send_now();
  }

  /** Takes a change out that was not sent. */
  remove(key) {
    this.store.update((change) => (change.key === key ? null : change));
    this.#refresh();
  }

  /** Takes everything out that waits. */
  discard() {
    this.store.update(() => null);
    batch(() => {
      this.trouble.value = null;
      this.#refresh();
    });
  }

  /** Sends what waits, without the pause after a failure. */
  send_now() {
    clearTimeout(this.timer);
    if (!this.is_sending) this.#send_all();
  }

  async #send_all() {
    this.is_sending = true;
    this.retry_at.value = null;
    try {
      // one tab of a person sends at a time; without locks (no secure context) the server still knows each key
      if (navigator.locks) await navigator.locks.request(this.lock, () => this.#send_batches());
      else await this.#send_batches();
      this.n_failures = 0;
      this.trouble.value = null;
    } catch (failure) {
      this.#fail(failure);
    } finally {
      this.is_sending = false;
    }
    if (!this.trouble.peek() && this.#next_batch().length) this.send_now();
  }

  async #send_batches() {
    this.store.reload(); // another tab may have sent what waited
    this.#refresh();
    for (let changes = this.#next_batch(); changes.length; changes = this.#next_batch()) {
      try {
        const sent = changes.map(without_hold);
        this.#acknowledge(changes, await request("POST", this.url, { ...this.extra, changes: sent }));
      } catch (failure) {
        if (![400, 413, 422].includes(failure.status)) throw failure;
        this.#narrow(changes, failure);
      }
      this.n_failures = 0;
      this.trouble.value = null;
    }
    this.most = MOST_IN_A_BATCH;
  }

  /** Returns the oldest changes, up to the second one of a cell: what that one was made on is known after the first. */
  #next_batch() {
    const cells = new Set();
    const next = [];
    for (const change of this.store.all()) {
      if (change.is_held || cells.has(change.cell_id) || next.length === this.most) break;
      cells.add(change.cell_id);
      next.push(change);
    }
    return next;
  }

  #acknowledge(changes, answer) {
    const seen = new Map((answer.cells ?? []).map((cell) => [cell.cell_id, cell.seen]));
    const stored = new Set(answer.outcomes.filter(({ outcome }) => outcome === "stored").map(({ key }) => key));
    const sent = new Map(changes.map((change) => [change.cell_id, change]));
    this.store.update((change) => {
      const earlier = sent.get(change.cell_id);
      if (!earlier) return change;
      if (earlier.key === change.key) return null;
      // a later change of the same person was made on their own earlier one
      const is_based_on_it = stored.has(earlier.key) && seen.has(change.cell_id);
      return is_based_on_it ? { ...change, seen: seen.get(change.cell_id) } : change;
    });
    batch(() => {
      this.#refresh();
      this.on_answer(answer, changes);
    });
  }

  /** Finds the change that the server cannot take, by sending fewer at once, and sets it aside. */
  #narrow(changes, failure) {
    if (changes.length > 1) {
      this.most = Math.ceil(changes.length / 2);
      return;
    }
    const [{ key, cell_id }] = changes;
    this.#acknowledge(changes, { outcomes: [{ key, cell_id, outcome: "refused", text: failure.text }] });
  }

  #fail(failure) {
    if (!(failure instanceof RequestFailed)) throw failure;
    this.trouble.value = failure;
    if (!failure.is_passing) return;
    const pause_s = PAUSES_S[Math.min(this.n_failures++, PAUSES_S.length - 1)];
    this.retry_at.value = Date.now() + 1000 * pause_s;
    this.timer = setTimeout(() => this.send_now(), 1000 * pause_s);
  }

  /** Follows what another tab adds at once, and what it has sent when the result of that is known here, too. */
  async #follow_other_tab(event) {
    if (event.newValue === null) await this.on_other_tab();
    this.store.reload();
    this.#refresh();
  }

  #warn_before_leaving(event) {
    if (this.waiting.peek().every((change) => change.is_held)) return;
    event.preventDefault();
    event.returnValue = true; // Chromium before 119
  }

  #refresh() {
    this.waiting.value = this.store.all();
  }
}
