// While a sound plays, a line runs over every picture of it; a click in a picture goes to that time.
const sounds = [...document.querySelectorAll("audio")];
for (const audio of sounds) {
  const plots = audio.closest(".sounding").querySelectorAll(".plot");
  const show = () => {
    for (const plot of plots) {
      const [start, end, left, right] = ["start", "end", "left", "right"].map((key) => +plot.dataset[key]);
      const part = (audio.currentTime - start) / (end - start);
      const line = plot.querySelector(".playhead");
      line.hidden = part < 0 || part > 1;
      line.style.left = `${100 * (left + part * (right - left))}%`;
    }
    if (!audio.paused) requestAnimationFrame(show);
  };
  audio.addEventListener("seeked", show);
  audio.addEventListener("play", () => {
    for (const other of sounds) if (other !== audio) other.pause();
    show();
  });
  for (const plot of plots) {
    plot.addEventListener("click", (event) => {
      const { x, width } = plot.getBoundingClientRect();
      const [start, end, left, right] = ["start", "end", "left", "right"].map((key) => +plot.dataset[key]);
      const part = Math.min(1, Math.max(0, ((event.clientX - x) / width - left) / (right - left)));
      audio.currentTime = Math.max(0, start + part * (end - start));
    });
  }
}
