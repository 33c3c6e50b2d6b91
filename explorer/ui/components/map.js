// The map of sparsity and bits: a grid of cells that fill in place; each can be picked, by mouse or by keys, also while others fill.
const node = (tag, className, parent, text = "") => {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  parent?.appendChild(element);
  return element;
};

export function mount(root, { onPick }) {
  const box = node("div", "map", root), grid = node("div", "cells", box), legend = node("div", "legend", box);
  grid.setAttribute("role", "grid");
  let d = null, shape = "", cells = new Map(), at = null; // at: the cell in the tab order
  const key = (row, column) => `${row}/${column}`;

  const build = () => {
    grid.replaceChildren();
    cells = new Map();
    grid.style.gridTemplateColumns = `auto repeat(${d.columns.length}, minmax(0, 1fr))`;
    for (let row = d.rows.length - 1; row >= 0; row--) { // most bits on top
      const line = node("div", "line", grid);
      line.setAttribute("role", "row");
      node("div", "head", line, d.rows[row]).setAttribute("role", "rowheader");
      d.columns.forEach((_, column) => {
        const cell = node("div", "cell empty", line);
        cell.setAttribute("role", "gridcell");
        cell.dataset.at = key(row, column);
        cells.set(key(row, column), { cell, value: node("b", "", cell), size: node("span", "", cell), row, column });
      });
    }
    const line = node("div", "line", grid);
    line.setAttribute("role", "row");
    node("div", "head corner", line, d.text.corner).setAttribute("role", "columnheader");
    for (const name of d.columns) node("div", "head foot", line, name).setAttribute("role", "columnheader");
    at = null;
  };
  const show = () => {
    for (const one of d.cells) {
      const mine = cells.get(key(one.row, one.column)), { cell } = mine;
      cell.className = `cell${one.best ? " best" : ""}${one.complete ? "" : " part"}`;
      cell.style.setProperty("--share", `${Math.round(4 + 52 * one.shade)}%`);
      mine.value.textContent = `${one.complete ? "" : "~"}${one.value}`;
      mine.size.textContent = one.size;
      cell.title = one.title;
      cell.setAttribute("aria-label", one.title.replaceAll("\n", ", "));
      at ??= mine;
    }
    const chosen = d.chosen ? cells.get(key(...d.chosen)) : null;
    if (chosen) at = chosen;
    for (const mine of cells.values()) {
      mine.cell.setAttribute("aria-selected", String(mine === chosen));
      mine.cell.classList.toggle("chosen", mine === chosen);
      if (mine === at) mine.cell.tabIndex = 0; else mine.cell.removeAttribute("tabindex");
    }
    legend.textContent = d.text.frontier;
    grid.setAttribute("aria-label", d.text.label);
  };
  const known = (mine) => mine && !mine.cell.classList.contains("empty");
  const pick = (mine) => { if (known(mine)) { d.chosen = [mine.row, mine.column]; show(); onPick(d.chosen); } };
  const move = (rows, columns) => {
    let mine = at;
    do mine = cells.get(key(mine.row + rows, mine.column + columns)); while (mine && !known(mine));
    if (!mine) return;
    at.cell.removeAttribute("tabindex");
    at = mine;
    at.cell.tabIndex = 0;
    at.cell.focus();
  };
  const stop = new AbortController(), on = (type, run) => grid.addEventListener(type, run, { signal: stop.signal });
  on("click", (e) => pick(cells.get(e.target.closest(".cell")?.dataset.at)));
  on("keydown", (e) => {
    if (!at) return;
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[e.key];
    if (!step && e.key !== "Enter" && e.key !== " ") return;
    e.preventDefault();
    if (step) move(...step); else pick(at);
  });
  return {
    update(next) {
      const fresh = JSON.stringify([next.id, next.rows, next.columns]);
      d = next;
      if (fresh !== shape) { shape = fresh; build(); }
      show();
    },
    destroy() { stop.abort(); box.remove(); },
  };
}

const live = new WeakMap();
export default function ({ parentElement, data, setTriggerValue }) {
  let host = live.get(parentElement);
  if (!host) {
    host = {};
    host.ui = mount(parentElement, { onPick: (at) => host.send("pick", at) });
    live.set(parentElement, host);
  }
  host.send = setTriggerValue;
  host.ui.update(data);
  return () => { host.ui.destroy(); live.delete(parentElement); };
}
