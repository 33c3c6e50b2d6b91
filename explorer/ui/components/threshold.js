// The threshold of a layer: a histogram (or a group's units, sorted) with a handle to drag.
// One ES module, two hosts: Streamlit components v2 and anywidget. No framework, no network, no eval.
const NS = "http://www.w3.org/2000/svg";
const TOP = 30, BOTTOM = 24, STRIP = 26; // px of the drawing kept free: above, for the axis, for the levels' own axis
const LEAST = 0.05, MOST = 0.95; // the factor of a soft mode never reaches 0 or 1

const make = (tag, attributes, parent) => {
  const element = document.createElementNS(NS, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.appendChild(element);
  return element;
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const number = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e4 ? String(+value.toPrecision(3)) : value.toExponential(1));
export const bytes = (n) => (n >= 1e6 ? `${(n / 1e6).toPrecision(3)} MB` : n >= 1e3 ? `${(n / 1e3).toPrecision(3)} kB` : `${Math.round(n)} B`);

// Round numbers between lo and hi, about `count` of them.
export function rounds(lo, hi, count = 6) {
  const raw = (hi - lo) / count, power = 10 ** Math.floor(Math.log10(raw)), step = power * [1, 2, 5, 10].find((m) => m * power >= raw * 0.999);
  const from = Math.ceil(lo / step - 1e-9), to = Math.floor(hi / step + 1e-9);
  return step > 0 ? Array.from({ length: to - from + 1 }, (_, i) => (from + i) * step) : [lo];
}

// Fraction of n scores <= t, from evenly spaced quantiles q: binary search, then linear in between.
export function fraction(q, t, n = 1e9) {
  const last = q.length - 1, index = (i) => Math.round((i * (n - 1)) / last);
  if (t < q[0]) return 0;
  if (t >= q[last]) return 1;
  let a = 0, b = last;
  while (b - a > 1) { const m = (a + b) >> 1; if (q[m] <= t) a = m; else b = m; }
  return (Math.floor(index(a) + ((t - q[a]) / (q[b] - q[a])) * (index(b) - index(a))) + 1) / n;
}

// Bytes of the layer at a sparsity: the smallest of dense, bitmap and CSR, as Python counts them.
// Dense has no place for zeros where zero is no code (`zero` false).
export function size({ n, rows, bits, overhead, zero = true }, sparsity) {
  const kept = Math.round(n * (1 - sparsity)), values = Math.ceil((kept * bits) / 8);
  return Math.min(zero || kept === n ? Math.ceil((n * bits) / 8) : Infinity, Math.ceil(n / 8) + values, kept * 4 + (rows + 1) * 4 + values) + overhead;
}

// At most one value in flight, the newest kept; a final one always goes out. The counter outlives a remount: Python drops
// numbers that it has already seen. A hand that rests asks again, as long as an answer says that there is more to know.
export function sender(send, { every = 30, patience = 3000, rest = 250, now = () => performance.now(), counter = { seq: 0 } } = {}) {
  let waiting = 0, sent = -1e9, pending = null, timer = 0, last = null, again = 0;
  const flush = () => {
    clearTimeout(timer);
    timer = 0;
    if (!pending) return;
    const t = now();
    if (!pending.final) {
      const held = waiting && t - sent < patience ? patience - (t - sent) : every - (t - sent);
      if (held > 0) { timer = setTimeout(flush, held); return; }
    }
    waiting = ++counter.seq;
    sent = t;
    last = pending;
    const value = { ...pending, seq: waiting };
    pending = null;
    send(value);
  };
  return {
    push(value) { clearTimeout(again); pending = value; flush(); },
    acked(n, more = false) {
      counter.seq = Math.max(counter.seq, n || 0);
      if (!waiting || n < waiting) return;
      waiting = 0;
      clearTimeout(again);
      if (more && !pending && !last.final) again = setTimeout(() => { pending = { ...last, rest: true }; flush(); }, rest);
      flush();
    },
    get settled() { return !waiting && !pending; },
    stop() { clearTimeout(timer); clearTimeout(again); },
  };
}

export function mount(root, { onChange }) {
  const box = document.createElement("div");
  box.className = "thr";
  const svg = make("svg", {}, box);
  const read = document.createElement("div");
  read.className = "read";
  read.setAttribute("aria-live", "off");
  const hint = document.createElement("div");
  hint.className = "hint";
  hint.hidden = true;
  const tip = document.createElement("div");
  tip.className = "tip";
  box.append(read, hint, tip);
  root.append(box);
  const shade = make("rect", { class: "shade", y: TOP - 8 }, svg);
  const kept = make("path", { class: "kept" }, svg), gone = make("path", { class: "gone" }, svg), ghost = make("path", { class: "ghost" }, svg);
  const axis = make("line", { class: "axis", x1: 0 }, svg), ticks = make("g", {}, svg), marks = make("g", {}, svg);
  const track = make("line", { class: "factor-track" }, svg), fill = make("line", { class: "factor-fill" }, svg);
  const grips = [-1, 1].map((sign) => make("rect", { class: "grip", width: 26, y: 0, "data-sign": sign }, svg));
  const lines = [-1, 1].map(() => make("line", { class: "line", y1: TOP - 8 }, svg));
  const knobs = [-1, 1].map((sign) => make("circle", { class: sign > 0 ? "knob main" : "knob", r: 7, cy: TOP - 14 }, svg));
  const now = make("text", { class: "now", y: TOP - 10 }, svg);
  const main = grips[1];
  const factor = make("rect", { class: "grip factor", width: 26, height: 26, role: "slider", tabindex: 0 }, svg);
  const factorKnob = make("rect", { class: "knob", width: 12, height: 12, rx: 2 }, svg);
  main.setAttribute("role", "slider");
  let d = null, value = { t: 0, k: 0, factor: 0.5, low: 0, high: 0 }, side = 1, W = 700, H = 232, frame = 0, dragging = "", approximate = false;
  let held = 0; // px between the pointer and the middle of what it holds, so that nothing jumps when it is grabbed

  let pointer = null; // the finger that drags: a second one changes nothing

  const units = () => d.view === "units";
  const clip = () => d.view === "clip"; // an activation between two bounds, which are dragged by themselves
  const signed = () => d.view === "weights";
  const soft = () => d.mode === "scale";
  const base = () => H - BOTTOM - (strip() ? STRIP : 0);
  const strip = () => d.view === "scores" && d.levels;
  const width = () => W - (soft() ? 30 : 0);
  const top = () => (signed() ? unwarp(d.hi) : d.q[d.q.length - 1]);
  const warp = (v) => Math.sign(v) * Math.abs(v) ** (d.warp || 1); // scores crowd near 0: lo and hi are warped, thresholds are not
  const unwarp = (u) => Math.sign(u) * Math.abs(u) ** (1 / (d.warp || 1));
  const x = (v) => ((warp(v) - d.lo) / (d.hi - d.lo || 1)) * width();
  const limit = () => d.scores.length - (d.all ? 0 : 1); // at least one unit stays; of blocks all may go
  const place = (sign = 1) => (clip() ? clamp(x(sign < 0 ? value.low : value.high), 0, width()) : units() ? (value.k / d.scores.length) * width() : x(sign * value.t));
  const share = () => (units() ? value.k / d.scores.length : value.t <= 0 && signed() ? 0 : fraction(d.q, value.t, d.n));

  const bars = (from, to, heights, map = (i) => i) => {
    let path = "";
    const n = heights.length, w = width() / n, gap = w > 3 ? 1 : 0.3;
    for (let i = from; i < to; i++) if (heights[i] > 0)
      path += `M${(map(i) * w + gap / 2).toFixed(1)} ${base()}v${(-heights[i]).toFixed(1)}h${(w - gap).toFixed(2)}v${heights[i].toFixed(1)}z`;
    return path;
  };
  const heights = () => {
    const low = units() ? Math.min(0, ...d.scores) : 0, source = units() ? d.scores.map((s) => s - low) : d.counts, most = Math.max(...source, 1e-30), room = base() - TOP;
    const scaled = (c) => (!units() && d.log ? Math.log1p(c) / Math.log1p(most) : c / most);
    return source.map((c) => (c > 0 ? Math.max(scaled(c) * room, 1) : 0));
  };
  let tall = [];

  const paint = () => {
    frame = 0;
    if (!d) return;
    const n = tall.length, w = width();
    if (units()) {
      gone.setAttribute("d", bars(0, value.k, tall));
      kept.setAttribute("d", bars(value.k, n, tall));
      shade.setAttribute("x", 0);
      shade.setAttribute("width", Math.max(0, place()));
      ghost.setAttribute("d", soft() ? bars(0, value.k, tall.map((h) => h * value.factor)) : "");
    } else if (clip()) {
      const [a, b] = [value.low, value.high].map((v) => clamp(Math.round(((v - d.lo) / (d.hi - d.lo || 1)) * n), 0, n));
      kept.setAttribute("d", bars(a, b, tall));
      gone.setAttribute("d", bars(0, a, tall) + bars(b, n, tall));
      shade.setAttribute("width", 0);
      ghost.setAttribute("d", "");
    } else {
      const edge = (v) => clamp(Math.round(((warp(v) - d.lo) / (d.hi - d.lo || 1)) * n), 0, n);
      const cuts = value.t > 0 || !signed();
      const left = signed() ? edge(-value.t) : 0, right = cuts ? edge(value.t) : left;
      gone.setAttribute("d", bars(left, right, tall));
      kept.setAttribute("d", bars(0, left, tall) + bars(right, n, tall));
      const from = signed() ? x(-value.t) : 0, to = x(value.t);
      shade.setAttribute("x", clamp(from, 0, w));
      shade.setAttribute("width", cuts ? Math.max(0, clamp(to, 0, w) - clamp(from, 0, w)) : 0);
      ghost.setAttribute("d", signed() && value.t > 0 ? moved(n, left, right) : "");
    }
    shade.setAttribute("height", Math.max(0, base() - TOP + 8));
    for (const i of [0, 1]) {
      const at = place(i ? 1 : -1), show = i === 1 || signed() || clip();
      for (const part of [grips[i], lines[i], knobs[i]]) part.style.display = show && !(d.locked && part !== grips[i]) ? "" : "none";
      grips[i].setAttribute("x", at - 13);
      grips[i].setAttribute("height", base());
      lines[i].setAttribute("x1", at);
      lines[i].setAttribute("x2", at);
      lines[i].setAttribute("y2", base());
      knobs[i].setAttribute("cx", at);
    }
    const at = place(), end = at > w * 0.8;
    now.setAttribute("x", end ? at - 14 : at + 14);
    now.setAttribute("text-anchor", end ? "end" : "start");
    now.textContent = clip() ? "" : units() ? `${value.k} / ${d.scores.length} ${d.text.units}` : `${d.text.score} ≤ ${number(value.t)}`;
    if (soft()) {
      const y = factorY();
      factor.setAttribute("x", W - 22);
      factor.setAttribute("y", y - 13);
      factorKnob.setAttribute("x", W - 15);
      factorKnob.setAttribute("y", y - 6);
      for (const line of [track, fill]) { line.setAttribute("x1", W - 9); line.setAttribute("x2", W - 9); line.setAttribute("y2", base()); }
      track.setAttribute("y1", TOP);
      fill.setAttribute("y1", y);
    }
    for (const part of [factor, factorKnob, track, fill]) part.style.display = soft() ? "" : "none";
    const shown = !hint.hidden;
    if (shown) { hint.style.left = `${at}px`; hint.classList.toggle("left", at > w * 0.72); }
    say();
  };
  // Where soft weights go: scaled by the factor, or every weight moved towards zero by t.
  const moved = (n, left, right) => {
    if (d.mode !== "scale" && d.mode !== "shrink") return "";
    const to = new Array(n).fill(0), step = (d.hi - d.lo) / n;
    for (let i = 0; i < n; i++) {
      const v = unwarp(d.lo + (i + 0.5) * step), inside = i >= left && i < right;
      if (soft() && !inside) continue;
      const v2 = soft() ? v * value.factor : Math.sign(v) * Math.max(Math.abs(v) - value.t, 0);
      to[clamp(Math.floor((warp(v2) - d.lo) / step), 0, n - 1)] += d.counts[i];
    }
    const most = Math.max(...d.counts, 1), room = base() - TOP, w = width() / n;
    let path = "", open = false;
    for (let i = 0; i < n; i++) {
      const h = Math.min((d.log ? Math.log1p(to[i]) / Math.log1p(most) : to[i] / most) * room, room + 6);
      if (to[i] > 0) path += `${open ? "" : `M${(i * w).toFixed(1)} ${base()}`}V${(base() - h).toFixed(1)}H${((i + 1) * w).toFixed(1)}`;
      else if (open) path += `V${base()}`;
      open = to[i] > 0;
    }
    return open ? `${path}V${base()}` : path;
  };
  const factorY = () => TOP + (1 - value.factor) * (base() - TOP);
  const say = () => {
    const s = share(), exact = !approximate && d.readout, about = exact ? "" : "≈ ";
    const part = (label, text, more = "") => `<span>${label} <b>${text}</b>${more}</span>`;
    if (d.locked) { read.innerHTML = `<span class="why"></span>`; read.firstChild.textContent = d.locked; }
    else if (clip()) {
      const out = d.counts.reduce((sum, c, i) => { const v = d.lo + ((i + 0.5) * (d.hi - d.lo)) / d.counts.length; return sum + (v < value.low || v > value.high ? c : 0); }, 0);
      read.innerHTML = part(d.text.low, number(value.low)) + part(d.text.high, number(value.high)) + part(d.text.clipped, `${((100 * out) / (d.n || 1)).toFixed(2)} %`) + `<span>${d.text.zeros}</span>`;
    } else {
      const cut = exact && !units() ? d.readout.cut : s;
      let html = units() ? part(d.text.units, `${value.k} ${d.text.of} ${d.scores.length}`) : part(d.text.threshold, number(value.t));
      html += part(soft() ? d.text.attenuated : d.text.cut, `${about}${(100 * cut).toFixed(1)} %`);
      if (soft()) html += part(d.text.factor, value.factor.toFixed(2));
      read.innerHTML = html;
    }
    if (exact && d.readout.removed > 0) read.insertAdjacentHTML("beforeend", part(d.text.removed, `${(100 * d.readout.removed).toFixed(1)} %`));
    if (d.levels) read.insertAdjacentHTML("beforeend", part(d.text.levels, d.levels.length) + (d.readout?.sqnr != null && Number.isFinite(d.readout.sqnr) ? part(d.text.error, `${d.readout.sqnr.toFixed(1)} dB SQNR`) : ""));
    if (!units() && !clip()) {
      const now = exact ? d.readout.bytes : size(d.size, soft() ? 0 : s);
      read.insertAdjacentHTML("beforeend", part(d.text.size, `${about}${bytes(now)}`, ` ${d.text.of} ${bytes((d.size.n * (d.size.full ?? 32)) / 8)}`));
    }
    if (clip()) {
      for (const [grip, v] of [[grips[0], value.low], [main, value.high]]) { grip.setAttribute("aria-valuenow", v.toPrecision(5)); grip.setAttribute("aria-valuetext", number(v)); }
      return;
    }
    main.setAttribute("aria-valuenow", units() ? value.k : value.t.toPrecision(5));
    main.setAttribute("aria-valuetext", units() ? `${value.k} ${d.text.of} ${d.scores.length} ${d.text.units}` : `${number(value.t)}, ${(100 * s).toFixed(1)} % ${d.text.cut}`);
    factor.setAttribute("aria-valuenow", value.factor.toFixed(2));
  };
  const draw = () => {
    W = box.clientWidth || 700;
    H = svg.clientHeight || 232;
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    tall = heights();
    axis.setAttribute("x2", width());
    axis.setAttribute("y1", base());
    axis.setAttribute("y2", base());
    ticks.replaceChildren();
    const label = (at, text) => {
      const anchor = at < 12 ? "start" : at > width() - 12 ? "end" : "middle";
      make("text", { class: "tick", x: at, y: base() + 17, "text-anchor": anchor }, ticks).textContent = text;
    };
    if (!units()) for (const u of rounds(d.lo, d.hi)) label(((u - d.lo) / (d.hi - d.lo || 1)) * width(), number(unwarp(u)));
    else { label(0, `← ${d.text.cut}`); label(width(), `${d.text.kept} →`); }
    marks.replaceChildren();
    if (d.levels && !units()) {
      const own = strip(), lo = own ? d.levels_lo : d.lo, hi = own ? d.levels_hi : d.hi, y = own ? H - 8 : base();
      if (own) make("line", { class: "strip", x1: 0, x2: width(), y1: y, y2: y }, marks);
      for (const level of d.levels) {
        const at = own ? ((level - lo) / (hi - lo || 1)) * width() : x(level);
        if (at >= -1 && at <= width() + 1) make("line", { class: "level", x1: at, x2: at, y1: y - (own ? 9 : 0), y2: y + (own ? 0 : 7) }, marks);
      }
    }
    const off = Boolean(d.locked);
    box.classList.toggle("off", off);
    const pair = clip() ? [[grips[0], d.text.low_label]] : [];
    for (const name of clip() ? [] : ["role", "aria-label"]) grips[0].removeAttribute(name);
    if (!clip()) grips[0].setAttribute("tabindex", "-1"); // without it, listening to blur makes it a stop of the Tab key
    if (clip()) { grips[0].setAttribute("role", "slider"); grips[0].setAttribute("aria-valuemin", d.lo); grips[0].setAttribute("aria-valuemax", 0); }
    for (const [grip, name] of [[main, d.text.label], [factor, d.text.factor_label], ...pair]) {
      grip.setAttribute("aria-label", name);
      grip.setAttribute("aria-disabled", String(off));
      if (off) grip.removeAttribute("tabindex"); else grip.setAttribute("tabindex", "0");
    }
    main.setAttribute("aria-valuemin", units() || clip() ? 0 : Math.min(0, d.q[0]));
    main.setAttribute("aria-valuemax", units() ? limit() : clip() ? d.hi : top());
    factor.setAttribute("aria-valuemin", LEAST);
    factor.setAttribute("aria-valuemax", MOST);
    const background = getComputedStyle(box).getPropertyValue("--st-background-color");
    box.classList.toggle("dark", dark(background));
    paint();
  };
  const set = (next, final) => {
    value = { ...value, ...next };
    value.factor = clamp(value.factor, LEAST, MOST);
    if (clip()) { value.low = clamp(value.low, Math.min(d.lo, 0), 0); value.high = clamp(value.high, 0, Math.max(d.hi, 0)); }
    else if (units()) { value.k = clamp(Math.round(value.k), 0, limit()); value.t = value.k ? d.scores[value.k - 1] : 0; }
    else value.t = clamp(value.t, Math.min(0, d.q[0]), top());
    approximate = true;
    hint.hidden = true;
    if (!frame) frame = requestAnimationFrame(paint);
    if (!clip()) window.dispatchEvent(new CustomEvent("explorer:drag", { detail: { layers: { [d.layer]: units() || soft() ? {} : { sparsity: share() } } } }));
    onChange({ ...value, final, id: d.id });
  };
  const atPointer = (event) => {
    const px = clamp(event.clientX - svg.getBoundingClientRect().left - held, 0, width());
    if (units()) return { k: Math.round((px / width()) * d.scores.length) };
    const v = unwarp(d.lo + (px / width()) * (d.hi - d.lo));
    if (clip()) return side < 0 ? { low: Math.min(v, 0) } : { high: Math.max(v, 0) };
    return { t: signed() ? Math.abs(v) : v };
  };
  const factorAt = (event) => ({ factor: +(1 - (event.clientY - svg.getBoundingClientRect().top - held - TOP) / (base() - TOP)).toFixed(2) });
  const stop = new AbortController(), on = (target, type, run) => target.addEventListener(type, run, { signal: stop.signal });
  const mine = (e) => dragging && e.pointerId === pointer;
  for (const grip of [...grips, factor]) {
    const read = grip === factor ? factorAt : atPointer;
    on(grip, "pointerdown", (e) => {
      if (d.locked || e.button || dragging) return;
      pointer = e.pointerId;
      dragging = grip === factor ? "factor" : "t";
      side = grip === grips[0] ? -1 : 1;
      const box = svg.getBoundingClientRect();
      held = grip === factor ? e.clientY - box.top - factorY() : e.clientX - box.left - place(+grip.dataset.sign);
      grip.setPointerCapture(e.pointerId);
      (grip === factor || clip() ? grip : main).focus({ preventScroll: true });
      e.preventDefault();
    });
    on(grip, "pointermove", (e) => { if (mine(e)) set(read(e), false); });
    on(grip, "pointerup", (e) => { if (mine(e)) { dragging = ""; set(read(e), true); } });
    on(grip, "pointercancel", () => { if (dragging) { dragging = ""; set({}, true); } });
  }
  let keyed = false;
  const keys = (field) => (e) => {
    if (d.locked || (field === "low" && !clip())) return;
    if (clip()) { clipKeys(e, field); return; }
    const max = field === "factor" ? MOST : units() ? limit() : top(), min = field === "factor" ? LEAST : units() ? 0 : Math.min(0, d.q[0]);
    const name = field === "factor" ? "factor" : units() ? "k" : "t", v = value[name];
    const small = field === "factor" ? 0.01 : 1, big = field === "factor" ? 0.1 : Math.max(1, Math.round(max / 20));
    const by = (share) => (name === "t" ? unwarp(warp(v) + share * (warp(max) - warp(min))) : v + Math.sign(share) * (Math.abs(share) > 0.01 ? big : small));
    const to = { ArrowRight: by(0.005), ArrowUp: by(0.005), ArrowLeft: by(-0.005), ArrowDown: by(-0.005), PageUp: by(0.05), PageDown: by(-0.05), Home: min, End: max }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    e.stopPropagation();
    keyed = true;
    set({ [name]: name === "factor" ? +to.toFixed(2) : to }, false);
  };
  const clipKeys = (e, field) => {
    const name = field === "low" ? "low" : "high", [min, max] = name === "low" ? [d.lo, 0] : [0, d.hi], small = (d.hi - d.lo) / 200;
    const to = { ArrowRight: small, ArrowUp: small, ArrowLeft: -small, ArrowDown: -small, PageUp: 10 * small, PageDown: -10 * small }[e.key];
    const end = { Home: min, End: max }[e.key];
    if (to === undefined && end === undefined) return;
    e.preventDefault();
    e.stopPropagation();
    keyed = true;
    set({ [name]: end ?? clamp(value[name] + to, min, max) }, false);
  };
  const settle = () => { if (keyed) { keyed = false; set({}, true); } };
  for (const [grip, field] of [[main, "t"], [factor, "factor"], [grips[0], "low"]]) {
    on(grip, "keydown", keys(field));
    on(grip, "keyup", settle);
    on(grip, "blur", settle);
  }
  on(svg, "pointermove", (e) => {
    if (dragging || !d || !units()) { tip.textContent = ""; return; }
    const i = clamp(Math.floor(((e.clientX - svg.getBoundingClientRect().left) / width()) * d.scores.length), 0, d.scores.length - 1);
    tip.textContent = `${d.text.unit} ${d.units[i]}: ${number(d.scores[i])}`;
  });
  on(svg, "pointerleave", () => { tip.textContent = ""; });
  const watch = new ResizeObserver(() => d && draw());
  watch.observe(box);
  return {
    update(next, settled) {
      const fresh = !d || next.id !== d.id;
      d = next;
      if (fresh) { dragging = ""; keyed = false; }
      if (fresh || settled) approximate = !next.readout; // Python has answered the newest value
      if (!dragging && !keyed && (fresh || settled)) value = { ...value, ...next.value };
      hint.hidden = !(next.hint && !next.locked && !dragging);
      hint.textContent = next.text.hint;
      draw();
      if (!next.layers) return;
      const ahead = (dragging || keyed) && !settled && !units() && !soft() && !clip(); // an older answer does not take the moving layer back
      const layers = ahead ? { ...next.layers, [next.layer]: { ...next.layers[next.layer], sparsity: share() } } : next.layers;
      window.dispatchEvent(new CustomEvent("explorer:drag", { detail: { layers } }));
    },
    destroy() { stop.abort(); watch.disconnect(); if (frame) cancelAnimationFrame(frame); box.remove(); },
  };
}

// Whether a CSS colour is dark.
export function dark(colour) {
  const hex = /^#([0-9a-f]{6})/i.exec(colour.trim());
  const rgb = hex ? [0, 2, 4].map((i) => parseInt(hex[1].slice(i, i + 2), 16)) : (colour.match(/[\d.]+/g) || [255, 255, 255]).slice(0, 3).map(Number);
  return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] < 110;
}

const live = new WeakMap(), counter = { seq: 0 };
function streamlit({ parentElement, data, setStateValue }) {
  let host = live.get(parentElement);
  if (!host) {
    host = { send: setStateValue };
    host.tx = sender((value) => host.send("value", value), { counter });
    host.ui = mount(parentElement, { onChange: (value) => host.tx.push(value) });
    live.set(parentElement, host);
  }
  host.send = setStateValue;
  host.tx.acked(data.ack || 0, data.more);
  host.ui.update(data, host.tx.settled);
  return () => { host.tx.stop(); host.ui.destroy(); live.delete(parentElement); };
}

function anywidget({ model, el }) {
  const tx = sender((value) => { model.set("value", value); model.save_changes(); }, { counter });
  const ui = mount(el, { onChange: (value) => tx.push(value) });
  const update = () => { const data = model.get("data"); tx.acked(data.ack || 0); ui.update(data, tx.settled); };
  model.on("change:data", update);
  update();
  return () => { model.off("change:data", update); tx.stop(); ui.destroy(); };
}

// Streamlit calls the default export with a component; anywidget calls it without and wants { render }.
export default (component) => (component && component.setStateValue ? streamlit(component) : { render: anywidget });
