// The network as a strip: a column a layer in forward order; height: parameters (square root), filled: what is left.
// Follows "explorer:drag" events by itself; tells Python which layer was selected or locked.
const LEAST = 10, LABEL = 46; // px: the narrowest column, the narrowest that carries its label

const percent = (x) => `${(100 * x).toFixed(x > 0 && x < 0.1 ? 1 : 0)}%`;
const node = (tag, className, parent) => {
  const element = document.createElement(tag);
  element.className = className;
  parent?.appendChild(element);
  return element;
};
// A padlock, drawn: not every machine has a font with the symbol.
function padlock(shut) {
  const NS = "http://www.w3.org/2000/svg", svg = document.createElementNS(NS, "svg"), path = document.createElementNS(NS, "path");
  svg.setAttribute("viewBox", "0 0 12 14");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", `M2 6h8a1 1 0 0 1 1 1v5a1 1 0 0 1-1 1H2a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1zM3.2 6V3.8a2.8 2.8 0 0 1 5.6 0${shut ? "V6" : ""}`);
  svg.append(path);
  return svg;
}
function dark(colour) {
  const hex = /^#([0-9a-f]{6})/i.exec(colour.trim());
  const rgb = hex ? [0, 2, 4].map((i) => parseInt(hex[1].slice(i, i + 2), 16)) : (colour.match(/[\d.]+/g) || [255, 255, 255]).slice(0, 3).map(Number);
  return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] < 110;
}

