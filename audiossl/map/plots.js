// The plots: Bokeh draws the points on the graphics card, pans, zooms and lassoes. What is under the pointer is looked up
// in a grid of our own, and rings lie in a layer above, so that hovering draws no point again.
const { Uint32NDArray } = Bokeh.require("core/util/ndarray");
const REACH = 14;  // pixels from a point at which it is hovered over
const TWEEN_MS = 350, TWEEN_AT_MOST = 6000;
const WHILE_MOVING = 2000, STILL_MS = 250;

// Whether the processor draws, for want of a graphics card: all of 20,000 points take it a third of a second.
const IN_SOFTWARE = (() => {
  const gl = document.createElement("canvas").getContext("webgl");
  const names = gl && gl.getExtension("WEBGL_debug_renderer_info");
  return !gl || /swiftshader|llvmpipe|software/i.test(gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
})();

class Plot {
  constructor(panel, number) {
    this.panel = panel;
    this.number = number;
    this.caption = element("p", { class: "caption" });
    this.place = element("div", { class: "plot" });
    this.rings = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.rings.setAttribute("class", "rings");
    this.box = element("section", { class: "panel", tabindex: 0, "aria-label": `map of ${panel.name}` },
      element("h2", {}, panel.name), this.place, this.caption);
    $("panels").append(this.box);
    this.source = new Bokeh.ColumnDataSource({ data: { x: [], y: [], c: [] } });
    this.x_range = new Bokeh.Range1d({ start: -1, end: 1 });
    this.y_range = new Bokeh.Range1d({ start: -1, end: 1 });
    this.figure = Bokeh.Plotting.figure({
      x_range: this.x_range, y_range: this.y_range, tools: "pan,wheel_zoom,lasso_select", toolbar_location: null,
      output_backend: "webgl", x_axis_type: null, y_axis_type: null, min_border: 0, outline_line_color: null,
      background_fill_color: null, border_fill_color: null, sizing_mode: "stretch_both", lod_threshold: null,
    });
    const size = Math.max(3, Math.min(9, 260 / Math.sqrt(N)));
    const scatter = source => {
      const drawn = this.figure.scatter({ field: "x" }, { field: "y" }, { source, size, fill_color: { field: "c" }, line_color: null });
      drawn.nonselection_glyph = drawn.selection_glyph = null;
      return drawn;
    };
    this.all = scatter(this.source);
    if (N > WHILE_MOVING && IN_SOFTWARE) {
      this.some = scatter(new Bokeh.ColumnDataSource({ data: { x: [], y: [], c: [] } }));
      this.some.visible = false;
    }
    const tool = kind => this.figure.toolbar.tools.find(item => item.type.startsWith(kind));
    this.pan = tool("Pan");
    this.lasso = tool("Lasso");
    this.lasso.continuous = false;
    this.figure.toolbar.active_scroll = tool("WheelZoom");
    this.source.selected.properties.indices.change.connect(() => this.lassoed());
    for (const range of [this.x_range, this.y_range]) range.change.connect(() => { this.thin(); this.soon(); });
  }

  async show() {
    await Bokeh.Plotting.show(this.figure, this.place);
    this.place.append(this.rings);
    withoutOutlines(this.place);
    new ResizeObserver(() => this.fit()).observe(this.place);
    this.move();
    this.fit();
    this.listen();
  }

  get projected() { return frameOf(this.panel).projections[state.projection]; }

  // -- points ------------------------------------------------------------------------------------------------------

  move() {
    const { x, y, about, preserved } = this.projected, frame = frameOf(this.panel);
    this.x = x;
    this.y = y;
    this.grid = null;
    this.source.data = { x, y, c: new Uint32NDArray(packedColours(this.panel).buffer, [N]) };
    const kept = preserved === null ? "" : `; it keeps ${Math.round(100 * preserved)} % of each point's ${page.preserved_k} nearest`;
    this.caption.textContent = `${this.panel.frames.length > 1 ? frame.name + ": " : ""}${page.titles[state.projection]} (${about})${kept}`;
  }

  async tween() {
    const from = { x: this.x, y: this.y }, to = this.projected;
    if (N <= TWEEN_AT_MOST && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
      const begin = performance.now(), turn = this.turn = {};
      for (let share = 0; share < 1;) {
        const now = await new Promise(requestAnimationFrame);
        if (turn !== this.turn) return;
        share = Math.min(1, (now - begin) / TWEEN_MS);
        const eased = share * share * (3 - 2 * share), between = (a, b) => a.map((value, i) => value + eased * (b[i] - value));
        this.x = between(from.x, to.x);
        this.y = between(from.y, to.y);
        this.source.data = { ...this.source.data, x: this.x, y: this.y };
        this.ring();
      }
    }
    this.move();
    this.ring();
  }

  recolour() {
    this.source.data = { ...this.source.data, c: new Uint32NDArray(packedColours(this.panel).buffer, [N]) };
  }

  // While a plot moves some of its points stand for all, where all would be too slow.
  thin() {
    if (!this.some) return;
    if (this.all.visible) {
      const step = Math.ceil(N / WHILE_MOVING), some = values => values.filter((_, i) => i % step === 0);
      const c = some(packedColours(this.panel));
      this.some.data_source.data = { x: some(this.x), y: some(this.y), c: new Uint32NDArray(c.buffer, [c.length]) };
      this.some.visible = true;
      this.all.visible = false;
    }
    clearTimeout(this.still);
    this.still = setTimeout(() => { this.all.visible = true; this.some.visible = false; }, STILL_MS);
  }

  // -- where things are --------------------------------------------------------------------------------------------

  // Every frame of the panel fits, and a step to the right is as long as one up.
  fit() {
    const w = this.place.clientWidth, h = this.place.clientHeight;
    if (!w || !h) return;
    const ends = [Infinity, -Infinity, Infinity, -Infinity];
    for (const frame of this.panel.frames) {
      const { x, y } = frame.projections[state.projection];
      for (let i = 0; i < N; i++) {
        ends[0] = Math.min(ends[0], x[i]); ends[1] = Math.max(ends[1], x[i]);
        ends[2] = Math.min(ends[2], y[i]); ends[3] = Math.max(ends[3], y[i]);
      }
    }
    const a_pixel = 1.1 * Math.max((ends[1] - ends[0]) / w, (ends[3] - ends[2]) / h) || 0.01;
    this.look((ends[0] + ends[1]) / 2, (ends[2] + ends[3]) / 2, a_pixel);
  }
  look(x, y, a_pixel) {
    const w = this.place.clientWidth, h = this.place.clientHeight;
    this.x_range.setv({ start: x - a_pixel * w / 2, end: x + a_pixel * w / 2 });
    this.y_range.setv({ start: y - a_pixel * h / 2, end: y + a_pixel * h / 2 });
  }
  get a_pixel() { return (this.x_range.end - this.x_range.start) / this.place.clientWidth; }

  at(i) {
    const { start: left, end: right } = this.x_range, { start: low, end: high } = this.y_range;
    return [(this.x[i] - left) / (right - left) * this.place.clientWidth,
      (high - this.y[i]) / (high - low) * this.place.clientHeight];
  }

  // A point that was walked to and lies outside, or below a card at the bottom of a phone, comes into view.
  reveal(i) {
    const [px, py] = this.at(i), w = this.place.clientWidth, box = this.place.getBoundingClientRect();
    const covered = isNarrow() ? Math.max(0, box.bottom - $("card").getBoundingClientRect().top) : 0;
    const h = this.place.clientHeight, free = covered < h - 80 ? h - covered : h;
    if (px < 20 || py < 20 || px > w - 20 || py > free - 20) this.look(this.x[i], this.y[i] - (h - free) / 2 * this.a_pixel, this.a_pixel);
  }

  nearest(px, py, reach) {
    this.grid ??= gridOf(this.x, this.y);
    const x = this.x_range.start + px * this.a_pixel, y = this.y_range.end - py * this.a_pixel, far = reach * this.a_pixel;
    let best = -1, least = far * far;
    for (const i of this.grid.around(x, y, far)) {
      const away = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
      if (state.shown[i] && away <= least) { best = i; least = away; }
    }
    return best;
  }

  // -- rings -------------------------------------------------------------------------------------------------------

  soon() {
    this.due ||= requestAnimationFrame(() => { this.due = 0; this.ring(); });
  }
  ring() {
    const parts = [], mark = (kind, i, r) => {
      const [cx, cy] = this.at(i);
      parts.push(svg("circle", { class: kind, cx, cy, r }));
      return [cx, cy];
    };
    if (state.pinned >= 0) {
      const [x1, y1] = this.at(state.pinned);
      neighboursOf(state.pinned).forEach(({ at }, n) => {
        const [x2, y2] = this.at(at);
        parts.push(svg("line", { x1, y1, x2, y2 }));
        mark(n === state.chosen ? "neighbour chosen" : "neighbour", at, 7);
      });
      mark("pinned", state.pinned, 10);
    }
    if (state.hovered >= 0) mark("hovered", state.hovered, 8);
    this.rings.replaceChildren(...parts);
  }

  // -- the pointer -------------------------------------------------------------------------------------------------

  listen() {
    const spot = event => {
      const box = this.place.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    let down = null;
    this.box.addEventListener("focusin", () => activate(this.number));
    this.place.addEventListener("pointermove", event => {
      if (event.pointerType === "mouse" && !event.buttons) hover(this.nearest(...spot(event), REACH), this.number);
    });
    this.place.addEventListener("pointerleave", event => event.pointerType === "mouse" && hover(-1, this.number));
    this.place.addEventListener("pointerdown", event => { down = spot(event); }, true);
    this.place.addEventListener("pointerup", event => {
      const [px, py] = spot(event);
      if (!down || Math.hypot(px - down[0], py - down[1]) > 5) return;
      activate(this.number);
      pin(this.nearest(px, py, event.pointerType === "mouse" ? REACH : 2 * REACH));
    }, true);
    this.place.addEventListener("dblclick", () => this.fit());
  }

  useLasso(on) { this.figure.toolbar.active_drag = on ? this.lasso : this.pan; }
  lassoed() {
    const found = this.source.selected.indices;
    if (found.length) select(found.filter(i => state.shown[i]));
    if (found.length) this.source.selected.indices = [];
  }
}

// Bokeh's parts take the focus when they are clicked on, and outline themselves; the panel around them shows it.
function withoutOutlines(root) {
  const none = new CSSStyleSheet();
  none.replaceSync("*:focus { outline: none !important; }");
  for (const part of root.querySelectorAll("*")) {
    if (!part.shadowRoot) continue;
    part.shadowRoot.adoptedStyleSheets.push(none);
    withoutOutlines(part.shadowRoot);
  }
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Points by the cells of a grid, some four a cell.
function gridOf(x, y) {
  let left = Infinity, right = -Infinity, low = Infinity, high = -Infinity;
  for (let i = 0; i < N; i++) {
    left = Math.min(left, x[i]); right = Math.max(right, x[i]); low = Math.min(low, y[i]); high = Math.max(high, y[i]);
  }
  const side = Math.max(1, Math.ceil(Math.sqrt(N / 4))), wide = (right - left) / side || 1, tall = (high - low) / side || 1;
  const cells = Array.from({ length: side * side }, () => []);
  const part = (value, first, size) => Math.max(0, Math.min(side - 1, Math.floor((value - first) / size)));
  for (let i = 0; i < N; i++) cells[part(y[i], low, tall) * side + part(x[i], left, wide)].push(i);
  return {
    *around(px, py, far) {
      for (let row = part(py - far, low, tall); row <= part(py + far, low, tall); row++) {
        for (let at = part(px - far, left, wide); at <= part(px + far, left, wide); at++) yield* cells[row * side + at];
      }
    },
  };
}
