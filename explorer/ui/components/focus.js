// Streamlit builds a control anew where its recipe has changed, and the browser then gives the focus to nobody: whoever works with the
// keyboard would begin at the top of the page after every choice. The control that stands in its place gets it back; where that can no
// longer be used (nothing is left to undo), the one beside it does.
if (!window.explorerKeepsFocus) {
  window.explorerKeepsFocus = true; // once a page, however often this is loaded
  const KINDS = '[role="radio"], [role="combobox"], [role="tab"], button';
  const said = (element) => (element.getAttribute("aria-label") || element.innerText || "").trim();
  const group = (element) => element.closest('[role="radiogroup"]')?.getAttribute("aria-label") || "";
  const running = () => document.querySelector("[data-test-script-state]")?.dataset.testScriptState !== "notRunning";
  let held = null; // what has the focus
  const hold = (target) => {
    if (target.getAttribute?.("role") === "option" && held?.role === "combobox") return; // of its own list, which goes with the choice
    const keyboard = target.matches?.(":focus-visible");
    held = target.matches?.(KINDS) ? { element: target, name: said(target), group: group(target), role: target.getAttribute("role"), keyboard } : null;
  };
  document.addEventListener("focusin", ({ target }) => hold(target));
  document.addEventListener("pointerdown", () => { held = null; }, true);

  function successor() {
    if (held.element.isConnected) return held.element;
    const like = [...document.querySelectorAll(KINDS)].filter((one) => one.getAttribute("role") === held.role && group(one) === held.group);
    const same = like.filter((one) => said(one) === held.name);
    return same.find((one) => !one.disabled) || same[0] || (held.group && like.find((one) => one.getAttribute("aria-checked") === "true"));
  }

  function beside(element) { // the nearest before it in the smallest block that has any, else after it
    for (let block = element.parentElement; block; block = block.parentElement) {
      const able = [...block.querySelectorAll(KINDS)].filter((one) => one === element || (!one.disabled && one.checkVisibility()));
      const at = able.indexOf(element);
      if (able.length > 1) return able[at - 1] || able[at + 1];
    }
    return null;
  }

  new MutationObserver(() => {
    if (!held || (held.element.isConnected && !held.element.disabled) || ![document.body, held.element].includes(document.activeElement)) return;
    let next = successor();
    if (next?.disabled) next = held.keyboard && !running() ? beside(next) : null; // what stands beside it is known once the page is drawn
    if (next) next.focus({ preventScroll: true, focusVisible: held.keyboard });
  }).observe(document.body, { childList: true, subtree: true, attributeFilter: ["disabled", "data-test-script-state"] });
  hold(document.activeElement); // whoever was there before this was loaded
}
