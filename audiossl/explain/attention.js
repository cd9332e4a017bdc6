// Draws the attention of the chosen block and head over the spectrogram, from the cell that was clicked.
{
  const page = document.querySelector(".looking");
  const form = page.querySelector(".controls");
  const frame = page.querySelector(".query");
  const plot = frame.querySelector(".plot");
  const readout = page.querySelector(".readout");
  const heads = page.querySelector(".heads");
  const mass = +frame.dataset.mass;
  const query = { across: +frame.dataset.across, up: +frame.dataset.up };

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const blocks = [...page.querySelectorAll(".block")].map((item) => ({
    ...JSON.parse(item.dataset.facts),
    weights: bytes(item.dataset.weights),
    peaks: new Float32Array(bytes(item.dataset.peaks).buffer),
    tokens: new Int32Array(bytes(item.dataset.tokens).buffer),
    windows: new Int32Array(bytes(item.dataset.windows).buffer),
  }));

  // Row and column of the cell at the query; of the columns only every step-th is kept.
  const cellOf = (block) => {
    const [rows, columns] = block.grid;
    const row = Math.min(rows - 1, Math.floor(query.up / block.size[0]));
    const column = Math.min(columns - 1, Math.floor(query.across / block.size[1]));
    return [row, column - (column % block.step)];
  };

  const asksToken = (block) => block.token && form.elements.token?.checked;

  // Weights of all cells, NaN where the query cannot look.
  const mapOf = (block, head) => {
    const [rows, columns] = block.grid;
    const [row, column] = cellOf(block);
    const index = asksToken(block)
      ? block.windows.length - 1
      : row * Math.ceil(columns / block.step) + column / block.step;
    const length = block.weights.length / (block.windows.length * block.heads);
    const tokens = block.tokens.subarray(block.windows[index] * length, (block.windows[index] + 1) * length);
    const map = new Float32Array(rows * columns).fill(NaN);
    const chosen = head ? [head - 1] : [...Array(block.heads).keys()];
    for (const one of chosen) {
      const place = index * block.heads + one;
      tokens.forEach((cell, key) => {
        const level = block.weights[place * length + key];
        if (cell >= 0 && level) {
          const weight = ((level - 1) / 254) * block.peaks[place] / chosen.length;
          map[cell] = (Number.isNaN(map[cell]) ? 0 : map[cell]) + weight;
        }
      });
    }
    return map;
  };

  const sum = (map) => map.reduce((total, weight) => total + (weight || 0), 0);

  // The fewest cells that hold `mass` of the map.
  const maskOf = (map) => {
    const total = sum(map);
    const mask = new Uint8Array(map.length);
    let held = 0;
    for (const cell of [...map.keys()].sort((a, b) => (map[b] || 0) - (map[a] || 0))) {
      if (held >= mass * total) break;
      mask[cell] = 1;
      held += map[cell] || 0;
    }
    return mask;
  };

  const bitsOf = (map) => {
    const total = sum(map) || 1;
    return -map.reduce((bits, weight) => bits + (weight > 0 ? (weight / total) * Math.log2(weight / total) : 0), 0);
  };

  const hatch = (context) => {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const pen = tile.getContext("2d");
    pen.fillStyle = "rgba(12, 16, 30, 0.62)";
    pen.fillRect(0, 0, 8, 8);
    pen.strokeStyle = "rgba(150, 165, 200, 0.5)";
    pen.beginPath();
    for (const x of [-8, 0, 8]) { pen.moveTo(x, 8); pen.lineTo(x + 8, 0); }
    pen.stroke();
    return context.createPattern(tile, "repeat");
  };

  const paint = (canvas, block, map, masked, outlined) => {
    const scale = window.devicePixelRatio || 1;
    const width = (canvas.width = Math.round(canvas.clientWidth * scale));
    const height = (canvas.height = Math.round(canvas.clientHeight * scale));
    const pen = canvas.getContext("2d");
    const [rows, columns] = block.grid;
    const left = (column) => Math.round(Math.min(1, column * block.size[1]) * width);
    const top = (row) => Math.round((1 - Math.min(1, row * block.size[0])) * height); // the lower edge of a row
    const peak = map.reduce((most, weight) => Math.max(most, weight || 0), 0) || 1;
    const mask = maskOf(map);
    const unseen = hatch(pen);
    map.forEach((weight, cell) => {
      const row = Math.floor(cell / columns), column = cell % columns;
      const box = [left(column), top(row + 1), left(column + 1) - left(column), top(row) - top(row + 1)];
      if (Number.isNaN(weight)) pen.fillStyle = unseen;
      else pen.fillStyle = `rgba(255, 150, 0, ${masked && !mask[cell] ? 0 : 0.9 * weight / peak})`;
      pen.fillRect(...box);
    });
    const within = (row, column) => row >= 0 && column >= 0 && row < rows && column < columns;
    const inside = (row, column) => within(row, column) && mask[row * columns + column] === 1;
    const edges = new Path2D();
    for (let row = 0; row <= rows; row++) {
      for (let column = 0; column <= columns; column++) {
        if (column < columns && inside(row, column) !== inside(row - 1, column)) {
          edges.moveTo(left(column), top(row)); edges.lineTo(left(column + 1), top(row));
        }
        if (row < rows && inside(row, column) !== inside(row, column - 1)) {
          edges.moveTo(left(column), top(row)); edges.lineTo(left(column), top(row + 1));
        }
      }
    }
    const line = (path, colour, thick) => { pen.strokeStyle = colour; pen.lineWidth = thick * scale; pen.stroke(path); };
    line(edges, "#000a", outlined ? 3.5 : 2);
    line(edges, "#ffd089", outlined ? 1.5 : 1);
    if (asksToken(block)) return;
    const [row, column] = cellOf(block);
    const cell = new Path2D();
    cell.rect(left(column), top(row + 1), left(column + 1) - left(column), top(row) - top(row + 1));
    line(cell, "#000", outlined ? 5 : 3);
    line(cell, "#7df3ff", outlined ? 2.5 : 1.5);
  };

  const area = document.createElement("canvas");
  area.className = "over-picture";
  area.style.left = `${100 * plot.dataset.left}%`;
  area.style.width = `${100 * (plot.dataset.right - plot.dataset.left)}%`;
  plot.querySelector("svg").after(area);
  plot.tabIndex = 0;
  plot.setAttribute("role", "application");
  plot.setAttribute("aria-label", "spectrogram: the arrow keys move the query by a cell");

  const buttonsFor = (block) => {
    if (heads.childElementCount === block.heads) return;
    heads.replaceChildren(...Array.from({ length: block.heads }, (_, head) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "card";
      button.append(document.createElement("canvas"), document.createElement("span"));
      button.addEventListener("click", () => { form.elements.head.value = head + 1; show(); });
      return button;
    }));
  };

  const show = () => {
    const number = +form.elements.block.value;
    const block = blocks[number - 1];
    form.elements.head.max = block.heads;
    const head = +form.elements.head.value;
    const headName = head ? `head ${head} of ${block.heads}` : `mean of ${block.heads} heads`;
    form.elements.block.nextElementSibling.value = block.name;
    form.elements.head.nextElementSibling.value = headName;
    form.elements.block.setAttribute("aria-valuetext", block.name);
    form.elements.head.setAttribute("aria-valuetext", headName);
    const masked = form.elements.masked.checked;
    const map = mapOf(block, head);
    paint(area, block, map, masked, true);
    buttonsFor(block);
    [...heads.children].forEach((button, place) => {
      const own = mapOf(block, place + 1);
      button.setAttribute("aria-pressed", head === place + 1);
      button.lastChild.textContent = `head ${place + 1}, ${bitsOf(own).toFixed(1)} bits`;
      paint(button.firstChild, block, own, masked, false);
    });
    const [row, column] = cellOf(block);
    const at = `${block.seconds[column]} s, ${Math.round(block.hz[row]).toLocaleString("en")} ${block.unit}`;
    const held = maskOf(map).reduce((count, one) => count + one, 0);
    const visible = map.reduce((count, weight) => count + !Number.isNaN(weight), 0);
    const beyond = 1 - sum(map);
    readout.textContent =
      `Query: ${asksToken(block) ? "the class token" : at}. ${block.name}, ${headName}: ${bitsOf(map).toFixed(2)} bits; ` +
      `${held} of the ${visible} cells it can see hold ${Math.round(100 * mass)} % of the map` +
      (beyond > 0.02 ? `; ${Math.round(100 * beyond)} % goes to tokens outside of the picture.` : ".");
  };

  const clamp = (part) => Math.min(0.9999, Math.max(0, part));
  plot.addEventListener("click", (event) => {
    const box = area.getBoundingClientRect();
    query.across = clamp((event.clientX - box.x) / box.width);
    query.up = clamp(1 - (event.clientY - box.y) / box.height);
    if (form.elements.token) form.elements.token.checked = false;
    show();
  });
  plot.addEventListener("keydown", (event) => {
    const [right, up] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] || [];
    if (right === undefined) return;
    event.preventDefault();
    const block = blocks[form.elements.block.value - 1];
    const [row, column] = cellOf(block);
    query.across = clamp((column + 0.5 + right * block.step) * block.size[1]);
    query.up = clamp((row + 0.5 + up) * block.size[0]);
    if (form.elements.token) form.elements.token.checked = false;
    show();
  });
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  new ResizeObserver(show).observe(frame);
}
