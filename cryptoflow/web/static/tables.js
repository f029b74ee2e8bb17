// What stands beside the chart as text: the newest rows, the verdicts hour by hour, the candle under the pointer.

import { seconds } from "./candles.js";
import { amountText, countText, priceText } from "./format.js";

const MARKS = { complete: "✓", repaired: "↻", quiet: "·", suspect: "!" };

const cell = (text, className = "") => {
  const made = document.createElement("td");
  made.textContent = text;
  made.className = className;
  return made;
};

export function showRows(body, rows, clock) {
  body.replaceChildren(
    ...rows.toReversed().map((row) => {
      const made = document.createElement("tr");
      const side = cell(row.direction === "BUY" ? "buy" : "sell", row.direction === "BUY" ? "up" : "down");
      made.append(
        cell(clock.time(seconds(row.window_end))),
        cell(row.market),
        cell(`${row.fromcoin}-${row.tocurrency}`),
        side,
        cell(priceText(row.avgprice), "n"),
        cell(amountText(row.totalquantity), "n"),
        cell(countText(row.counttxns), "n"),
      );
      return made;
    }),
  );
}

/** The hours as small marks, each a button that brings it into sight. */
export function showHours(list, note, hours, clock, onChoose) {
  const shown = hours.newest(48);
  list.replaceChildren(
    ...shown.map((hour) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.className = `hour ${hour.verdict}`;
      button.textContent = MARKS[hour.verdict] ?? "?";
      const words = `${clock.full(hour.time)}: ${verdictText(hour)}`;
      button.title = words;
      button.setAttribute("aria-label", words);
      button.addEventListener("click", () => onChoose(hour.time));
      item.append(button);
      return item;
    }),
  );
  const suspect = shown.filter((hour) => hour.verdict === "suspect");
  const newest = suspect[suspect.length - 1];
  note.textContent = !shown.length
    ? "No hour of this pair is judged yet: a repair or an audit does it."
    : newest
      ? `${suspect.length} suspect, the newest: ${clock.full(newest.time)}, ${newest.reason}.`
      : `None of the ${shown.length} newest is suspect.`;
}

export function verdictText(hour) {
  if (!hour) return "not judged yet";
  const counts =
    hour.in_log === hour.in_candles ? "" : ` (${countText(hour.in_candles)} of ${countText(hour.in_log)} trades)`;
  return `${hour.verdict}${hour.reason ? `: ${hour.reason}` : ""}${counts}`;
}

/** What is known of one candle, as [name, text, class] each. */
export function candleFacts(candle, hour, clock, digits) {
  const known = candle.buy_quantity + candle.sell_quantity;
  return [
    ["Begins", clock.full(candle.time), "time"],
    ["O", priceText(candle.open, digits)],
    ["H", priceText(candle.high, digits)],
    ["L", priceText(candle.low, digits)],
    ["C", priceText(candle.close, digits), candle.close >= candle.open ? "up" : "down"],
    ["VWAP", priceText(candle.vwap, digits), "vwap"],
    ["Qty", amountText(candle.quantity)],
    ["bought", known ? `${Math.round((candle.buy_quantity / known) * 100)} %` : "–"],
    ["Trades", countText(candle.trades)],
    [
      "Verdict",
      candle.stored ? verdictText(hour) : "forming",
      candle.stored ? `unnamed verdict ${hour?.verdict ?? "open"}` : "unnamed verdict forming",
    ],
  ];
}

export function showFacts(list, facts) {
  list.replaceChildren(
    ...facts.map(([name, text, className = ""]) => {
      const group = document.createElement("div");
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      term.textContent = name;
      value.textContent = text;
      group.className = className;
      group.append(term, value);
      return group;
    }),
  );
}
