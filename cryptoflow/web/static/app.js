// The page: what is chosen, what is loaded, and what happens live.

import { Failed, get, watch } from "./api.js";
import { Candles, Hours, basisPoints, seconds } from "./candles.js";
import { Chart, OVER_COLOURS } from "./chart.js";
import { Clock, decimals, priceText, signedText } from "./format.js";
import { HealthStrip } from "./health.js";
import { listenToKeys } from "./keys.js";
import { nameOf, showPickers } from "./pickers.js";
import { candleFacts, showFacts, showHours, showRows, verdictText } from "./tables.js";

const PAGE = 720;
/** Candles asked for at once. */
const HEALTH_EVERY_MS = 2000;
const RETRY_MS = 2000;
const DAY_S = 86400;
const SPOKEN_EVERY_MS = 15000;
const NO_LIBRARY =
  "The chart's library is missing: `make setup`, or `pip install lwcharts`, brings it; then load this page again.";
const NO_CANDLE =
  "No candle yet: `cryptoflow run` starts a feed and fills the tables. This page looks again by itself.";

const $ = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const text = (value) => `${value}`;

class Page {
  constructor() {
    this.clock = new Clock(localStorage.getItem("zone") === "local");
    this.known = [];
    this.chosen = null;
    this.turn = 0;
    this.faults = new Map();
    this.dirty = new Map();
    this.health = new HealthStrip($("health"));
    this.library = globalThis.LightweightCharts;
    if (this.library) this.makeChart();
    else this.say("library", NO_LIBRARY);
    this.wire();
    this.style();
  }

  makeChart() {
    this.chart = new Chart(this.library, $("chart"), {
      onNeed: () => this.loadOlder(),
      onHover: (time) => this.hover(time),
      onRange: (atEnd) => {
        $("latest").hidden = atEnd;
      },
    });
  }

