// Numbers and times as they are read. Times are in s since the epoch.

const DASH = "–";

/** How many decimals a price of that size needs. */
export function decimals(price) {
  if (!price) return 2;
  return Math.min(10, Math.max(2, 5 - Math.ceil(Math.log10(Math.abs(price)))));
}

export function priceText(price, digits = decimals(price)) {
  return price == null
    ? DASH
    : price.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Four significant digits at most, and a letter for thousands and millions. */
export function amountText(amount) {
  if (amount == null) return DASH;
  return amount.toLocaleString("en-US", {
    notation: amount >= 10000 ? "compact" : "standard",
    maximumSignificantDigits: 4,
  });
}

/** How many in a second. */
export function rateText(rate) {
  if (rate == null) return DASH;
  return rate < 100 ? `${Math.round(rate * 10) / 10}` : amountText(Math.round(rate));
}

export function countText(count) {
  return count == null ? DASH : Math.round(count).toLocaleString("en-US");
}

export function signedText(value, digits = 2) {
  return `${value > 0 ? "+" : value < 0 ? "−" : "±"}${Math.abs(value).toFixed(digits)}`;
}

/** How long ago, in its largest unit. */
export function agoText(seconds) {
  const s = Math.max(0, seconds);
  if (s < 2) return "now";
  if (s < 120) return `${Math.round(s)} s ago`;
  if (s < 7200) return `${Math.round(s / 60)} min ago`;
  if (s < 172800) return `${Math.round(s / 3600)} h ago`;
  return `${Math.round(s / 86400)} days ago`;
}

export function windowText(seconds) {
  for (const [unit, size] of [
    ["d", 86400],
    ["h", 3600],
    ["m", 60],
  ]) {
    if (seconds % size === 0) return `${seconds / size}${unit}`;
  }
  return `${seconds}s`;
}

/** Times in UTC or in this machine's zone. */
export class Clock {
  constructor(local) {
    this.local = local;
    const timeZone = local ? undefined : "UTC";
    const make = (options) => new Intl.DateTimeFormat("en-GB", { timeZone, ...options });
    this._time = make({ hour: "2-digit", minute: "2-digit" });
    this._day = make({ day: "numeric", month: "short" });
    this._month = make({ month: "short", year: "numeric" });
    this._year = make({ year: "numeric" });
    this._full = make({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  }

  get zone() {
    return this.local ? "local" : "UTC";
  }

  time(s) {
    return this._time.format(s * 1000);
  }

  /** Of the day, 0 to 23. */
  hour(s) {
    return Number(this.time(s).slice(0, 2));
  }

  day(s) {
    return this._day.format(s * 1000);
  }

  month(s) {
    return this._month.format(s * 1000);
  }

  full(s) {
    const year = this._year.format(s * 1000);
    return `${this._full.format(s * 1000)}${year === this._year.format() ? "" : ` ${year}`} ${this.zone}`;
  }

  /** A label of the time axis: the date where a day begins here, else the time. */
  tick(s, byDay) {
    const time = this.time(s);
    return time === "00:00" || byDay ? this.day(s) : time;
  }
}
