// Tables that are wider than the screen scroll; the theme wraps them, and the keyboard has to reach them too.
document$.subscribe(() => {
  const mark = () => {
    for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) {
      const scrolls = box.scrollWidth > box.clientWidth + 1;
      if (!scrolls) { box.removeAttribute("tabindex"); continue; }
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", "Table");
    }
  };
  requestAnimationFrame(() => setTimeout(mark, 50));
  addEventListener("resize", mark);
});
