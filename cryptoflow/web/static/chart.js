// The chart: candles, VWAP, volume by side, verdicts, and other markets laid over. It is told what to draw.

import { basisPoints } from "./candles.js";
import { decimals, priceText } from "./format.js";

const RIGHT_ROOM = 6;
/** Empty places right of the newest candle. */

const WIDE_PX = 6.25;
/** Of a candle at the start, with its gap: on a phone fewer are shown, and not thinner ones. */

export const OVER_COLOURS = ["--over-1", "--over-2", "--over-3", "--over-4"];

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  /** `library`: TradingView's LightweightCharts. `onNeed`: older candles come into sight. `onHover`: a time, or none. */
  constructor(library, element, { onNeed, onHover, onRange }) {
    this._lib = library;
    this._chart = library.createChart(element, { autoSize: true, ...this._options() });
    this._base = this._makeBase();
    this._over = new Map();
    this._places = [];
    const scale = this._chart.timeScale();
    scale.subscribeVisibleLogicalRangeChange((range) => {
      if (range && range.from < 60) onNeed();
      onRange(!range || range.to >= this._places.length - 1);
    });
    this._chart.subscribeCrosshairMove((event) => onHover(event.time ?? null));
  }

  _options(clock) {
    const text = css("--muted");
    return {
      layout: {
        background: { color: "transparent" },
        textColor: text,
        fontFamily: css("--font"),
        fontSize: 12,
        attributionLogo: false, // the page's foot names its makers, and the logo stands on the bars
        panes: { separatorColor: css("--line"), separatorHoverColor: css("--hover") },
      },
      grid: { vertLines: { color: css("--grid") }, horzLines: { color: css("--grid") } },
      crosshair: {
        mode: 0,
        vertLine: { color: text, labelBackgroundColor: css("--ink-soft") },
        horzLine: { color: text, labelBackgroundColor: css("--ink-soft") },
      },
      rightPriceScale: { borderVisible: false },
      timeScale: {
        borderColor: css("--line"),
        timeVisible: true,
        secondsVisible: false,
        rightOffset: RIGHT_ROOM,
        minBarSpacing: 0.4,
        ...(clock && {
          tickMarkFormatter: (time, type) =>
            type === 0 ? clock.month(time) : clock.tick(time, this._windowS >= 86400),
        }),
      },
      localization: clock ? { timeFormatter: (time) => clock.full(time) } : {},
    };
  }

  _makeBase() {
    const { CandlestickSeries, HistogramSeries, LineSeries } = this._lib;
    const quiet = { priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false };
    const verdict = this._chart.addSeries(HistogramSeries, { ...quiet, priceScaleId: "verdict", base: 0 }, 0);
    const candle = this._chart.addSeries(CandlestickSeries, { borderVisible: false }, 0);
    const vwap = this._chart.addSeries(LineSeries, { ...quiet, lineWidth: 1 }, 0);
    const bars = ["total", "sides", "bought"].map((name) => [
      name,
      this._chart.addSeries(HistogramSeries, { ...quiet, priceFormat: { type: "volume" }, priceScaleId: "right" }, 1),
    ]);
    verdict.priceScale().applyOptions({ scaleMargins: { top: 0.982, bottom: 0 }, visible: false });
    candle.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.08 } });
    this._chart.panes()[0].setStretchFactor(3.6);
    this._chart.panes()[1].setStretchFactor(1);
    return { verdict, candle, vwap, ...Object.fromEntries(bars) };
  }

  /** Take the colours of the page as they are now, and the times of a clock. */
  restyle(clock) {
    this._chart.applyOptions(this._options(clock));
    const { candle, vwap, total, sides, bought } = this._base;
    const [up, down] = [css("--up"), css("--down")];
    candle.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
    vwap.applyOptions({ color: css("--vwap") });
    total.applyOptions({ color: css("--unknown-side") });
    sides.applyOptions({ color: css("--down-soft") });
    bought.applyOptions({ color: css("--up-soft") });
    this._verdicts = Object.fromEntries(
      ["complete", "repaired", "quiet", "suspect", "open"].map((name) => [name, css(`--${name}`)]),
    );
    if (this._hours) this._base.verdict.setData(this._verdictData());
    [...this._over.values()].forEach(({ line, spread }, at) => {
      line.applyOptions({ color: css(OVER_COLOURS[at % OVER_COLOURS.length]) });
      spread.applyOptions({ color: css(OVER_COLOURS[at % OVER_COLOURS.length]) });
    });
  }

  /** Draw all candles. `keep`: what is in sight stays there, else the newest are. */
  draw(candles, hours, keep) {
    const before = keep && this._places.length ? this._sight() : null;
    this._windowS = candles.windowS;
    this._hours = hours;
    this._places = candles.places();
    const digits = decimals(candles.newest?.close);
    this._base.candle.applyOptions({
      priceFormat: { type: "custom", minMove: 10 ** -digits, formatter: (price) => priceText(price, digits) },
    });
    for (const [name, series] of Object.entries(this._base)) {
      if (name !== "verdict")
        series.setData(this._places.map(({ time, candle }) => (candle ? { time, ...DRAWN[name](candle) } : { time })));
    }
    this._base.verdict.setData(this._verdictData());
    if (!before) this.toNewest(this._fitting());
    else if (before.atEnd) this.toNewest(before.wide);
    else this._see(before);
  }

  /** What is in sight: the place of the first candle in it, however many come before. */
  _sight() {
    const { from, to } = this._chart.timeScale().getVisibleLogicalRange();
    return { from, to, wide: to - from, first: this._places[0].time, atEnd: to >= this._places.length - 1 };
  }

  _see({ from, to, first }) {
    const added = Math.max(
      0,
      this._places.findIndex((place) => place.time === first),
    );
    this._chart.timeScale().setVisibleLogicalRange({ from: from + added, to: to + added });
  }

  /** Draw the newest candle anew, or one of those before; its place is there, or is the next one. */
  update(candle) {
    const time = candle.time;
    const last = this._places[this._places.length - 1];
    if (!last || time > last.time) this._places.push({ time, candle });
    const historical = Boolean(last) && time < last.time;
    for (const [name, series] of Object.entries(this._base)) {
      series.update(name === "verdict" ? this._verdictOf(time) : { time, ...DRAWN[name](candle) }, historical);
    }
  }

  /** Draw the verdicts anew. */
  judge() {
    this._base.verdict.setData(this._verdictData());
  }

  _verdictData() {
    return this._places.map(({ time }) => this._verdictOf(time));
  }

  _verdictOf(time) {
    const verdict = this._hours.of(time, this._windowS)?.verdict ?? "open";
    return { time, value: 1, color: this._verdicts[verdict] ?? this._verdicts.open };
  }

  /** Lay other markets over: `others` is [[name, Candles], ...]. */
  overlay(others, base) {
    for (const { line, spread } of this._over.values()) {
      this._chart.removeSeries(line);
      this._chart.removeSeries(spread);
    }
    this._over.clear();
    const { LineSeries } = this._lib;
    others.forEach(([name, candles], at) => {
      const style = {
        color: css(OVER_COLOURS[at % OVER_COLOURS.length]),
        lineWidth: 2,
        priceLineVisible: false,
        title: name,
      };
      const line = this._chart.addSeries(LineSeries, { ...style, lastValueVisible: false }, 0);
      const spread = this._chart.addSeries(
        LineSeries,
        {
          ...style,
          lineWidth: 1.5,
          title: "",
          priceFormat: { type: "custom", minMove: 0.01, formatter: (bp) => `${bp.toFixed(1)} bp` },
        },
        2,
      );
      this._over.set(name, { line, spread });
      this.overlayDraw(name, candles, base);
    });
    const panes = this._chart.panes();
    if (panes[2]) panes[2].setStretchFactor(1);
  }

  overlayDraw(name, candles, base) {
    const { line, spread } = this._over.get(name);
    line.setData(candles.places().map(({ time, candle }) => (candle ? { time, value: candle.close } : { time })));
    spread.setData(
      this._places.map(({ time, candle }) => {
        const other = candles.at(time);
        return candle && other ? { time, value: basisPoints(other.close, base.at(time).close) } : { time };
      }),
    );
  }

  overlayUpdate(name, candle, base) {
    const found = this._over.get(name);
    const under = base.at(candle.time);
    const last = this._places[this._places.length - 1];
    if (!found || !last) return;
    found.line.update({ time: candle.time, value: candle.close }, candle.time < last.time);
    if (under)
      found.spread.update(
        { time: candle.time, value: basisPoints(candle.close, under.close) },
        candle.time < last.time,
      );
  }

  _fitting() {
    return Math.max(20, Math.round(this._chart.timeScale().width() / WIDE_PX));
  }

  toNewest(count) {
    const to = this._places.length + RIGHT_ROOM;
    const range = this._chart.timeScale().getVisibleLogicalRange();
    const wide = count ?? (range ? range.to - range.from : this._fitting());
    this._chart.timeScale().setVisibleLogicalRange({ from: to - wide, to });
  }

  /** Bring a time into the middle; false if it is not here. */
  show(time) {
    const at = this._places.findIndex((place) => place.time >= time);
    if (at < 0 || (at === 0 && this._places[0].time > time + 3600)) return false;
    const range = this._chart.timeScale().getVisibleLogicalRange();
    const half = (range.to - range.from) / 2;
    const middle = at + 1800 / this._windowS;
    this._chart.timeScale().setVisibleLogicalRange({ from: middle - half, to: middle + half });
    return true;
  }

  /** Move by a share of what is in sight; `zoom` over 1 shows more. */
  move(share, zoom = 1) {
    const scale = this._chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (!range) return;
    const wide = range.to - range.from;
    const to = range.to + wide * share;
    scale.setVisibleLogicalRange({ from: to - Math.max(10, wide * zoom), to });
  }
}

const DRAWN = {
  candle: ({ open, high, low, close }) => ({ open, high, low, close }),
  vwap: ({ vwap }) => ({ value: vwap }),
  total: ({ quantity }) => ({ value: quantity }),
  sides: ({ buy_quantity, sell_quantity }) => ({ value: buy_quantity + sell_quantity }),
  bought: ({ buy_quantity }) => ({ value: buy_quantity }),
};
