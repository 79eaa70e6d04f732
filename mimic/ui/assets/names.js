// Names and roles that Gradio's components leave out, for screen readers; set again whenever the page changes.
(() => {
  const labelOf = (element) => {
    const block = element.closest(".block");
    const label = block && block.querySelector("[data-testid='block-label'], label span, .label-wrap span");
    return label ? label.textContent.trim() : "";
  };
  function mend() {
    for (const empty of document.querySelectorAll("div[aria-label='Empty value']:not([role])")) {
      empty.setAttribute("role", "img");
    }
    for (const button of document.querySelectorAll("button:not([aria-label])")) {
      if (button.textContent.trim() || button.title) continue;
      const name = labelOf(button);
      if (name) button.setAttribute("aria-label", name);
    }
    for (const upload of document.querySelectorAll("button[aria-label^='Drop ']")) {
      const words = upload.textContent.replace(/\s+/g, " ").trim();
      if (words) upload.setAttribute("aria-label", `${labelOf(upload)}: ${words}`);
    }
    const state = document.getElementById("state");
    if (state && !state.hasAttribute("role")) state.setAttribute("role", "status");
    if (!document.documentElement.lang) document.documentElement.lang = "en";
  }
  let isWaiting = false;
  new MutationObserver(() => {
    if (isWaiting) return;
    isWaiting = true;
    setTimeout(() => { isWaiting = false; mend(); }, 100);
  }).observe(document, { childList: true, subtree: true });
})();
