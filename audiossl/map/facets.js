// The side: what the points are coloured by, the legend and the other columns to filter by.
const LISTED = 200;  // values of a column that are listed

function refilter() {
  filterPoints();
  for (const plot of plots) plot.recolour();
  showCount();
  showFacets();
}
function showCount() {
  $("count").textContent = state.n_shown === N ? `${N} points` : `${state.n_shown} of ${N} points`;
}

function showColours() {
  const names = columnsOf(panels[state.active]).map(item => item.name);
  if (!names.includes(state.colour)) state.colour = names[0] || "";
  $("colour").replaceChildren(...names.map(name => element("option", { value: name, selected: name === state.colour }, name)));
}

function showFacets() {
  const open = new Set([...document.querySelectorAll("#facets details[open]")].map(item => item.dataset.name));
  const items = columnsOf(panels[state.active]);
  const first = items.find(item => item.name === state.colour);
  const others = items.filter(item => item !== first && item.values);
  $("facets").replaceChildren(...[first, ...others].filter(Boolean).map(item =>
    item.values ? facet(item, item === first, item === first || open.has(item.name)) : scale(item)));
}

function facet(item, is_colour, open) {
  const counts = new Int32Array(item.values.length);
  for (let i = 0; i < N; i++) counts[item.codes[i]]++;
  const hidden = state.hidden.get(item.name) || new Set();
  const codes = [...counts.keys()].filter(code => counts[code]);
  if (codes.length > 30) codes.sort((a, b) => counts[b] - counts[a] || a - b);
  const rows = codes.slice(0, LISTED).map(code => {
    const name = item.values[code] || "(none)";
    return element("div", { class: "value" + (hidden.has(code) ? " off" : "") },
      element("button", { role: "switch", "aria-checked": !hidden.has(code), onclick: () => toggle(item, code) },
        element("i", { style: is_colour ? `background:${css(code ? hue(code - 1) : NONE)}` : "" }),
        element("span", {}, name), element("small", {}, String(counts[code]))),
      element("button", { class: "only", title: `only ${name}`, onclick: () => only(item, code, codes) }, "only"));
  });
  const note = codes.length > LISTED ? [element("p", { class: "quiet" }, `The ${LISTED} largest of ${codes.length}; search finds the others.`)] : [];
  const all = hidden.size ? [element("button", { class: "all", onclick: () => setHidden(item, new Set()) }, "show all")] : [];
  const head = element("summary", {}, item.name, ...(hidden.size ? [element("small", {}, ` ${codes.length - hidden.size} of ${codes.length}`)] : []));
  return element("details", { "data-name": item.name, open }, head, ...all, element("div", { class: "values" }, ...rows), ...note);
}
function scale(item) {
  const [low, high] = rangeOf(item), unit = item.unit ? ` ${item.unit}` : "";
  const steps = Array.from({ length: 11 }, (_, n) => css(scaled(n / 10))).join(",");
  return element("div", { class: "scale" }, element("b", {}, item.name),
    element("div", { style: `background:linear-gradient(90deg,${steps})` }),
    element("p", {}, element("span", {}, `${+low.toPrecision(3)}${unit}`), element("span", {}, `${+high.toPrecision(3)}${unit}`)));
}
function toggle(item, code) {
  const hidden = new Set(state.hidden.get(item.name));
  if (!hidden.delete(code)) hidden.add(code);
  setHidden(item, hidden);
}
function only(item, code, codes) {
  setHidden(item, new Set(codes.filter(other => other !== code)));
}
function setHidden(item, hidden) {
  state.hidden.set(item.name, hidden);
  const at = document.activeElement, place = at?.closest?.("#facets details")?.dataset.name;
  const order = place ? [...at.closest("details").querySelectorAll("button")].indexOf(at) : -1;
  refilter();
  // The list was made anew: the keyboard stays where it was.
  if (place) document.querySelector(`#facets details[data-name="${CSS.escape(place)}"]`)?.querySelectorAll("button")[order]?.focus();
}

function setColour(name) {
  state.colour = name;
  showColours();
  for (const plot of plots) plot.recolour();
  showFacets();
}
