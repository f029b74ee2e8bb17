// What is loaded of what is chosen: the candles of each market, and the verdicts of the first. No page.

import { get } from "./api.js";
import { Candles, HOUR_S, Hours, seconds } from "./candles.js";

const PAGE = 720;
/** Candles asked for at once. */
const HOURS_OF_A_PAGE = 5000;

const iso = (time) => new Date(time * 1000).toISOString();
const idOf = ({ market, pair }) => ({ market, pair });

export class Loaded {
  /** `banner` says what can't be loaded. */
  constructor({ market, pair, windowS, over }, banner) {
    this.windowS = windowS;
    this.series = [{ market, pair }, ...over].map((each) => ({ ...idOf(each), candles: new Candles(windowS) }));
    this.hours = new Hours();
    this.loading = true;
    this.exhausted = false;
    /** Whether there is nothing older. */
    this.left = false;
    this._banner = banner;
  }

  get base() {
    return this.series[0];
  }

  get others() {
    return this.series.slice(1);
  }

  /** Nobody wants it any more. */
  leave() {
    this.left = true;
  }

  /** The series that a row of the API is of. */
  seriesOf({ market, fromcoin, tocurrency }) {
    return this.series.find((each) => each.market === market && each.pair === `${fromcoin}-${tocurrency}`);
  }

  hourOf(candle) {
    return this.hours.of(candle.time, this.windowS);
  }

  /** Load the newest page; false if it was left meanwhile. */
  async begin() {
    const pages = await this._pages("candles");
    const hours = await this._insist("hours", () => this._hours({ limit: 1000 }));
    return this._take(pages, hours);
  }

  /** Load the page before; false if there is none, or one is being loaded. */
  async older() {
    const oldest = this.base.candles.oldest;
    if (this.loading || this.exhausted || !oldest) return false;
    this.loading = true;
    const before = { to: iso(oldest.time) };
    const pages = await this._pages("older", before);
    const first = pages[0]?.[0];
    const span = first && { from: first.window_start, limit: HOURS_OF_A_PAGE, ...before };
    return this._take(pages, span ? await this._insist("older", () => this._hours(span)) : []);
  }

  /** Load an hour's candles anew: it was repaired. False if it was left meanwhile. */
  async again(hour) {
    const rows = await this._banner.attempt("candles", () =>
      this._candles(this.base, { from: iso(hour), to: iso(hour + HOUR_S) }),
    );
    if (this.left || !rows) return false;
    rows.forEach((row) => this.base.candles.put(row));
    return true;
  }

  _take(pages, hours) {
    if (this.left) return false;
    // What came live meanwhile is newer than what was asked for.
    this.series.forEach(({ candles }, at) =>
      pages[at].filter((row) => !candles.at(seconds(row.window_start))).forEach((row) => candles.put(row)),
    );
    hours.forEach((row) => this.hours.put(row));
    this.exhausted = pages[0].length < PAGE;
    this.loading = false;
    return true;
  }

  _pages(name, span = {}) {
    return Promise.all(this.series.map((each) => this._insist(name, () => this._candles(each, { limit: PAGE, ...span }))));
  }

  _candles(series, span) {
    return get("candles", { ...idOf(series), window: this.windowS, ...span });
  }

  _hours(span) {
    return get("hours", { ...idOf(this.base), ...span });
  }

  _insist(name, ask) {
    return this._banner.insist(name, () => !this.left, ask);
  }
}
