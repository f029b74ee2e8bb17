// Before anything is drawn: the colours that were chosen here before, or those of the system.

globalThis.paint = () => {
  const theme = localStorage.getItem("theme") ?? "auto";
  const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  Object.assign(document.documentElement.dataset, { theme, scheme: dark ? "dark" : "light" });
};

paint();
