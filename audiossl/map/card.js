// The card of a point: its picture, what is known of it, its nearest in the original space; and its sound.
const HOVER_DELAY_MS = 120;
const sheets = new Map();
const media = page.media;

// A sheet of pictures, inside the page or beside it.
function sheet(number) {
  if (!sheets.has(number)) {
    const image = new Image();
    image.src = media.folder ? `pictures/${String(number).padStart(3, "0")}.png`
      : "data:image/png;base64," + $(`pictures-${number}`).textContent;
    sheets.set(number, image);
  }
  return sheets.get(number);
}
function picture(i, scale) {
  const { width, height, columns: across, each } = media.pictures;
  const canvas = element("canvas", { width: width * scale, height: height * scale, role: "img", "aria-label": `spectrogram of ${page.names[i]}` });
  const image = sheet(Math.floor(i / each)), n = i % each;
  const draw = () => {
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = scale > 1;
    context.drawImage(image, (n % across) * width, Math.floor(n / across) * height, width, height, 0, 0, canvas.width, canvas.height);
  };
  if (image.complete && image.naturalWidth) draw();
  else image.addEventListener("load", draw, { once: true });
  return canvas;
}

const silent = new Set(media.silent);
const blocks = new Map();
function soundOf(i) {
  if (!media.sounds || silent.has(i)) return null;
  if (media.folder) {
    const number = String(i).padStart(6, "0");
    return `sounds/${number.slice(0, 3)}/${number}.${media.suffix}`;
  }
  const block = Math.floor(i / media.each);
  if (!blocks.has(block)) blocks.set(block, JSON.parse($(`sounds-${block}`).textContent));
  return `data:${media.mime};base64,${blocks.get(block)[i % media.each]}`;
}

const player = $("sound");
let waiting = 0;
function play(i, delay = 0) {
  clearTimeout(waiting);
  const source = state.sound && i >= 0 ? soundOf(i) : null;
  if (!source) return player.pause();
  waiting = setTimeout(() => {
    player.dataset.point = i;
    player.src = source;
    player.play().catch(() => {});  // a browser may refuse until the page was clicked on
  }, delay);
}
function hush() {
  clearTimeout(waiting);
  player.pause();
}
function enableSound(on) {
  state.sound = on;
  $("sound-switch").setAttribute("aria-pressed", on);
  $("sound-switch").textContent = on ? "Sound on" : "Sound off";
  if (on && state.pinned >= 0) play(state.pinned);
  if (!on) hush();
}

// -- what is under the pointer, and what is pinned -------------------------------------------------------------------

function hover(i, number) {
  if (i === state.hovered) return;
  state.hovered = i;
  for (const plot of plots) { plot.ring(); plot.place.style.cursor = i >= 0 ? "pointer" : ""; }
  if (i >= 0 && number !== state.active && state.pinned < 0) activate(number);
  if (i >= 0) play(i, HOVER_DELAY_MS);
  else hush();
  showCard();
}
function pin(i) {
  state.pinned = i;
  state.chosen = -1;
  state.trail = [];
  location.replace("#" + (i >= 0 ? "clip=" + encodeURIComponent(page.names[i]) : ""));
  for (const plot of plots) plot.ring();
  if (i >= 0) play(i);
  else hush();
  showCard();
  if (i >= 0 && isNarrow()) plots[state.active].reveal(i);
}
// To a neighbour, or back the way: the trail is kept.
function walk(to, trail) {
  state.pinned = to;
  state.chosen = -1;
  state.trail = trail;
  state.hovered = -1;
  play(to);
  showCard();
  for (const plot of plots) { plot.reveal(to); plot.ring(); }
  placeCard($("card"), to);
}
function walkOn() {
  const around = neighboursOf(state.pinned);
  if (!around.length) return;
  const fresh = state.chosen >= 0 ? around[state.chosen] : around.find(({ at }) => !state.trail.includes(at)) || around[0];
  walk(fresh.at, [...state.trail, state.pinned]);
}
function walkBack() {
  if (state.trail.length) walk(state.trail[state.trail.length - 1], state.trail.slice(0, -1));
}
function choose(step) {
  const { k } = activeFrame();
  if (!k) return;
  state.chosen = state.chosen < 0 ? (step > 0 ? 0 : k - 1) : (state.chosen + step + k) % k;
  for (const plot of plots) plot.ring();
  play(neighboursOf(state.pinned)[state.chosen].at);
  showCard();
}

