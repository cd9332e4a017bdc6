// Shows the strongest matches, or those of the cell that was chosen in the upper picture.
{
  const form = document.querySelector(".controls");
  const lines = document.querySelector(".lines");
  const plot = lines.closest(".plot");
  const readout = document.querySelector(".readout");
  const groups = [...lines.querySelectorAll("g")];
  const [rows, columns, high, wide] = ["rows", "columns", "high", "wide"].map((key) => +lines.dataset[key]);
  const similarities = lines.dataset.similarities.split(" ").map(Number);
  let chosen = -1;

  const show = () => {
    const most = +form.elements.lines.value;
    const listed = [];
    for (const group of groups) {
      const { cell, rank, order } = group.dataset;
      const shown = chosen < 0 ? +order === 0 && +rank >= 0 && +rank < most : +cell === chosen;
      group.toggleAttribute("hidden", !shown);
      if (shown) listed.push(similarities[cell]);
    }
    form.elements.lines.nextElementSibling.value = `${most} of ${form.elements.lines.max}`;
    form.elements.all.disabled = chosen < 0;
    readout.textContent = chosen < 0
      ? `${listed.length} matches; cosines from ${Math.max(...listed).toFixed(3)} to ${Math.min(...listed).toFixed(3)}.`
      : `Row ${Math.floor(chosen / columns) + 1} of ${rows} from below, column ${(chosen % columns) + 1} of ${columns}: ` +
        `its best match has a cosine of ${similarities[chosen].toFixed(3)}.`;
  };

  plot.tabIndex = 0;
  plot.setAttribute("role", "application");
  plot.setAttribute("aria-label", "first spectrogram: the arrow keys choose a cell, Escape shows the strongest matches");
  plot.addEventListener("click", (event) => {
    const { x, y, width } = plot.getBoundingClientRect();
    const [left, right] = [plot.dataset.left, plot.dataset.right].map(Number);
    const image = plot.querySelector("image").getBoundingClientRect();
    const across = ((event.clientX - x) / width - left) / (right - left);
    const up = 1 - (event.clientY - image.y) / image.height;
    if (across < 0 || across > 1 || up < 0 || up > 1) return;
    chosen = Math.min(rows - 1, Math.floor(up / high)) * columns + Math.min(columns - 1, Math.floor(across / wide));
    show();
  });
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[event.key];
    if (event.key === "Escape") chosen = -1;
    else if (step) {
      const from = Math.max(0, chosen);
      const row = Math.min(rows - 1, Math.max(0, Math.floor(from / columns) + step[0]));
      const column = Math.min(columns - 1, Math.max(0, (from % columns) + step[1]));
      chosen = row * columns + column;
    } else return;
    event.preventDefault();
    show();
  });
  form.elements.all.addEventListener("click", () => { chosen = -1; show(); });
  form.elements.lines.addEventListener("input", () => { chosen = -1; show(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
}
