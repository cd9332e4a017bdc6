// Buttons, keys, and the beginning.
const plots = panels.map((panel, number) => new Plot(panel, number));

function activate(number) {
  if (number === state.active) return;
  state.active = number;
  showActive();
  const predicted = state.errors || [...state.hidden].some(([name, codes]) => name === "prediction" && codes.size);
  if (predicted) refilter();
  else showFacets();
  for (const plot of plots) plot.ring();
  showTable();
}
function showActive() {
  plots.forEach((plot, n) => plot.box.classList.toggle("active", panels.length > 1 && n === state.active));
}
function setProjection(kind) {
  state.projection = kind;
  for (const button of $("projections").children) button.setAttribute("aria-pressed", button.value === kind);
  for (const plot of plots) { plot.tween(); plot.fit(); }
}
function setFrame(number) {
  state.frame = number;
  $("frame").value = number;
  const longest = panels.find(panel => panel.frames.length === N_FRAMES);
  $("frame-name").textContent = longest.frames[number].name;
  filterPoints();
  for (const plot of plots) plot.tween();
  showCount();
  showFacets();
  showCard();
}
function setErrors(on) {
  state.errors = on;
  $("errors").setAttribute("aria-pressed", on);
  refilter();
}
function setLasso(on) {
  state.lasso = on;
  $("lasso").setAttribute("aria-pressed", on);
  for (const plot of plots) plot.useLasso(on);
}
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}
const isDark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
function next(list, item) { return list[(list.indexOf(item) + 1) % list.length]; }

let running = 0;
async function run() {
  const turn = ++running;
  $("run").setAttribute("aria-pressed", true);
  for (let n = state.frame + 1 < N_FRAMES ? state.frame + 1 : 0; n < N_FRAMES && turn === running; n++) {
    setFrame(n);
    await new Promise(done => setTimeout(done, 700));
  }
  if (turn === running) $("run").setAttribute("aria-pressed", false);
}
function stopRunning() {
  running++;
  $("run").setAttribute("aria-pressed", false);
}

// -- keys ------------------------------------------------------------------------------------------------------------

const KEYS = [
  ["→", "to the nearest neighbour that was not passed yet, or to the chosen one"],
  ["←", "back the way one came"],
  ["↑ ↓", "choose among the neighbours, and hear them"],
  ["space", "play again"],
  ["s", "put into the selection, or take out"],
  ["a", "select all that is shown"],
  ["/", "search"],
  ["p", "next projection"],
  ["c", "next column to colour by"],
  ["e", "errors only"],
  ["l", "lasso, or move"],
  ["0", "see all again"],
  ["[ ]", "a checkpoint back, or on"],
  ["m", "sound on, or off"],
  ["t", "light, or dark"],
  ["Esc", "let go: of the pinned point, the search, the selection"],
  ["?", "this list"],
];
const ACTIONS = {
  ArrowRight: () => step(walkOn), ArrowLeft: () => step(walkBack),
  ArrowUp: () => step(() => choose(-1)), ArrowDown: () => step(() => choose(1)),
  " ": () => { if (!state.sound) enableSound(true); else play(state.pinned >= 0 ? state.pinned : state.hovered); },
  s: () => state.pinned >= 0 && select([state.pinned], true),
  a: () => select(Array.from(state.shown.keys()).filter(i => state.shown[i])),
  "/": () => $("search").focus(),
  p: () => setProjection(next(page.projections, state.projection)),
  c: () => setColour(next(columnsOf(panels[state.active]).map(item => item.name), state.colour)),
  e: () => !$("errors").hidden && setErrors(!state.errors),
  l: () => setLasso(!state.lasso),
  0: () => plots.forEach(plot => plot.fit()),
  "[": () => N_FRAMES > 1 && setFrame(Math.max(0, state.frame - 1)),
  "]": () => N_FRAMES > 1 && setFrame(Math.min(N_FRAMES - 1, state.frame + 1)),
  m: () => enableSound(!state.sound),
  t: () => setTheme(isDark() ? "light" : "dark"),
  Escape: letGo,
  "?": () => $("help").showModal(),
};
// The first arrow pins what is in the middle of the points that are shown.
function step(action) {
  if (state.pinned >= 0) return action();
  const plot = plots[state.active], w = plot.place.clientWidth, h = plot.place.clientHeight;
  const found = state.hovered >= 0 ? state.hovered : plot.nearest(w / 2, h / 2, Math.hypot(w, h));
  if (found >= 0) { pin(found); plot.reveal(found); }
}
function letGo() {
  if (state.pinned >= 0) pin(-1);
  else if (state.query) search("");
  else select([]);
}
function search(text) {
  state.query = text;
  $("search").value = text;
  refilter();
}
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const typing = event.target.matches("input[type=search], select, textarea");
  if (typing) {
    if (event.key === "Escape") { search(""); event.target.blur(); }
    return;
  }
  if (event.key === " " && event.target.matches("button, summary")) return;  // theirs
  if (event.key.startsWith("Arrow") && event.target.matches("input[type=range]")) return;
  const action = ACTIONS[event.key];
  if (action) { event.preventDefault(); action(); }
});

