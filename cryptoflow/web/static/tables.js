// What stands beside the chart as text: the newest rows, the verdicts hour by hour, the candle under the pointer.

import { seconds } from "./candles.js";
import { amountText, countText, priceText } from "./format.js";

const COLUMNS = 7;
const HALF_A_DAY = 12;
const MOST_HOURS = 48;
const MARKS = { complete: "✓", repaired: "↻", quiet: "·", suspect: "!" };

const cell = (text, className = "") => {
  const made = document.createElement("td");
  made.textContent = text;
  made.className = className;
  return made;
};

export function showRows(body, rows, clock) {
  if (!rows.length) {
    const empty = cell("No row yet: the first comes when a minute is over.", "none");
    empty.colSpan = COLUMNS;
    body.replaceChildren(inRow([empty]));
    return;
  }
  let above = null;
  body.replaceChildren(
    ...rows.toReversed().map((row) => {
      const end = clock.time(seconds(row.window_end));
      const [buys, same] = [row.direction === "BUY", end === above];
      above = end;
      return inRow([
        cell(end, same ? "same" : ""),
        cell(row.market),
        cell(`${row.fromcoin}-${row.tocurrency}`),
        cell(buys ? "buy" : "sell", buys ? "up" : "down"),
        cell(priceText(row.avgprice), "n"),
        cell(amountText(row.totalquantity), "n"),
        cell(countText(row.counttxns), "n"),
      ]);
    }),
  );
}

function inRow(cells) {
  const made = document.createElement("tr");
  made.append(...cells);
  return made;
}

/** The hours as small marks, half a day in each line; each is a button that brings it into sight. */
export function showHours(list, note, hours, clock, onChoose) {
  const shown = hours.newest(MOST_HOURS);
  const lines = [...new Set(shown.map((hour) => lineOf(hour, clock)))];
  const days = lines.map((line) => line.split(",")[0]);
  list.replaceChildren(
    ...days.map((day, at) => placed("day", day === days[at - 1] ? "12:00" : day, 1, at + 1)),
    ...shown.map((hour) => {
      const item = placed("", "", (clock.hour(hour.time) % HALF_A_DAY) + 2, lines.indexOf(lineOf(hour, clock)) + 1);
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

const lineOf = ({ time }, clock) => `${clock.day(time)},${clock.hour(time) < HALF_A_DAY}`;

function placed(className, text, column, row) {
  const item = document.createElement("li");
  item.className = className;
  item.textContent = text;
  item.style.gridArea = `${row} / ${column}`;
  return item;
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
