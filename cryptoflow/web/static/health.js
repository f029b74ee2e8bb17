// The strip that says how all is doing; each part explains itself and leads to Dagster.

import { agoText, countText, rateText } from "./format.js";

const LATE_MS = 1000;
const BEHIND_S = 600;

const PARTS = [
  {
    name: "Feeds",
    path: "/assets/feed",
    text: "The markets whose trades reach Kafka. One without a trade for a minute counts as gone: its socket is opened anew by then.",
    value: ({ feeds, now }) => {
      if (!feeds.length) return ["none yet", "idle"];
      const gone = feeds.filter((feed) => !feed.connected);
      if (!gone.length) return [`${feeds.length} live`, "good"];
      const since = (Date.parse(now) - Math.max(...gone.map((feed) => Date.parse(feed.last_trade)))) / 1000;
      return [
        `${feeds.length - gone.length} of ${feeds.length}; ${gone.map((feed) => feed.market).join(", ")} ${agoText(since)}`,
        "bad",
      ];
    },
  },
  {
    name: "Trades/s",
    path: "/assets/trades_topic",
    text: "Trades that Kafka takes in a second, of all markets.",
    value: ({ trades_per_s: rate }) => [rateText(rate), rate ? "good" : "idle"],
  },
  {
    name: "To the page",
    path: "/assets/trades_topic",
    text: "How old the newest trade was when its candle here took it in, from Kafka's receipt on.",
    value: ({ delay_ms: ms }) => [
      ms == null ? "–" : `${Math.round(ms)} ms`,
      ms == null ? "idle" : ms < LATE_MS ? "good" : "bad",
    ],
  },
  {
    name: "Lag",
    path: "/assets/candles",
    text: "Trades that are in Kafka and in no committed batch of the aggregation yet. It goes up and down with each batch.",
    value: ({ lag_trades: lag, finished, now }) => {
      const behind = finished ? (Date.parse(now) - Date.parse(finished)) / 1000 : 0;
      return [countText(lag), lag == null ? "idle" : behind > BEHIND_S ? "bad" : "good"];
    },
  },
  {
    name: "Waiting for repair",
    path: "/assets/candle_hours",
    text: "Trades that came too late for the stream. Their hours are marked, and a repair puts them into their candles.",
    value: ({ waiting_trades: waiting }) => [countText(waiting), waiting == null ? "idle" : waiting ? "warn" : "good"],
  },
  {
    name: "Dead letters",
    path: "/assets/dead_letters_topic",
    text: "Frames that could not be read. They are kept with the reason.",
    value: ({ dead_letters: dead }) => [countText(dead), dead == null ? "idle" : dead ? "warn" : "good"],
  },
  {
    name: "Last repair",
    path: "/assets/candle_hours",
    text: "When an hour was computed anew from Kafka, the last time.",
    value: ({ last_repair: repair, now }) => [
      repair ? agoText((Date.parse(now) - Date.parse(repair)) / 1000) : "none",
      "idle",
    ],
  },
];

export class HealthStrip {
  constructor(element) {
    this._parts = PARTS.map((part, at) => {
      const link = document.createElement("a");
      link.className = "part";
      link.target = "_blank";
      link.rel = "noopener";
      link.innerHTML = `<i class="dot" aria-hidden="true"></i><span class="name"></span> <b class="value">–</b><span role="tooltip" class="tip" id="tip-${at}"></span>`;
      link.querySelector(".name").textContent = part.name;
      link.querySelector(".tip").textContent = `${part.text} Opens Dagster.`;
      link.setAttribute("aria-describedby", `tip-${at}`);
      element.append(link);
      return { ...part, link };
    });
  }

  show(health) {
    for (const { link, path, value } of this._parts) {
      const [text, mood] = value(health);
      link.href = health.dagster_url + path;
      link.dataset.mood = mood;
      const shown = link.querySelector(".value");
      if (shown.textContent !== text) shown.textContent = text;
    }
  }
}
