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
    this.reload();
  }

  /** Returns whether a key of localStorage is one of these changes; null stands for all keys. */
  has_key(key) {
    return key === null || key.startsWith(this.prefix);
  }

  /** Reads again what is stored, since another tab may have changed it. */
  reload() {
    const stored = [];
    try {
      for (let at = 0; at < localStorage.length; at++) {
        const name = localStorage.key(at);
        if (name.startsWith(this.prefix)) stored.push([name, JSON.parse(localStorage.getItem(name))]);
      }
    } catch {
      // a browser that forbids localStorage: what is in memory is all there is
    }
    this.changes = new Map([...stored, ...this.unstored].sort(([one], [other]) => (one < other ? -1 : 1)));
  }

  /** Adds a change, which has a `key`. */
  add(change) {
    const order = `${String(Date.now()).padStart(15, "0")}.${String(this.n_added++).padStart(6, "0")}`;
    const name = `${this.prefix}${order}:${change.key}`;
    this.changes.set(name, change);
    try {
      localStorage.setItem(name, JSON.stringify(change));
    } catch {
      this.unstored.set(name, change);
    }
  }

  /** Returns the waiting changes. */
  all() {
    return [...this.changes.values()];
  }

  /**
   * Replaces each change by what `changed` makes of it, and removes those of which it makes null.
   * @param {(change: object) => object | null} changed Returns the same object for what stays as it is.
   */
  update(changed) {
    for (const [name, before] of this.changes) {
      const after = changed(before);
      if (after === before) continue;
      if (after) this.changes.set(name, after);
      else this.changes.delete(name);
      this.#store(name, after);
    }
  }

  #store(name, change) {
    this.unstored.delete(name);
    try {
      if (change) localStorage.setItem(name, JSON.stringify(change));
      else localStorage.removeItem(name);
    } catch {
      if (change) this.unstored.set(name, change);
    }
  }
}
