// What happens live: put into what is loaded, and told once for each frame of the screen.

import { watch } from "./api.js";
import { seconds } from "./candles.js";

export class Live {
  /** `onCandles`: [{series, time}], and whether all is to be drawn anew. `onHour`: the time of one. */
  constructor(loaded, { onCandles, onHour, onReset, onState }) {
    this._loaded = loaded;
    this._onCandles = onCandles;
    this._changed = new Map();
    this._anew = false;
    this._frame = null;
    this._stop = watch(loaded.series, loaded.windowS, {
      candle: (row) => this._candle(row),
      hour: (row) => {
        if (loaded.seriesOf(row) === loaded.base && loaded.hours.put(row) && !loaded.loading) onHour(seconds(row.hour));
      },
      reset: onReset,
      state: onState,
    });
  }

  end() {
    this._stop();
    cancelAnimationFrame(this._frame);
  }

  _candle(row) {
    const series = this._loaded.seriesOf(row);
    if (!series) return;
    const newest = series.candles.newest;
    const time = seconds(row.window_start);
    const isNew = series.candles.put(row);
    if (this._loaded.loading) return;
    // Where a place in the middle, or a gap, comes up, the whole is drawn anew.
    this._anew ||= isNew && time !== newest?.time + this._loaded.windowS;
    this._changed.set(`${series.market}/${series.pair} ${time}`, { series, time });
    this._frame ??= requestAnimationFrame(() => this._tell());
  }

  _tell() {
    const changed = [...this._changed.values()].sort((a, b) => a.time - b.time);
    const anew = this._anew;
    this._changed.clear();
    this._frame = null;
    this._anew = false;
    this._onCandles(changed, anew);
  }
}
