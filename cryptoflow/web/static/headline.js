// What is said of a candle: price and change of the newest one, the facts of the one that is looked at, the spreads.

import { basisPoints } from "./candles.js";
import { OVER_COLOURS } from "./chart.js";
import { decimals, priceText, signedText } from "./format.js";
import { candleFacts, showFacts, verdictText } from "./tables.js";

const DAY_S = 86400;
const HOUR_S = 3600;
const SPOKEN_EVERY_MS = 15000;

const $ = (id) => document.getElementById(id);

export class Headline {
  constructor() {
    this._pointedAt = null;
    this._lastClose = null;
    this._spokenMs = 0;
  }

  /** Show the newest candle. */
  show(loaded, clock) {
    const { candles } = loaded.base;
    const newest = candles.newest;
    if (!newest) return;
    this._showPrice(newest);
    this._showChange(candles, newest, loaded.windowS);
    if (this._pointedAt === null) this.facts(loaded, newest, clock);
    showSpreads(loaded, newest);
    this._speak(loaded, newest, clock);
  }

  /** Show the candle that is pointed at; null: the newest again. */
  pointAt(time, loaded, clock) {
    this._pointedAt = time;
    const { candles } = loaded.base;
    const candle = time === null ? candles.newest : candles.at(time);
    if (candle) this.facts(loaded, candle, clock);
    else if (time !== null) {
      const hour = loaded.hourOf({ time });
      showFacts($("legend"), [
        ["Begins", clock.full(time), "time"],
        ["Verdict", `no candle; ${verdictText(hour)}`, `unnamed verdict ${hour?.verdict ?? "open"}`],
      ]);
    }
  }

  facts(loaded, candle, clock) {
    showFacts($("legend"), candleFacts(candle, loaded.hourOf(candle), clock, decimals(candle.close)));
  }

  _showPrice(newest) {
    const price = $("price");
    const shown = priceText(newest.close, decimals(newest.close));
    if (price.textContent !== shown) {
      price.dataset.moved = newest.close >= (this._lastClose ?? newest.close) ? "up" : "down";
      price.textContent = shown;
      this._lastClose = newest.close;
    }
    Object.assign(price.dataset, { trades: newest.trades, time: newest.time, stored: newest.stored });
  }

  _showChange(candles, newest, windowS) {
    const dayAgo = candles.times.find((time) => time >= newest.time - DAY_S);
    const change = (newest.close / candles.at(dayAgo).open - 1) * 100;
    const hours = Math.round((newest.time + windowS - dayAgo) / HOUR_S);
    $("change").textContent = `${signedText(change)} %${hours ? ` in ${hours} h` : ""}`;
    $("change").className = `change ${change >= 0 ? "up" : "down"}`;
  }

  _speak(loaded, candle, clock) {
    if (Date.now() - this._spokenMs < SPOKEN_EVERY_MS) return;
    this._spokenMs = Date.now();
    const { market, pair } = loaded.base;
    const verdict = candle.stored ? verdictText(loaded.hourOf(candle)) : "forming";
    const price = priceText(candle.close, decimals(candle.close));
    $("spoken").textContent =
      `${pair} on ${market}: ${price}, candle of ${clock.time(candle.time)} ${clock.zone}, ${candle.trades} trades, ${verdict}.`;
  }
}

function showSpreads({ others }, newest) {
  $("spread-card").hidden = !others.length;
  $("spreads").replaceChildren(
    ...others.map(({ market, pair, candles }, at) => {
      const item = document.createElement("li");
      const other = candles.newest;
      item.innerHTML = `<i class="line" style="--line-colour: var(${OVER_COLOURS[at]})"></i><span></span><b></b>`;
      item.querySelector("span").textContent = `${market} ${pair}`;
      item.querySelector("b").textContent = other
        ? `${signedText(basisPoints(other.close, newest.close), 1)} bp`
        : "–";
      return item;
    }),
  );
}
