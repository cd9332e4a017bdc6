// What the page was written with, decoded, and the state that all parts share.
const page = JSON.parse(document.getElementById("page").textContent);
const N = page.names.length;
const $ = id => document.getElementById(id);

function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out.buffer;
}
const KINDS = { f4: Float32Array, u1: Uint8Array, u2: Uint16Array, i4: Int32Array };
const array = packed => new KINDS[packed.kind](bytes(packed.data));

// A column has `numbers` (N,), or `codes` (N,) into `values`, whose first stands for nothing known.
const columns = page.columns.map(column => ({
  ...column, ...(column.values ? { codes: array(column.codes) } : { numbers: array(column.numbers) }),
}));
const labels = columns.find(column => column.name === "label");

// A panel is an encoder; it has a frame for each checkpoint, or one.
const panels = page.panels.map(({ name, frames }) => ({
  name,
  frames: frames.map(frame => {
    const known = {
      name: frame.name, projections: {},
      neighbours: array(frame.neighbours), cosines: array(frame.cosines), k: frame.k, dim: frame.dim,
    };
    for (const [kind, { xy, about, preserved }] of Object.entries(frame.projections)) {
      const flat = array(xy), x = new Float32Array(N), y = new Float32Array(N);
      for (let i = 0; i < N; i++) { x[i] = flat[2 * i]; y[i] = flat[2 * i + 1]; }
      known.projections[kind] = { x, y, about, preserved };
    }
    if (frame.predictions) {
      known.prediction = { name: "prediction", values: frame.labels || labels.values, codes: array(frame.predictions) };
      known.sure = { name: "share of the vote", numbers: array(frame.sure) };
    }
    return known;
  }),
}));
const N_FRAMES = Math.max(...panels.map(panel => panel.frames.length));

const state = {
  projection: page.projections[page.projections.length - 1], colour: "label", frame: N_FRAMES - 1, active: 0,
  hovered: -1, pinned: -1, chosen: -1, trail: [], shown: new Uint8Array(N).fill(1), n_shown: N,
  selected: new Uint8Array(N), hidden: new Map(), query: "", errors: false, sound: false, lasso: false,
};

const frameOf = panel => panel.frames[Math.min(state.frame, panel.frames.length - 1)];
const activeFrame = () => frameOf(panels[state.active]);

// All columns as `panel` has them: what is predicted differs between encoders.
function columnsOf(panel) {
  const frame = frameOf(panel);
  return frame.prediction ? [...columns, frame.prediction, frame.sure] : columns;
}
const column = (name, panel = panels[state.active]) => columnsOf(panel).find(item => item.name === name);
const valueOf = (item, i) => item.values ? item.values[item.codes[i]]
  : Number.isFinite(item.numbers[i]) ? `${+item.numbers[i].toPrecision(4)}${item.unit ? " " + item.unit : ""}` : "";
// 1 right, 0 wrong, -1 where label or prediction is not known.
function rightOf(frame, i) {
  if (!labels || !frame.prediction || !labels.codes[i] || !frame.prediction.codes[i]) return -1;
  return +(labels.values[labels.codes[i]] === frame.prediction.values[frame.prediction.codes[i]]);
}
function neighboursOf(i) {
  const { neighbours, cosines, k } = activeFrame();
  return Array.from({ length: k }, (_, n) => ({ at: neighbours[i * k + n], cosine: cosines[i * k + n] }));
}

// Text to search in, made when it is first asked for.
let haystack = null;
function contains(i, words) {
  haystack ??= Array.from({ length: N }, (_, n) =>
    [page.names[n], ...columns.filter(item => item.values).map(item => item.values[item.codes[n]])].join(" ").toLowerCase());
  return words.every(word => haystack[i].includes(word));
}

function filterPoints() {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean), frame = activeFrame();
  const hiding = [...state.hidden].filter(([, codes]) => codes.size).map(([name, codes]) => [column(name), codes]);
  state.n_shown = 0;
  for (let i = 0; i < N; i++) {
    const shown = hiding.every(([item, codes]) => !item || !codes.has(item.codes[i]))
      && (!state.errors || rightOf(frame, i) === 0) && (!words.length || contains(i, words));
    state.shown[i] = +shown;
    state.n_shown += +shown;
  }
}

const isNarrow = () => matchMedia("(max-width: 760px)").matches;

// Small helpers for the document: text goes in as text, never as markup.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) made.setAttribute(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
