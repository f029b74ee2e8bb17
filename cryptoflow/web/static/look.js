// How the page looks: its colours, and the zone of its times. Both are kept for the next visit.

import { Clock } from "./format.js";

const THEMES = {
  auto: { sign: "◐", words: "as the system has them" },
  light: { sign: "☀", words: "light" },
  dark: { sign: "☾", words: "dark" },
};

const $ = (id) => document.getElementById(id);

export class Look {
  /** `onChange`: what is drawn has to be drawn anew. */
  constructor(onChange) {
    this.clock = new Clock(localStorage.getItem("zone") === "local");
    this._onChange = onChange;
    $("zone").addEventListener("click", () => this.toggleZone());
    $("theme").addEventListener("click", () => this.nextTheme());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this._show());
  }

  toggleZone() {
    this.clock = new Clock(!this.clock.local);
    localStorage.setItem("zone", this.clock.local ? "local" : "utc");
    this._show();
  }

  nextTheme() {
    const themes = Object.keys(THEMES);
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
    localStorage.setItem("theme", next);
    this._show();
  }

  /** Say on the buttons what is chosen. */
  label() {
    const { sign, words } = THEMES[document.documentElement.dataset.theme];
    $("theme").textContent = sign;
    $("theme").setAttribute("aria-label", `Colours: ${words}`);
    $("zone").textContent = this.clock.local ? "Local" : "UTC";
    $("zone").setAttribute("aria-pressed", `${this.clock.local}`);
  }

  _show() {
    paint();
    this.label();
    this._onChange();
  }
}
