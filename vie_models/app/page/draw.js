// Draws the timeline and the matrices.
import { clock } from "./data.js";

const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
const KINDS = [210, 35, 145, 285, 0, 60, 180, 325];
const MOST = 256;
export const STRIP = 16;

export const color = share => {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[low].map((one, k) => Math.round(one + (place - low) * (VIRIDIS[low + 1][k] - one)));
};

const styled = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
export const tint = kind => `hsl(${KINDS[kind % KINDS.length]} ${dark() ? "38% 34%" : "52% 84%"})`;

export const sharp = (canvas, width, height) => {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return context;
};

/** The filmstrip, the segments, and novelty with its threshold, over the whole video. */
export const drawTimeline = (canvas, width, moments, pictures, threshold) => {
  const tall = Math.min(Math.round(width / STRIP * 9 / 16) + 8, 56), bar = 24, curve = 64, room = 14;
  const context = sharp(canvas, width, tall + bar + curve + room);
  const length = moments.duration || 1, across = seconds => width * seconds / length;
  const font = styled("--font");
  context.fillStyle = styled("--sunken");
  context.fillRect(0, 0, width, tall);
  const shown = Math.min(Math.max(Math.floor(width / 56), 5), STRIP), cell = width / shown;
  for (let k = 0; k < shown; k += 1) {
    const picture = pictures[Math.floor((k + 0.5) * STRIP / shown)];
    if (!picture?.complete || !picture.naturalWidth) continue;
    const scale = Math.max(cell / picture.naturalWidth, tall / picture.naturalHeight);
    const [w, h] = [cell / scale, tall / scale];
    context.drawImage(picture, (picture.naturalWidth - w) / 2, (picture.naturalHeight - h) / 2, w, h, k * cell, 0, cell - 1, tall);
  }
  const top = tall + 1, ground = tall + bar + curve;
  context.font = `12px ${font}`;
  context.textBaseline = "middle";
  moments.segments(threshold).forEach((one, number) => {
    const [x, w] = [across(one.start), across(one.end) - across(one.start)];
    context.fillStyle = tint(one.kind);
    context.fillRect(x, top, Math.max(w - 1, 1), bar - 2);
    context.fillStyle = styled("--text");
    const words = [`${number + 1}  ${clock(one.start, 0)}`, `${number + 1}`].find(text => context.measureText(text).width < w - 10);
    if (words) context.fillText(words, x + 6, top + bar / 2 - 1);
  });
  const highest = 1.25 * Math.max(threshold, ...moments.novelty), level = value => ground - (curve - 6) * Math.max(value, 0) / highest;
  context.strokeStyle = styled("--line");
  context.beginPath();
  context.moveTo(0, ground + 0.5);
  context.lineTo(width, ground + 0.5);
  context.stroke();
  context.beginPath();
  context.moveTo(across(moments.n ? moments.middle(0) : 0), ground);
  moments.novelty.forEach((value, m) => context.lineTo(across(moments.middle(m) - moments.stride / 2), level(value)));
  context.strokeStyle = styled("--accent");
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  context.stroke();
  context.lineTo(across(moments.covered), ground);
  context.globalAlpha = 0.12;
  context.fillStyle = styled("--accent");
  context.fill();
  context.globalAlpha = 1;
  context.setLineDash([4, 4]);
  context.strokeStyle = styled("--muted");
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(0, level(threshold));
  context.lineTo(width, level(threshold));
  context.stroke();
  context.setLineDash([]);
  context.strokeStyle = styled("--boundary");
  for (const { start } of moments.segments(threshold).slice(1)) {
    context.beginPath();
    context.moveTo(across(start), 0);
    context.lineTo(across(start), ground);
    context.stroke();
  }
  context.fillStyle = styled("--mark");
  for (const i of moments.standingOut()) {
    const x = across(moments.middle(i));
    context.beginPath();
    context.moveTo(x, ground + 3);
    context.lineTo(x + 5, ground + room - 2);
    context.lineTo(x - 5, ground + room - 2);
    context.fill();
  }
  if (moments.state !== "done" && moments.covered < length) {
    context.fillStyle = styled("--sunken");
    context.globalAlpha = 0.7;
    context.fillRect(across(moments.covered), 0, width, ground);
    context.globalAlpha = 1;
  }
};

/** Where a color scale begins: what half of random pairs have less than; it ends at 1. */
export const scaleOf = random => ({ low: random[random.length >> 1], share: cosine => (cosine - random[random.length >> 1]) / (1 - random[random.length >> 1]) });

/** How alike all moments of one video (down) and of the same or another (across) are. */
export const drawMatrix = (canvas, moments, part, across = moments) => {
  const rows = Math.min(moments.n, MOST), columns = Math.min(across.n, MOST);
  canvas.width = columns || 1;
  canvas.height = rows || 1;
  if (!rows || !columns) return;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  const { share } = scaleOf(moments.randomOf(part)), colors = Array.from({ length: 256 }, (_, k) => color(k / 255));
  for (let y = 0; y < rows; y += 1) {
    const i = Math.floor((y + 0.5) * moments.n / rows);
    for (let x = 0; x < columns; x += 1) {
      if (across === moments && x < y) {  // it is symmetric
        image.data.copyWithin(4 * (y * columns + x), 4 * (x * columns + y), 4 * (x * columns + y) + 4);
        continue;
      }
      const j = Math.floor((x + 0.5) * across.n / columns);
      const [red, green, blue] = colors[Math.min(Math.max(Math.round(255 * share(moments.cosine(i, j, part, across))), 0), 255)];
      image.data.set([red, green, blue, 255], 4 * (y * columns + x));
    }
  }
  context.putImageData(image, 0, 0);
};

/** A bar of the colors, with what random pairs have. */
export const drawScale = (place, random) => {
  const canvas = document.createElement("canvas"), width = 256;
  canvas.width = width;
  canvas.height = 1;
  canvas.setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d");
  for (let x = 0; x < width; x += 1) {
    context.fillStyle = `rgb(${color(x / width).join(" ")})`;
    context.fillRect(x, 0, 1, 1);
  }
  const { share } = scaleOf(random), ticks = document.createElement("div");
  ticks.className = "ticks";
  for (const [text, at] of [["50 %", 0], ["90 %", share(random[Math.round(0.9 * (random.length - 1))])],
    ["99 %", share(random[Math.round(0.99 * (random.length - 1))])], ["same", 1]]) {
    const tick = document.createElement("span");
    tick.textContent = text;
    tick.style.left = `${100 * at}%`;
    ticks.append(tick);
  }
  const words = document.createElement("p");
  words.className = "caption";
  words.textContent = "Brighter than so many random pairs. Time runs right and down; a bright square off the diagonal is a place that returns.";
  place.replaceChildren(canvas, ticks, words);
};
