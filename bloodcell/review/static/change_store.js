// Changes that the server has not acknowledged yet, kept in localStorage: each under a key of its own, so that two tabs
// never overwrite what the other has added.

const PREFIX = "bloodcell-desk";

/** The waiting changes of one person on one thing, oldest first. */
export class ChangeStore {
  /**
   * @param {string} person Name of the person.
   * @param {string} subject What is changed, such as "labels:12".
   */
  constructor(person, subject) {
    this.prefix = `${PREFIX}:${encodeURIComponent(person)}:${subject}:`;
    this.unstored = new Map(); // what localStorage has no room for, or is not allowed to keep
    this.n_added = 0;
  }

  /** Returns whether a key of localStorage is one of these changes. */
  has_key(key) {
    return key === null || key.startsWith(this.prefix);
  }

  /** Adds a change, which has a `key`. */
  add(change) {
    const order = `${String(Date.now()).padStart(15, "0")}.${String(this.n_added++).padStart(6, "0")}`;
    this.#write(`${this.prefix}${order}:${change.key}`, change);
  }

  /** Returns the waiting changes. */
  all() {
    return this.#entries().map(([, change]) => change);
  }

  /** Replaces a change by what `change_of` makes of it; null removes it. */
  update(key, change_of) {
    for (const [name, change] of this.#entries()) {
      if (change.key !== key) continue;
      const changed = change_of(change);
      if (changed) this.#write(name, changed);
      else this.#remove(name);
    }
  }

  #entries() {
    const entries = [...this.unstored];
    try {
      for (let at = 0; at < localStorage.length; at++) {
        const name = localStorage.key(at);
        if (name.startsWith(this.prefix)) entries.push([name, JSON.parse(localStorage.getItem(name))]);
      }
    } catch {
      // a browser that forbids localStorage: what is in memory is all there is
    }
    return entries.sort(([one], [other]) => (one < other ? -1 : 1));
  }

  #write(name, change) {
    try {
      localStorage.setItem(name, JSON.stringify(change));
      this.unstored.delete(name);
    } catch {
      this.unstored.set(name, change);
    }
  }

  #remove(name) {
    this.unstored.delete(name);
    try {
      localStorage.removeItem(name);
    } catch {
      // as above
    }
  }
}
