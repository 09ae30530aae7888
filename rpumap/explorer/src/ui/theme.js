/* Light or dark: the book's theme says which; an exported page follows the system. */

/** Follow the system's preference on a page that `rpumap.explorer.export` wrote. */
export function followSystemTheme() {
  if (!document.body.classList.contains("rpumap-page")) return;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => (document.documentElement.dataset.theme = dark.matches ? "dark" : "light");
  dark.addEventListener("change", apply);
  apply();
}