export function mount(root, { onSelect, onLock }) {
  const box = node("div", "ovw", root), row = node("div", "row", box);
  row.setAttribute("role", "listbox");
  row.setAttribute("aria-orientation", "horizontal");
  let d = null, cells = new Map();

  const show = (cell, state) => {
    Object.assign(cell.state, state);
    const { sparsity, attenuated, bits } = cell.state, left = 1 - sparsity, fewer = bits < (cell.layer.full ?? 32);
    cell.fill.style.height = `${100 * left}%`;
    cell.soft.style.height = `${100 * Math.min(attenuated || 0, left)}%`;
    cell.rim.hidden = !fewer;
    const parts = [`${percent(left)}`, ...(fewer ? [`${bits} ${d.text.bit}`] : [])];
    cell.text.textContent = parts.join(" · ");
    const l = cell.layer;
    const said = [l.name, l.kind, l.shape, `${l.numel.toLocaleString()} ${d.text.parameters}`, `${percent(sparsity)} ${d.text.sparsity}`,
      ...(fewer ? [`${bits} ${d.text.bits}`] : []), ...(l.locked ? [d.text.locked] : []), ...(l.coupled.length ? [`${d.text.coupled}: ${l.coupled.join(", ")}`] : [])];
    cell.root.title = said.join("\n");
    cell.root.setAttribute("aria-label", said.join(", "));
  };
  const fit = () => {
    if (!d) return;
    box.classList.toggle("dark", dark(getComputedStyle(box).getPropertyValue("--st-background-color")));
    const narrow = (box.clientWidth - 8) / d.layers.length - 6 < LABEL;
    for (const cell of cells.values()) cell.root.classList.toggle("narrow", narrow);
    if (cells.has(d.selected)) inside(cells.get(d.selected));
  };
  // A narrow column's label is wider than its column: it is moved until it stands within the strip.
  const inside = (cell) => {
    cell.name.style.left = "";
    if (!cell.root.classList.contains("narrow")) return;
    const range = document.createRange();
    range.selectNodeContents(cell.name);
    const label = range.getBoundingClientRect(), edge = box.getBoundingClientRect();
    const by = Math.max(edge.left + 2 - label.left, Math.min(0, edge.right - 2 - label.right));
    if (by) cell.name.style.left = `${by}px`;
  };
  const choose = (name, focus) => {
    const cell = cells.get(name);
    if (focus) cell?.root.focus({ preventScroll: true });
    if (name !== d.selected) { mark(name); onSelect(name); }
  };
  const mark = (name) => {
    d.selected = name;
    const coupled = new Set(cells.get(name)?.layer.coupled || []);
    for (const [other, cell] of cells) {
      const mine = other === name;
      cell.root.classList.toggle("selected", mine);
      cell.root.classList.toggle("coupled", coupled.has(other));
      cell.root.setAttribute("aria-selected", String(mine));
      cell.root.tabIndex = mine ? 0 : -1;
    }
    const root = cells.get(name)?.root;
    if (root && (root.offsetLeft < box.scrollLeft || root.offsetLeft + root.offsetWidth > box.scrollLeft + box.clientWidth))
      box.scrollLeft = root.offsetLeft - box.clientWidth / 2;
    if (root) inside(cells.get(name));
  };
  const stop = new AbortController(), on = (target, type, run) => target.addEventListener(type, run, { signal: stop.signal });
  const build = () => {
    row.replaceChildren();
    cells = new Map();
    const most = Math.sqrt(Math.max(...d.layers.map((l) => l.numel), 1));
    box.style.setProperty("--least", `${LEAST}px`);
    let block = null;
    for (const layer of d.layers) {
      const root = node("div", "layer", row);
      if (block !== null && layer.block !== block) root.classList.add("first");
      block = layer.block;
      root.setAttribute("role", "option");
      root.dataset.layer = layer.name;
      const well = node("div", "well", root), bar = node("div", "bar", well);
      const tall = Math.max(6, (66 * Math.sqrt(layer.numel)) / most);
      bar.style.height = `${tall}px`;
      const cell = { root, layer, state: {}, fill: node("div", "fill", bar), soft: node("div", "soft", bar), rim: node("div", "rim", well) };
      const name = (cell.name = node("div", "name", root));
      name.textContent = layer.label;
      cell.text = node("div", "state", root);
      const lock = node("button", "lock", root);
      lock.tabIndex = -1;
      lock.append(padlock(layer.locked));
      lock.style.top = `${Math.max(0, 66 - tall - 15)}px`; // on top of its column
      lock.title = layer.locked ? d.text.unlock : d.text.lock;
      lock.setAttribute("aria-label", lock.title);
      root.classList.toggle("locked", layer.locked);
      lock.addEventListener("click", (e) => { e.stopPropagation(); onLock(layer.name); });
      root.addEventListener("pointerenter", () => inside(cell));
      root.addEventListener("click", () => choose(layer.name, true));
      cells.set(layer.name, cell);
      show(cell, { sparsity: layer.sparsity, attenuated: layer.attenuated, bits: layer.bits });
    }
  };
  on(row, "keydown", (e) => {
    const names = d.layers.map((l) => l.name), at = names.indexOf(document.activeElement?.dataset?.layer ?? box.getRootNode().activeElement?.dataset?.layer ?? d.selected);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: names.length - 1 }[e.key];
    if (to !== undefined) { e.preventDefault(); choose(names[Math.min(Math.max(to, 0), names.length - 1)], true); }
    else if (e.key === "Enter" || e.key === " ") { e.preventDefault(); choose(names[at]); }
    else if (e.key === "l" || e.key === "L") { e.preventDefault(); onLock(names[at]); }
  });
  on(window, "explorer:drag", (e) => {
    for (const [name, state] of Object.entries(e.detail.layers || {})) { const cell = cells.get(name); if (cell) show(cell, state); }
  });
  const watch = new ResizeObserver(fit);
  watch.observe(box);
  return {
    update(next) {
      const focused = box.getRootNode().activeElement?.dataset?.layer;
      d = { ...next };
      row.setAttribute("aria-label", d.text.label);
      build();
      mark(d.selected);
      fit();
      if (focused) cells.get(focused)?.root.focus({ preventScroll: true });
    },
    destroy() { stop.abort(); watch.disconnect(); box.remove(); },
  };
}

const live = new WeakMap();
export default function ({ parentElement, data, setTriggerValue }) {
  let host = live.get(parentElement);
  if (!host) {
    host = {};
    host.ui = mount(parentElement, { onSelect: (name) => host.send("select", name), onLock: (name) => host.send("lock", name) });
    live.set(parentElement, host);
  }
  host.send = setTriggerValue;
  host.ui.update(data);
  return () => { host.ui.destroy(); live.delete(parentElement); };
}
