// The page: what is chosen, what is loaded of it, and who has to know.

import { addressOf, asked, fitted, nameOf, windowsOf } from "./address.js";
import { get } from "./api.js";
import { Banner, pause, write } from "./banner.js";
import { Chart } from "./chart.js";
import { Headline } from "./headline.js";
import { HealthStrip } from "./health.js";
import { listenToKeys } from "./keys.js";
import { Live } from "./live.js";
import { Loaded } from "./loaded.js";
import { Look } from "./look.js";
import { showPickers } from "./pickers.js";
import { showHours, showRows } from "./tables.js";

const LOOK_EVERY_MS = 2000;
const PAIRS_EVERY_MS = 30000;
const ROWS = 40;
const NO_LIBRARY =
  "The chart's library is missing: `make setup`, or `pip install lwcharts`, brings it; then load this page again.";
const NO_PAIR = "No candle yet: `cryptoflow run` starts a feed and fills the tables. This page looks again by itself.";
const NO_CANDLE = "No candle of this pair yet.";

const $ = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.known = [];
    this.chosen = null;
    this.coming = null;
    /** What was chosen last; it may be loading. */
    this.shown = null;
    /** What is drawn. */
    this.live = null;
    this.rows = null;
    this.banner = new Banner($("banner"));
    this.headline = new Headline();
    this.health = new HealthStrip($("health"));
    this.look = new Look(() => this.restyle());
    this.makeChart();
    this.wire();
    this.look.label();
  }

  makeChart() {
    const library = globalThis.LightweightCharts;
    if (!library) {
      this.banner.say("library", NO_LIBRARY);
      return;
    }
    this.chart = new Chart(library, $("chart"), {
      onNeed: () => this.loadOlder(),
      onHover: (time) => this.shown && this.headline.pointAt(time, this.shown, this.look.clock),
      onRange: (atEnd) => {
        $("latest").hidden = atEnd;
      },
    });
    this.chart.restyle(this.look.clock);
  }

  wire() {
    $("market").addEventListener("change", () => this.chooseMarket($("market").value));
    $("pair").addEventListener("change", () => this.choose({ ...this.chosen, pair: $("pair").value, over: [] }));
    $("help-open").addEventListener("click", () => $("help").showModal());
    $("latest").addEventListener("click", () => this.chart.toNewest());
    $("pickers").addEventListener("submit", (event) => event.preventDefault());
    addEventListener("hashchange", () => this.chosen && this.choose(asked(location.hash, this.known), true));
    document.addEventListener("click", (event) => {
      if (!$("compare").contains(event.target)) $("compare").open = false;
    });
    // A page that nobody sees needs no connection; browsers allow few to one server.
    document.addEventListener("visibilitychange", () =>
      document.hidden ? this.unwatch() : this.chosen && this.load(true),
    );
    listenToKeys(this, $("chart"));
  }

  async start() {
    this.keepLooking("health", () => get("health"), (health) => this.showHealth(health));
    this.keepLooking("rows", () => get("windows", { limit: ROWS }), (rows) => this.showRows(rows));
    await this.loadPairs();
    this.choose(asked(location.hash, this.known), true);
    setInterval(() => this.loadPairs().then(() => this.showPickers()), PAIRS_EVERY_MS);
  }

  async loadPairs() {
    for (;;) {
      const pairs = await this.banner.attempt("pairs", () => get("pairs"));
      if (pairs?.length) {
        this.known = pairs;
        return;
      }
      this.sayEmpty(NO_PAIR);
      await pause(LOOK_EVERY_MS);
    }
  }

  async keepLooking(name, ask, show) {
    for (;;) {
      const found = document.hidden ? undefined : await this.banner.attempt(name, ask);
      if (found) show(found);
      await pause(LOOK_EVERY_MS);
    }
  }

  // What is chosen.

  choose(wanted, replace = false) {
    this.chosen = fitted(this.known, wanted);
    history[replace ? "replaceState" : "pushState"](null, "", addressOf(this.chosen));
    this.showPickers();
    this.load();
  }

  chooseMarket(market) {
    const pairs = this.known.filter((each) => each.market === market).map((each) => each.pair);
    const pair = pairs.includes(this.chosen.pair) ? this.chosen.pair : pairs[0];
    this.choose({ ...this.chosen, market, pair, over: [] });
  }

  chooseWindow(windowS) {
    if (this.windows.includes(windowS)) this.choose({ ...this.chosen, windowS });
  }

  stepPair(step) {
    const at = this.known.findIndex((each) => nameOf(each) === nameOf(this.chosen));
    const { market, pair } = this.known[(at + step + this.known.length) % this.known.length];
    this.choose({ ...this.chosen, market, pair, over: [] });
  }

  get windows() {
    return this.chosen ? windowsOf(this.known, this.chosen) : [];
  }

  showPickers() {
    showPickers(this.known, this.chosen, (wanted) => this.choose(wanted));
  }

  // What is loaded.

  /** `keep`: what is in sight stays there, else the newest candles are. */
  async load(keep = false) {
    this.coming?.leave();
    const loaded = (this.coming = new Loaded(this.chosen, this.banner));
    this.unwatch();
    if (!document.hidden) this.watch(loaded);
    if (!(await loaded.begin())) return;
    this.shown = loaded;
    this.draw(keep);
    this.showVerdicts();
  }

  async loadOlder() {
    if (this.shown && !this.shown.left && (await this.shown.older())) this.draw(true);
  }

  watch(loaded) {
    this.live = new Live(loaded, {
      onCandles: (changed, anew) => this.drawChanged(changed, anew),
      onHour: (hour) => this.judge(hour),
      onReset: () => this.load(true),
      onState: (state) => {
        $("state").dataset.state = state;
        $("state-text").textContent = state === "live" ? "live" : "reconnecting";
      },
    });
  }

  unwatch() {
    this.live?.end();
    this.live = null;
  }

  async judge(hour) {
    this.chart?.judge();
    this.showVerdicts();
    if (await this.shown.again(hour)) this.draw(true);
  }

  // What is drawn.

  draw(keep) {
    const { base, others, hours } = this.shown;
    if (!base.candles.size) this.sayEmpty(NO_CANDLE);
    else $("empty").hidden = true;
    if (!this.chart || !base.candles.size) return;
    const begun = performance.now();
    this.chart.draw(base.candles, hours, keep);
    this.chart.overlay(
      others.map((each) => [nameOf(each), each.candles]),
      base.candles,
    );
    performance.measure("draw", { start: begun, detail: base.candles.size });
    document.body.dataset.drawn = `${base.candles.size}`;
    this.headline.show(this.shown, this.look.clock);
  }

  drawChanged(changed, anew) {
    if (anew) {
      this.draw(document.body.dataset.drawn > 0);
      return;
    }
    const { base, others } = this.shown;
    for (const { series, time } of changed) {
      if (series === base) this.chart?.update(base.candles.at(time));
      for (const other of series === base ? others : [series]) {
        const candle = other.candles.at(time);
        if (candle) this.chart?.overlayUpdate(nameOf(other), candle, base.candles);
      }
    }
    this.headline.show(this.shown, this.look.clock);
  }

  sayEmpty(words) {
    $("empty").hidden = false;
    write($("empty"), words);
  }

  showVerdicts() {
    showHours($("hours"), $("hours-note"), this.shown.hours, this.look.clock, (time) => this.goTo(time));
  }

  showHealth(health) {
    this.health.show(health);
    this.banner.say("kafka", health.kafka && `Live trades are away. ${health.kafka}`);
    this.banner.say("cassandra", health.cassandra);
  }

  showRows(rows) {
    this.rows = rows;
    showRows($("rows"), rows, this.look.clock);
  }

  restyle() {
    this.chart?.restyle(this.look.clock);
    if (this.rows) this.showRows(this.rows);
    if (this.shown) {
      this.showVerdicts();
      this.headline.show(this.shown, this.look.clock);
    }
  }

  /** Bring a time into sight, however far back. */
  async goTo(time) {
    const loaded = this.shown;
    if (!this.chart) return;
    while (!loaded.left && !this.chart.show(time) && !loaded.exhausted) {
      if (loaded.loading) await pause(50);
      else await this.loadOlder();
    }
    $("chart").focus();
    const { candles } = loaded.base;
    const first = candles.times.find((each) => each >= time);
    if (first !== undefined) this.headline.facts(loaded, candles.at(first), this.look.clock);
  }
}

new Page().start();
