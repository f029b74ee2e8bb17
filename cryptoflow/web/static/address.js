// The address says what is shown, so that it can be kept and sent: #Coinbase/BTC-USD/300?with=Kraken/BTC-USD

export const nameOf = ({ market, pair }) => `${market}/${pair}`;

export function addressOf({ market, pair, windowS, over }) {
  const others = over.map(nameOf).join(",");
  return `#${market}/${pair}/${windowS}${others ? `?with=${others}` : ""}`;
}

/** What an address asks for, as far as it is `known`; else the pair that most look for. */
export function asked(hash, known) {
  const [path, query] = decodeURIComponent(hash.slice(1)).split("?");
  const [market, pair, windowS] = path.split("/");
  const wanted =
    known.find((each) => nameOf(each) === `${market}/${pair}`) ??
    known.find((each) => each.pair === "BTC-USD") ??
    known[0];
  const others = (new URLSearchParams(query).get("with") ?? "").split(",");
  const over = others.map((name) => known.find((each) => nameOf(each) === name)).filter(Boolean);
  return { market: wanted.market, pair: wanted.pair, windowS: Number(windowS) || 0, over };
}

/** The lengths of candles that a pair has, in s. */
export function windowsOf(known, { market, pair }) {
  const found = known.find((each) => each.market === market && each.pair === pair);
  return found.windows.map((each) => each.window_seconds);
}

/** The same choice with a length that there is: the one asked for, else a minute. */
export function fitted(known, { market, pair, windowS, over = [] }) {
  const windows = windowsOf(known, { market, pair });
  const found = [windowS, 60].find((each) => windows.includes(each)) ?? windows[0];
  return { market, pair, windowS: found, over };
}
