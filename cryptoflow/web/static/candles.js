// The candles of one series, as they are known so far. No page, no network.

const LONGEST_GAP = 240;
/** Empty places that a gap gets at most. */

export const HOUR_S = 3600;

export const seconds = (text) => Date.parse(text) / 1000;

export class Candles {
  constructor(windowS) {
    this.windowS = windowS;
    this._byTime = new Map();
    this._times = null;
  }

  /** Take a row of the API; true if it is a new place in time. */
  put(row) {
    const time = seconds(row.window_start);
    const known = this._byTime.has(time);
    this._byTime.set(time, { ...row, time, stored: row.stored ?? true });
    if (!known) this._times = null;
    return !known;
  }

  at(time) {
    return this._byTime.get(time);
  }

  get size() {
    return this._byTime.size;
  }

  get times() {
    this._times ??= [...this._byTime.keys()].sort((a, b) => a - b);
    return this._times;
  }

  get oldest() {
    return this._byTime.get(this.times[0]);
  }

  get newest() {
    return this._byTime.get(this.times[this.times.length - 1]);
  }

  /** Each place on the time axis: a time, and its candle, or none where there is a gap. */
  places() {
    const found = [];
    let expected = null;
    for (const time of this.times) {
      const missing = expected === null ? 0 : Math.round((time - expected) / this.windowS);
      for (let i = 0; i < Math.min(missing, LONGEST_GAP); i += 1) found.push({ time: expected + i * this.windowS });
      found.push({ time, candle: this._byTime.get(time) });
      expected = time + this.windowS;
    }
    return found;
  }
}

/** Verdicts by hour. */
export class Hours {
  constructor() {
    this._byTime = new Map();
  }

  put(row) {
    const time = seconds(row.hour);
    const before = this._byTime.get(time);
    this._byTime.set(time, { ...row, time });
    return ["repaired_at", "verdict", "reason"].some((name) => before?.[name] !== row[name]);
  }

  at(time) {
    return this._byTime.get(Math.floor(time / HOUR_S) * HOUR_S);
  }

  /** The verdict of a candle: of several hours the worst; none as long as one of them has none. */
  of(time, windowS) {
    let worst = null;
    for (let hour = Math.floor(time / HOUR_S) * HOUR_S; hour < time + windowS; hour += HOUR_S) {
      const found = this._byTime.get(hour);
      if (!found) return worst?.verdict === "suspect" ? worst : null;
      if (!worst || RANK[found.verdict] > RANK[worst.verdict]) worst = found;
    }
    return worst;
  }

  newest(count) {
    return [...this._byTime.values()]
      .sort((a, b) => b.time - a.time)
      .slice(0, count)
      .reverse();
  }
}

const RANK = { quiet: 0, complete: 1, repaired: 2, suspect: 3 };

/** How far `price` is from `base`, in basis points. */
export function basisPoints(price, base) {
  return (price / base - 1) * 10000;
}
