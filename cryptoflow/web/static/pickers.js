// What can be chosen: market, pair, length of a candle, and the markets to lay over.

import { nameOf, windowsOf } from "./address.js";
import { OVER_COLOURS } from "./chart.js";
import { windowText } from "./format.js";

const $ = (id) => document.getElementById(id);

/** Show what is known, and what of it is chosen; `choose` is called with what is chosen in its place. */
export function showPickers(known, chosen, choose) {
  const { market, pair, windowS } = chosen;
  const pairs = known.filter((each) => each.market === market);
  fillSelect($("market"), [...new Set(known.map((each) => each.market))], market);
  fillSelect(
    $("pair"),
    pairs.map((each) => each.pair),
    pair,
  );
  showWindows(windowsOf(known, chosen), windowS, (wanted) => choose({ ...chosen, windowS: wanted }));
  showOthers(known, chosen, choose);
  $("title").textContent = `${pair} on ${market}`;
  document.title = `${pair} ${market} · cryptoflow`;
  const asked = new URLSearchParams({ market, pair, window: windowS, limit: 5000, format: "csv" });
  $("csv").href = `api/candles?${asked}`;
}

function showWindows(windows, chosen, choose) {
  const set = $("windows");
  const labels = windows.map((windowS) => {
    const input = made("input", { type: "radio", name: "window", value: windowS, checked: windowS === chosen });
    return labelled(input, windowText(windowS), () => choose(windowS));
  });
  replaced(set, [set.querySelector("legend"), ...labels]);
}

/** Put labels in place of those before; the keyboard stays with the same one. */
function replaced(element, labels) {
  const focused = element.contains(document.activeElement) ? document.activeElement.value : null;
  element.replaceChildren(...labels);
  if (focused !== null) element.querySelector(`input[value="${CSS.escape(focused)}"]`)?.focus();
}

/** The same coin on other markets, those of the same currency first. */
function showOthers(known, chosen, choose) {
  const [coin] = chosen.pair.split("-");
  const others = known
    .filter((each) => each.pair.split("-")[0] === coin && each.market !== chosen.market)
    .sort((a, b) => (b.pair === chosen.pair) - (a.pair === chosen.pair));
  $("compare").classList.toggle("off", !others.length);
  $("compare-count").textContent = chosen.over.length || "";
  const labels = others.map((each) => {
    const rest = chosen.over.filter((one) => nameOf(one) !== nameOf(each));
    const box = made("input", { type: "checkbox", value: nameOf(each), checked: rest.length < chosen.over.length });
    return labelled(box, ` ${each.market} ${each.pair}`, () => {
      choose({ ...chosen, over: box.checked ? [...rest, each].slice(0, OVER_COLOURS.length) : rest });
    });
  });
  replaced($("compare-list"), labels);
}

const made = (tag, properties) => Object.assign(document.createElement(tag), properties);

function labelled(input, text, onChange) {
  const label = made("label", {});
  input.addEventListener("change", onChange);
  label.append(input, text);
  return label;
}

function fillSelect(select, names, chosen) {
  const shown = [...select.options].map((option) => option.value).join();
  if (shown !== names.join()) select.replaceChildren(...names.map((name) => new Option(name, name)));
  select.value = chosen;
}