  wire() {
    $("market").addEventListener("change", () => this.chooseMarket($("market").value));
    $("pair").addEventListener("change", () => this.choose({ ...this.chosen, pair: $("pair").value, over: [] }));
    $("zone").addEventListener("click", () => this.toggleZone());
    $("theme").addEventListener("click", () => this.nextTheme());
    $("help-open").addEventListener("click", () => $("help").showModal());
    $("latest").addEventListener("click", () => this.chart.toNewest());
    $("pickers").addEventListener("submit", (event) => event.preventDefault());
    addEventListener("hashchange", () => this.fromAddress());
    document.addEventListener("click", (event) => {
      if (!$("compare").contains(event.target)) $("compare").open = false;
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.style());
    // A page that nobody sees needs no connection; browsers allow few to one server.
    document.addEventListener("visibilitychange", () =>
      document.hidden ? this.unwatch() : this.chosen && this.load(true),
    );
    listenToKeys(this, $("chart"));
  }

  // What is chosen.

  async start() {
    this.pollHealth();
    this.pollRows();
    await this.loadPairs();
    this.fromAddress();
    setInterval(() => this.loadPairs().then(() => this.showPickers()), 30000);
  }

  async loadPairs() {
    for (;;) {
      const pairs = await this.attempt("pairs", () => get("pairs"));
      if (pairs?.length) {
        this.known = pairs;
        $("empty").hidden = true;
        return;
      }
      $("empty").hidden = false;
      $("empty").textContent = NO_CANDLE;
      await pause(RETRY_MS);
    }
  }

  entry({ market, pair }) {
    return this.known.find((each) => each.market === market && each.pair === pair);
  }

  /** #Coinbase/BTC-USD/60?with=Kraken/BTC-USD */
  fromAddress() {
    const [path, query] = decodeURIComponent(location.hash.slice(1)).split("?");
    const [market, pair, windowS] = path.split("/");
    const wanted = this.entry({ market, pair }) ?? this.known.find((each) => each.pair === "BTC-USD") ?? this.known[0];
    const over = (new URLSearchParams(query).get("with") ?? "")
      .split(",")
      .filter(Boolean)
      .map((name) => this.known.find((each) => nameOf(each) === name))
      .filter(Boolean);
    this.choose({ market: wanted.market, pair: wanted.pair, windowS: Number(windowS) || 0, over }, true);
  }

  choose(wanted, replace = false) {
    const windows = this.entry(wanted).windows.map((each) => each.window_seconds);
    const windowS = windows.includes(wanted.windowS) ? wanted.windowS : windows.includes(60) ? 60 : windows[0];
    this.chosen = { market: wanted.market, pair: wanted.pair, windowS, over: wanted.over ?? [] };
    const over = this.chosen.over.map(nameOf).join(",");
    const hash = `#${nameOf(this.chosen)}/${windowS}${over ? `?with=${over}` : ""}`;
    history[replace ? "replaceState" : "pushState"](null, "", hash);
    this.showPickers();
    this.load();
  }

  chooseMarket(market) {
    const pairs = this.known.filter((each) => each.market === market).map((each) => each.pair);
    const pair = pairs.includes(this.chosen.pair) ? this.chosen.pair : pairs[0];
    this.choose({ ...this.chosen, market, pair, over: [] });
  }

  chooseWindow(windowS) {
    if (this.entry(this.chosen).windows.some((each) => each.window_seconds === windowS))
      this.choose({ ...this.chosen, windowS });
  }

  stepPair(step) {
    const at = this.known.findIndex((each) => nameOf(each) === nameOf(this.chosen));
    const next = this.known[(at + step + this.known.length) % this.known.length];
    this.choose({ ...this.chosen, market: next.market, pair: next.pair, over: [] });
  }

  get windows() {
    return this.chosen ? this.entry(this.chosen).windows.map((each) => each.window_seconds) : [];
  }

  showPickers() {
    showPickers(this.known, this.chosen, (wanted) => this.choose(wanted));
  }

  // What is loaded.

  /** What `ask` gives; a failure stands in the banner until that works again, and gives undefined. */
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

  async insist(name, turn, ask) {
    while (turn === this.turn) {
      const found = await this.attempt(name, ask);
      if (found !== undefined) return found;
      await pause(RETRY_MS);
    }
    return undefined;
  }

  say(name, message) {
    if (message) this.faults.set(name, message);
    else this.faults.delete(name);
    const all = [...new Set(this.faults.values())];
    $("banner").hidden = !all.length;
    if ($("banner").textContent !== all.join(" ")) $("banner").textContent = all.join(" ");
  }

  async load(keep = false) {
    const turn = (this.turn += 1);
    const { windowS, over } = this.chosen;
    this.loading = true;
    const series = [this.chosen, ...over].map((each) => ({
      market: each.market,
      pair: each.pair,
      candles: new Candles(windowS),
    }));
    const hours = new Hours();
    this.incoming = { series, hours };
    this.unwatch();
    this.rewatch();
    const rows = await Promise.all(series.map((each) => this.insist("candles", turn, () => this.page(each, windowS))));
    const known = await this.insist("hours", turn, () => this.hoursOf(this.chosen));
    if (turn !== this.turn || rows.some((each) => !each) || !known) return;
    // What came live meanwhile is newer than what was asked for.
    series.forEach((each, at) =>
      rows[at].filter((row) => !each.candles.at(seconds(row.window_start))).forEach((row) => each.candles.put(row)),
    );
    known.forEach((row) => hours.put(row));
    Object.assign(this, { series, hours, loading: false, exhausted: rows[0].length < PAGE });
    this.drawAll(keep);
    this.showVerdicts();
  }

  page({ market, pair }, windowS, before) {
    const to = before ? { to: new Date(before * 1000).toISOString() } : {};
    return get("candles", { market, pair, window: windowS, limit: PAGE, ...to });
  }

  hoursOf({ market, pair }, span = {}) {
    return get("hours", { market, pair, limit: 1000, ...span });
  }

  async loadOlder() {
    const turn = this.turn;
    const oldest = this.series?.[0].candles.oldest;
    if (this.loading || this.exhausted || !oldest) return;
    this.loading = true;
    const pages = await Promise.all(
      this.series.map((each) => this.insist("older", turn, () => this.page(each, this.chosen.windowS, oldest.time))),
    );
    const first = pages[0]?.[0];
    const span = first && { from: first.window_start, to: new Date(oldest.time * 1000).toISOString() };
    const known = first
      ? await this.insist("older", turn, () => this.hoursOf(this.chosen, { ...span, limit: 5000 }))
      : [];
    if (turn !== this.turn) return;
    this.series.forEach((each, at) =>
      pages[at]?.forEach((row) => each.candles.at(seconds(row.window_start)) ?? each.candles.put(row)),
    );
    known?.forEach((row) => this.hours.put(row));
    this.exhausted = pages[0].length < PAGE;
    this.loading = false;
    this.drawAll(true);
  }

  /** Load an hour's candles anew: it was repaired. */
  async loadHour(hour) {
    const turn = this.turn;
    const span = { from: new Date(hour * 1000).toISOString(), to: new Date((hour + 3600) * 1000).toISOString() };
    const rows = await this.attempt("candles", () =>
      get("candles", { ...idOf(this.chosen), window: this.chosen.windowS, ...span }),
    );
    if (turn !== this.turn || !rows) return;
    rows.forEach((row) => this.series[0].candles.put(row));
    this.drawAll(true);
  }

  drawAll(keep) {
    const [base, ...over] = this.series;
    $("empty").hidden = base.candles.size > 0;
    $("empty").textContent = "No candle of this pair yet.";
    if (!this.chart || !base.candles.size) return;
    const begun = performance.now();
    this.chart.draw(base.candles, this.hours, keep);
    this.chart.overlay(
      over.map((each) => [nameOf(each), each.candles]),
      base.candles,
    );
    performance.measure("draw", { start: begun, detail: base.candles.size });
    document.body.dataset.drawn = text(base.candles.size);
    this.showNewest();
  }

  // What happens live.

  unwatch() {
    this.stop?.();
    this.stop = null;
  }

  rewatch() {
    if (this.stop || document.hidden || !this.incoming) return;
    const { series } = this.incoming;
    this.stop = watch(series.map(idOf), this.chosen.windowS, {
      candle: (row) => this.onCandle(row),
      hour: (row) => this.onHour(row),
      reset: () => this.load(true),
      state: (state) => this.showState(state),
    });
  }

  onCandle(row) {
    const found = this.incoming.series.find(
      ({ market, pair }) => market === row.market && pair === `${row.fromcoin}-${row.tocurrency}`,
    );
    if (!found) return;
    const newest = found.candles.newest;
    const time = seconds(row.window_start);
    const isNew = found.candles.put(row);
    if (this.loading || !this.series) return;
    // Where a place in the middle, or a gap, comes up, the whole is drawn anew.
    this.redraw ||= isNew && time !== newest?.time + this.chosen.windowS;
    this.dirty.set(`${nameOf(found)} ${time}`, { found, time });
    this.frame ??= requestAnimationFrame(() => this.drawDirty());
  }

  drawDirty() {
    this.frame = null;
    const dirty = [...this.dirty.values()].sort((a, b) => a.time - b.time);
    this.dirty.clear();
    const [base, ...over] = this.series;
    if (this.redraw) {
      this.redraw = false;
      this.drawAll(document.body.dataset.drawn > 0);
      return;
    }
    for (const { found, time } of dirty) {
      if (found === base) this.chart?.update(base.candles.at(time));
      for (const other of found === base ? over : [found]) {
        const candle = other.candles.at(time);
        if (candle) this.chart?.overlayUpdate(nameOf(other), candle, base.candles);
      }
    }
    this.showNewest();
  }

  onHour(row) {
    if (row.market !== this.chosen.market || `${row.fromcoin}-${row.tocurrency}` !== this.chosen.pair) return;
    if (!this.incoming.hours.put(row) || this.loading) return;
    this.chart?.judge();
    this.showVerdicts();
    this.loadHour(seconds(row.hour));
  }

  // What is said.

  showNewest() {
    const [base, ...over] = this.series;
    const newest = base.candles.newest;
    if (!newest) return;
    const digits = decimals(newest.close);
    const price = $("price");
    const priceIs = priceText(newest.close, digits);
    if (price.textContent !== priceIs) {
      price.dataset.moved = newest.close >= (this.lastClose ?? newest.close) ? "up" : "down";
      price.textContent = priceIs;
      this.lastClose = newest.close;
    }
    const dayAgo = base.candles.times.find((time) => time >= newest.time - DAY_S);
    const change = (newest.close / base.candles.at(dayAgo).open - 1) * 100;
    const hours = Math.round((newest.time + this.chosen.windowS - dayAgo) / 3600);
    $("change").textContent = `${signedText(change)} %${hours ? ` in ${hours} h` : ""}`;
    $("change").className = `change ${change >= 0 ? "up" : "down"}`;
    price.dataset.trades = newest.trades;
    price.dataset.time = newest.time;
    price.dataset.stored = newest.stored;
    if (this.hovered == null) this.showLegend(newest);
    this.showSpreads(base, over, newest);
    this.speak(newest, digits);
  }

  showLegend(candle) {
    showFacts(
      $("legend"),
      candleFacts(candle, this.hours.of(candle.time, this.chosen.windowS), this.clock, decimals(candle.close)),
    );
  }

  showSpreads(base, over, newest) {
    $("spread-card").hidden = !over.length;
    $("spreads").replaceChildren(
      ...over.map((each, at) => {
        const item = document.createElement("li");
        const other = each.candles.newest;
        const value = other ? `${signedText(basisPoints(other.close, newest.close), 1)} bp` : "–";
        item.innerHTML = `<i class="line" style="--line-colour: var(${OVER_COLOURS[at % OVER_COLOURS.length]})"></i><span></span><b></b>`;
        item.querySelector("span").textContent = `${each.market} ${each.pair}`;
        item.querySelector("b").textContent = value;
        return item;
      }),
    );
  }

  speak(candle, digits) {
    const now = Date.now();
    if (now - (this.spoken ?? 0) < SPOKEN_EVERY_MS) return;
    this.spoken = now;
    const verdict = candle.stored ? verdictText(this.hours.of(candle.time, this.chosen.windowS)) : "forming";
    $("spoken").textContent =
      `${this.chosen.pair} on ${this.chosen.market}: ${priceText(candle.close, digits)}, candle of ${this.clock.time(candle.time)} ${this.clock.zone}, ${candle.trades} trades, ${verdict}.`;
  }

  showVerdicts() {
    showHours($("hours"), $("hours-note"), this.hours, this.clock, (time) => this.goTo(time));
  }

  async goTo(time) {
    if (!this.chart) return;
    const turn = this.turn;
    while (turn === this.turn && !this.chart.show(time) && !this.exhausted) {
      if (this.loading) await pause(50);
      else await this.loadOlder();
    }
    $("chart").focus();
    const candle = this.series[0].candles.times.find((each) => each >= time);
    if (candle !== undefined) this.showLegend(this.series[0].candles.at(candle));
  }

  hover(time) {
    this.hovered = time;
    const candle = time == null ? this.series?.[0].candles.newest : this.series?.[0].candles.at(time);
    if (candle) this.showLegend(candle);
    else if (this.series && time != null) {
      const hour = this.hours.of(time, this.chosen.windowS);
      showFacts($("legend"), [
        ["Begins", this.clock.full(time), "time"],
        ["Verdict", `no candle; ${verdictText(hour)}`, `unnamed verdict ${hour?.verdict ?? "open"}`],
      ]);
    }
  }

  showState(state) {
    $("state").dataset.state = state;
    $("state-text").textContent = state === "live" ? "live" : "reconnecting";
  }

  async pollHealth() {
    for (;;) {
      if (!document.hidden) {
        const health = await this.attempt("health", () => get("health"));
        if (health) {
          this.health.show(health);
          this.say("kafka", health.kafka && `Live trades are away. ${health.kafka}`);
          this.say("cassandra", health.cassandra);
        }
      }
      await pause(HEALTH_EVERY_MS);
    }
  }

  async pollRows() {
    for (;;) {
      if (!document.hidden) {
        const rows = await this.attempt("rows", () => get("windows", { limit: 40 }));
        if (rows) {
          this.rows = rows;
          showRows($("rows"), rows, this.clock);
        }
      }
      await pause(HEALTH_EVERY_MS);
    }
  }

  // How it looks.

  style() {
    paint();
    const theme = document.documentElement.dataset.theme;
    $("theme").textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
    $("theme").setAttribute(
      "aria-label",
      `Colours: ${{ auto: "as the system has them", light: "light", dark: "dark" }[theme]}`,
    );
    $("zone").textContent = this.clock.local ? "Local" : "UTC";
    $("zone").setAttribute("aria-pressed", text(this.clock.local));
    this.chart?.restyle(this.clock);
    if (this.rows) showRows($("rows"), this.rows, this.clock);
    if (this.series) {
      this.showVerdicts();
      this.showNewest();
    }
  }

  toggleZone() {
    this.clock = new Clock(!this.clock.local);
    localStorage.setItem("zone", this.clock.local ? "local" : "utc");
    this.style();
  }

  nextTheme() {
    const themes = ["auto", "light", "dark"];
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
    localStorage.setItem("theme", next);
    this.style();
  }
}

const idOf = ({ market, pair }) => ({ market, pair });

new Page().start();
