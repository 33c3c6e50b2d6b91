// Streamlit builds a control anew where its recipe has changed, and the browser then gives the focus to nobody: whoever works with the
// keyboard would begin at the top of the page after every choice. The control that stands in its place gets it back.
if (!window.explorerKeepsFocus) {
  window.explorerKeepsFocus = true; // once a page, however often this is loaded
  const KINDS = '[role="radio"], [role="combobox"], [role="tab"], button';
  const said = (element) => (element.getAttribute("aria-label") || element.innerText || "").trim();
  const group = (element) => element.closest('[role="radiogroup"]')?.getAttribute("aria-label") || "";
  let held = null; // what the keyboard has the focus on
  document.addEventListener("focusin", ({ target }) => {
    if (target.getAttribute?.("role") === "option" && held?.role === "combobox") return; // of its own list, which goes with the choice
    held = target.matches?.(KINDS) ? { element: target, name: said(target), group: group(target), role: target.getAttribute("role") } : null;
  });
  document.addEventListener("pointerdown", () => { held = null; }, true);
  new MutationObserver(() => {
    if (!held || held.element.isConnected || document.activeElement !== document.body) return;
    const like = [...document.querySelectorAll(KINDS)].filter((one) => one.getAttribute("role") === held.role && group(one) === held.group && !one.disabled);
    const next = like.find((one) => said(one) === held.name) || (held.group && like.find((one) => one.getAttribute("aria-checked") === "true"));
    if (next) next.focus({ preventScroll: true, focusVisible: true });
  }).observe(document.body, { childList: true, subtree: true });
}
