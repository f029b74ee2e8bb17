// What is wrong now, in words, until it works again.

import { Failed } from "./api.js";

const RETRY_MS = 2000;

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Put words into an element; what stands between backticks is code. */
export function write(element, words) {
  const parts = words.split("`").map((text, at) => {
    if (at % 2 === 0) return text;
    const code = document.createElement("code");
    code.textContent = text;
    return code;
  });
  element.replaceChildren(...parts);
}

export class Banner {
  constructor(element) {
    this._element = element;
    this._said = "";
    this._faults = new Map();
  }

  /** Say what is wrong with a thing; null: nothing is. */
  say(name, message) {
    if (message) this._faults.set(name, message);
    else this._faults.delete(name);
    const all = [...new Set(this._faults.values())].join(" ");
    this._element.hidden = !all;
    if (this._said !== all) write(this._element, (this._said = all));
  }

  /** What `ask` gives, nothing of what is not there; a failure is said until that works again, and gives undefined. */
  async attempt(name, ask) {
    try {
      const found = await ask();
      this.say(name, null);
      return found;
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      if (error.status === 404) return [];
      this.say(name, error.message);
      return undefined;
    }
  }

  /** The same until it works; undefined once it is not `wanted` any more. */
  async insist(name, wanted, ask) {
    while (wanted()) {
      const found = await this.attempt(name, ask);
      if (found !== undefined) return found;
      await pause(RETRY_MS);
    }
    return undefined;
  }
}
