/* What scrolls sideways can be reached and scrolled by keyboard. Whether something does depends on
   the width of the page, so it is looked at again whenever that changes. */
(() => {
  const SCROLLING = "div.math, mjx-container, table, pre, .output, .cell_output";

  function mark() {
    for (const element of document.querySelectorAll(SCROLLING)) {
      const overflow = getComputedStyle(element);
      const scrolls =
        (element.scrollWidth > element.clientWidth && /auto|scroll/.test(overflow.overflowX)) ||
        (element.scrollHeight > element.clientHeight && /auto|scroll/.test(overflow.overflowY));
      if (scrolls && element.tabIndex < 0) {
        element.setAttribute("tabindex", "0");
        element.dataset.scrolls = "";
      } else if (!scrolls && "scrolls" in element.dataset) {
        element.removeAttribute("tabindex");
        delete element.dataset.scrolls;
      }
    }
  }

  /* Names that a screen reader says must hold the words that stand on a button. */
  function name() {
    for (const button of document.querySelectorAll(".search-button-field")) {
      button.removeAttribute("aria-label");
    }
    for (const icon of document.querySelectorAll(".theme-switch-button svg")) {
      icon.querySelector("title")?.remove();
      icon.setAttribute("aria-hidden", "true");
    }
  }

  window.addEventListener("load", async () => {
    await window.MathJax?.startup?.promise;
    name();
    // icons are drawn later than the page, and anew when the theme changes
    for (const button of document.querySelectorAll(".theme-switch-button")) {
      new MutationObserver(name).observe(button, { childList: true, subtree: true });
    }
    mark();
    const sizes = new ResizeObserver(mark);
    for (const element of [document.body, ...document.querySelectorAll(SCROLLING)]) {
      sizes.observe(element);
    }
    document.documentElement.dataset.accessible = "";
  });
})();
