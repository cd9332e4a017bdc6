// Colours: named values get hues that differ, numbers a scale from dark blue to yellow (viridis).
const FIRST = ["#4477dd", "#ee7733", "#22aa66", "#dd3366", "#9955cc", "#11aacc", "#bb8822", "#ee88bb", "#778899", "#88bb22"];
const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121],
  [110, 206, 88], [181, 222, 43], [253, 231, 37]];
const NONE = [128, 134, 142];

function hue(n) {
  if (n < FIRST.length) return FIRST[n].match(/\w\w/g).map(part => parseInt(part, 16));
  const turn = (n * 137.508) % 360, light = n % 3 === 0 ? 0.45 : n % 3 === 1 ? 0.58 : 0.68;  // the golden angle
  const part = at => {
    const k = (at + turn / 30) % 12, amount = 0.62 * Math.min(light, 1 - light);
    return Math.round(255 * (light - amount * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [part(0), part(8), part(4)];
}
function scaled(share) {
  const place = Math.max(0, Math.min(1, share)) * (VIRIDIS.length - 1), low = Math.min(VIRIDIS.length - 2, Math.floor(place));
  return VIRIDIS[low].map((value, part) => Math.round(value + (place - low) * (VIRIDIS[low + 1][part] - value)));
}
// The middle 96 % of the numbers: one outlier does not make all others one colour.
function rangeOf(item) {
  if (!item.range) {
    const sorted = item.numbers.filter(Number.isFinite).sort();
    item.range = sorted.length ? [sorted[Math.floor(0.02 * (sorted.length - 1))], sorted[Math.ceil(0.98 * (sorted.length - 1))]] : [0, 1];
  }
  return item.range;
}
function rgb(item, i) {
  if (!item) return NONE;
  if (item.values) return item.codes[i] ? hue(item.codes[i] - 1) : NONE;
  const [low, high] = rangeOf(item);
  return Number.isFinite(item.numbers[i]) ? scaled((item.numbers[i] - low) / (high - low || 1)) : NONE;
}
const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

// One number 0xRRGGBBAA a point: what is filtered out is all but gone, what is not selected fades.
function packedColours(panel) {
  const item = column(state.colour, panel), packed = new Uint32Array(N), some = state.selected.includes(1);
  for (let i = 0; i < N; i++) {
    const [r, g, b] = state.shown[i] ? rgb(item, i) : NONE;
    const alpha = !state.shown[i] ? 14 : some && !state.selected[i] ? 60 : 225;
    packed[i] = ((r << 24) | (g << 16) | (b << 8) | alpha) >>> 0;
  }
  return packed;
}