// -- the beginning ---------------------------------------------------------------------------------------------------

function listen() {
  $("projections").replaceChildren(...page.projections.map(kind =>
    element("button", { value: kind, "aria-pressed": kind === state.projection, onclick: () => setProjection(kind) }, page.titles[kind])));
  $("projections").hidden = page.projections.length < 2;
  $("errors").hidden = !labels || !panels.some(panel => panel.frames.some(frame => frame.prediction));
  $("sound-switch").hidden = !media.sounds;
  $("frames").hidden = N_FRAMES < 2;
  $("frame").max = N_FRAMES - 1;
  $("frame").value = state.frame;
  const on = (id, kind, action) => $(id).addEventListener(kind, action);
  on("colour", "change", event => setColour(event.target.value));
  on("search", "input", event => search(event.target.value));
  on("errors", "click", () => setErrors(!state.errors));
  on("lasso", "click", () => setLasso(!state.lasso));
  on("all", "click", ACTIONS[0]);
  on("sound-switch", "click", () => enableSound(!state.sound));
  on("theme", "click", ACTIONS.t);
  on("keys", "click", ACTIONS["?"]);
  on("frame", "input", event => { stopRunning(); setFrame(+event.target.value); });
  on("run", "click", () => $("run").getAttribute("aria-pressed") === "true" ? stopRunning() : run());
  on("copy", "click", copy);
  on("save", "click", save);
  on("clear", "click", () => select([]));
  $("help-keys").replaceChildren(...KEYS.flatMap(([key, text]) => [element("dt", {}, key), element("dd", {}, text)]));
  addEventListener("scroll", () => !$("card").hidden && showCard(), { passive: true });
  if (isNarrow()) $("side").open = false;
}

// The clip of the address (#clip=NAME), or the one that the page was made for.
function firstClip() {
  const named = decodeURIComponent((location.hash.match(/^#clip=(.*)$/) || [])[1] || "");
  const found = page.names.indexOf(named);
  return found >= 0 ? found : page.start;
}

async function start() {
  listen();
  if (!columns.some(item => item.name === state.colour)) state.colour = columns[0]?.name || "";
  filterPoints();
  showColours();
  showCount();
  showFacets();
  showActive();
  if (N_FRAMES > 1) $("frame-name").textContent = panels.find(panel => panel.frames.length === N_FRAMES).frames[state.frame].name;
  await Promise.all(plots.map(plot => plot.show()));
  setLasso(false);
  const first = firstClip();
  if (first >= 0) { pin(first); plots.forEach(plot => plot.reveal(first)); }
  window.audiosslMap = { state, plots, names: page.names };  // to look at, and for tests
  document.documentElement.dataset.ready = "true";
}
start();
