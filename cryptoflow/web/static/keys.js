// The keys; they do what buttons do.

const TYPING = "input[type=text], select, textarea, dialog[open] *";

export function listenToKeys(page, chart) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.(TYPING)) return;
    const act =
      ACTIONS[event.key] ??
      (document.activeElement === chart || document.activeElement === document.body ? MOVES[event.key] : null);
    if (act) {
      event.preventDefault();
      act(page, event);
    } else if (/^[1-9]$/.test(event.key)) {
      page.chooseWindow(page.windows[Number(event.key) - 1]);
    }
  });
}

const ACTIONS = {
  "[": (page) => page.stepPair(-1),
  "]": (page) => page.stepPair(1),
  u: (page) => page.look.toggleZone(),
  t: (page) => page.look.nextTheme(),
  "?": () => document.getElementById("help").showModal(),
};

const MOVES = {
  ArrowLeft: (page) => page.chart?.move(-0.2),
  ArrowRight: (page) => page.chart?.move(0.2),
  PageUp: (page) => page.chart?.move(-0.9),
  PageDown: (page) => page.chart?.move(0.9),
  "+": (page) => page.chart?.move(0, 0.8),
  "=": (page) => page.chart?.move(0, 0.8),
  "-": (page) => page.chart?.move(0, 1.25),
  End: (page) => page.chart?.toNewest(),
};