// -- the card --------------------------------------------------------------------------------------------------------

function showCard() {
  const card = $("card"), i = state.pinned >= 0 ? state.pinned : state.hovered;
  card.hidden = i < 0;
  if (i < 0) return;
  card.classList.toggle("is-pinned", state.pinned >= 0);
  card.replaceChildren(...[
    element("header", {}, element("strong", {}, page.names[i]),
      state.pinned >= 0 ? element("button", { onclick: () => pin(-1), "aria-label": "close" }, "×") : ""),
    media.pictures ? picture(i, 4) : "",
    silent.has(i) && media.sounds ? element("p", { class: "quiet" }, "Its sound could not be read.") : "",
    facts(i), state.pinned >= 0 ? around(i) : element("p", { class: "quiet" }, "Click to pin."),
  ].filter(Boolean));
  placeCard(card, i);
}
function facts(i) {
  const rows = columns.map(item => [item.name, valueOf(item, i)]).filter(([, text]) => text);
  const many = panels.length > 1;
  for (const panel of panels) {
    const frame = frameOf(panel);
    if (!frame.prediction || !frame.prediction.codes[i]) continue;
    const right = rightOf(frame, i);
    rows.push([many ? `prediction, ${panel.name}` : "prediction",
      `${valueOf(frame.prediction, i)} (${frame.sure.numbers[i].toFixed(2)})${right < 0 ? "" : right ? " ✓" : " ✗"}`, right]);
  }
  return element("dl", {}, ...rows.flatMap(([name, text, right]) =>
    [element("dt", {}, name), element("dd", { class: right === 0 ? "wrong" : right === 1 ? "right" : "" }, text)]));
}
function around(i) {
  const tiles = neighboursOf(i).map(({ at, cosine }, n) => element("button", {
    class: n === state.chosen ? "chosen" : "", title: page.names[at],
    onclick: () => walk(at, [...state.trail, i]), onpointerenter: () => play(at, HOVER_DELAY_MS),
  }, media.pictures ? picture(at, 1) : "", element("span", {}, labels ? valueOf(labels, at) || "–" : page.names[at].split("/").pop()),
  element("small", {}, cosine.toFixed(2))));
  return element("div", { class: "around" },
    element("p", { class: "quiet" }, `Nearest to it by ${panels[state.active].name}, in all ${activeFrame().dim} dimensions (cosine):`),
    element("div", { class: "tiles" }, ...tiles),
    element("p", { class: "actions" },
      element("button", { onclick: () => play(i) }, "Play"),
      element("button", { onclick: () => select([i], true) }, state.selected[i] ? "Unselect" : "Select"),
      element("button", { onclick: walkBack, disabled: !state.trail.length }, "Back")));
}
// Beside the point, inside the window; on a narrow one the style sheet puts it at the bottom.
function placeCard(card, i) {
  const plot = plots[state.active], box = plot.place.getBoundingClientRect(), [px, py] = plot.at(i);
  const width = card.offsetWidth, height = card.offsetHeight, gap = 18;
  const right = box.left + px + gap + width < innerWidth - 8;
  const left = right ? box.left + px + gap : box.left + px - gap - width;
  card.style.left = `${Math.max(8, Math.min(innerWidth - width - 8, left))}px`;
  card.style.top = `${Math.max(8, Math.min(innerHeight - height - 8, box.top + py - height / 3))}px`;
}
