// The selection: a table of files, copied or saved as CSV.
const SHOWN_ROWS = 300;

// With `toggled` they are added, or taken out where they were in; else they are the selection.
function select(points, toggled = false) {
  if (!toggled) state.selected.fill(0);
  for (const i of points) state.selected[i] = toggled ? 1 - state.selected[i] : 1;
  for (const plot of plots) plot.recolour();
  showTable();
  if (state.pinned >= 0) showCard();
}
const selection = () => Array.from(state.selected.keys()).filter(i => state.selected[i]);

function showTable() {
  const rows = selection(), items = columnsOf(panels[state.active]);
  $("table").hidden = !rows.length;
  $("selected").textContent = `${rows.length} selected${rows.length > SHOWN_ROWS ? `, the first ${SHOWN_ROWS} listed` : ""}`;
  $("rows").replaceChildren(
    element("thead", {}, element("tr", {}, ...["file", ...items.map(item => item.name)].map(name => element("th", {}, name)))),
    element("tbody", {}, ...rows.slice(0, SHOWN_ROWS).map(i => element("tr", { tabindex: 0, "data-point": i,
      onclick: () => { pin(i); plots.forEach(plot => plot.reveal(i)); },
      onkeydown: event => event.key === "Enter" && pin(i) },
    element("td", {}, page.names[i]), ...items.map(item => element("td", {}, valueOf(item, i)))))));
}

function csv() {
  const items = columnsOf(panels[state.active]), plot = plots[state.active];
  const cell = value => {
    let text = String(value);
    if (/^[=+@\t\r]/.test(text)) text = "'" + text;  // a spreadsheet would run it
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const value = (item, i) => item.values ? item.values[item.codes[i]] : Number.isFinite(item.numbers[i]) ? item.numbers[i] : "";
  const head = ["file", ...items.map(item => item.name), "x", "y"];
  const rows = selection().map(i => [page.names[i], ...items.map(item => value(item, i)), plot.x[i], plot.y[i]]);
  return [head, ...rows].map(row => row.map(cell).join(",")).join("\r\n") + "\r\n";
}
function save() {
  const link = element("a", { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })), download: "selection.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
async function copy() {
  try {
    await navigator.clipboard.writeText(csv());
  } catch {  // not allowed: the old way
    const area = element("textarea");
    area.value = csv();
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy as CSV"; }, 1200);
}
