// What is folded away until asked for: compare, layers, gradients, names, take away.
import { clock, percent, percentile } from "./data.js";
import { drawMatrix, sharp } from "./draw.js";
import { $, ask, choose, momentsOf, move, options, say, state } from "./main.js";
import { Card } from "./player.js";

const SAMPLE = 120;

/** A figure with a matrix; `pick(x)` gets where it is clicked, from 0 to 1. */
export const matrix = (title, pick) => {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const frame = document.createElement("div"), canvas = document.createElement("canvas");
  frame.className = "matrix";
  caption.textContent = title;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${title}: how alike every two moments are, as a square of colors`);
  frame.append(canvas);
  figure.append(caption, frame);
  const place = event => {
    const box = frame.getBoundingClientRect();
    pick(Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1));
  };
  frame.addEventListener("pointerdown", place);
  frame.addEventListener("pointermove", event => event.buttons && place(event));
  return figure;
};

const pictures = (place, rows, words) => place.replaceChildren(...rows.flatMap((row, k) => {
  const group = document.createElement("div");
  group.append(...row.map(data => Object.assign(new Image(), { src: `data:image/jpeg;base64,${data}`, alt: words[k] })));
  return [group];
}));

const wait = (place, text) => {
  const words = document.createElement("p");
  words.className = "caption";
  words.textContent = text;
  place.replaceChildren(words);
};

let shown = {};
let pause = null;

/** Brings what is open up to date, once the cursor rests. */
export const settle = () => {
  clearTimeout(pause);
  pause = setTimeout(() => {
    if (!state.moments?.n) return;
    if ($("layers").open) layers();
    if ($("gradients").open) gradients();
    if ($("names").open) names();
    if ($("compare").open) compare();
  }, 400);
};

/** Another video or encoder is shown now. */
export const forget = () => {
  shown = {};
  for (const id of ["responses", "pixels", "othermaps", "apart"]) $(id).replaceChildren();
  for (const id of ["named", "agreement", "taken", "shape"]) $(id).textContent = "";
  options($("layer"), []);
  options($("channel"), [["", "all"]]);
  const m = state.moments;
  options($("other"), [["", "choose"], ...state.encoders.filter(name => name !== m.encoder).map(name => [`encoder ${name}`, name]),
    ...state.videos.filter(video => video !== m.video).map(video => [`video ${video.id}`, video.name])]);
};

const once = async (panel, key, place, path, show) => {
  if (shown[panel] === key) return;
  shown[panel] = key;
  wait(place, "Computing…");
  try {
    const found = await ask(path);
    if (shown[panel] === key) show(found);
  } catch (error) {
    wait(place, error.message);
  }
};

const here = () => `${state.moments.video.id}/${state.moments.encoder}`;
const middle = () => state.moments.middle(state.moments.at(state.t));

const layers = () => {
  const asked = new URLSearchParams({ at: middle(), layer: $("layer").value, channel: $("channel").value });
  once("layers", `${here()} ${asked}`, $("responses"), `/api/layers/${here()}?${asked}`, found => {
    options($("layer"), found.names.map(name => [name, name]), found.layer);
    const channel = new URLSearchParams(asked).get("channel");
    const listed = found.strongest.map(String);
    options($("channel"), [["", "all"], ...new Set([...listed, ...(channel ? [channel] : [])].map(one => one))].map(one => Array.isArray(one) ? one : [one, one]), channel);
    shown.layers = `${here()} ${new URLSearchParams({ at: asked.get("at"), layer: found.layer, channel })}`;
    const [channels, ...map] = found.shape;
    $("shape").textContent = `${channels} channels on a map of ${map.join(" × ")} (time, height, width); listed are those that vary most`;
    pictures($("responses"), [found.pictures], [`${found.layer} at ${clock(state.t)}`]);
  });
};

const gradients = () => {
  const best = state.best[0], m = state.moments;
  if (!best) return wait($("pixels"), "The video has no other moment to compare with.");
  const asked = new URLSearchParams({ first: middle(), second: best.start + best.seconds / 2, pathway: Math.max(state.part, 0) });
  return once("gradients", `${here()} ${best.video.id} ${asked}`, $("pixels"), `/api/match/${m.video.id}/${best.video.id}/${m.encoder}?${asked}`,
    found => pictures($("pixels"), [found.first, found.second], ["This moment", "The moment most like it"]));
};

const names = () => once("names", here(), $("named"), `/api/names/${here()}`, found => {
  const share = value => `${Math.round(100 * value)} %`;
  $("named").textContent = found.names.length
    ? `${found.names.map(([name, votes]) => `${name} (${share(votes)} of the votes)`).join(", ")}.`
    : `No name: at most ${share(found.agreement)} of the votes agree, and ${share(found.least)} are needed for a name that is right often enough. ` +
      `The encoder's memory of ${found.rows} videos and photographs knows ${found.known.length} names, such as ${found.known.slice(0, 5).join(", ")}.`;
});

/** Pairs of moments to compare two encoders by: [i, j] that share no frame, from an even sample. */
const pairsOf = m => {
  const count = Math.min(m.n, SAMPLE), places = Array.from({ length: count }, (_, k) => Math.floor((k + 0.5) * m.n / count)), found = [];
  for (const i of places) for (const j of places) if (i < j && m.start[j] >= m.end[i]) found.push([i, j]);
  return found;
};

/** Ranks from 0 to 1; equal values share their mean rank. */
const ranks = values => {
  const order = Array.from(values.keys()).sort((a, b) => values[a] - values[b]), found = new Float64Array(values.length);
  for (let k = 0; k < order.length;) {
    let end = k;
    while (end + 1 < order.length && values[order[end + 1]] === values[order[k]]) end += 1;
    for (let l = k; l <= end; l += 1) found[order[l]] = (k + end) / 2 / (values.length - 1);
    k = end + 1;
  }
  return found;
};

const correlation = (a, b) => {
  const [ma, mb] = [a, b].map(values => values.reduce((sum, one) => sum + one, 0) / values.length);
  let ab = 0, aa = 0, bb = 0;
  a.forEach((one, k) => { ab += (one - ma) * (b[k] - mb); aa += (one - ma) ** 2; bb += (b[k] - mb) ** 2; });
  return ab / Math.sqrt(aa * bb);
};

const showPairs = (title, pairs) => {
  const head = document.createElement("h3");
  head.textContent = title;
  $("apart").replaceChildren(head, ...pairs.map(({ cards, words }) => {
    const row = document.createElement("div"), text = document.createElement("p");
    row.className = "pair";
    text.textContent = words;
    row.append(...cards.map(([moments, i]) => {
      const card = new Card(moment => moment.video === state.video ? move(moment.start) : choose(moment.video, moment.start));
      card.show({ video: moments.video, start: moments.start[i], seconds: moments.end[i] - moments.start[i] }, clock(moments.start[i]), moments.video === state.video ? "" : moments.video.name);
      return card.root;
    }), text);
    return row;
  }));
};

const compare = () => {
  const [what, ...rest] = $("other").value.split(" "), m = state.moments;
  if (!what) return;
  const video = what === "video" ? state.videos.find(one => one.id === rest[0]) : m.video;
  const other = momentsOf(video, what === "video" ? m.encoder : rest[0], settle), key = `${other.encoder} ${video.id} ${m.version} ${other.version}`;
  if (other.error || !other.n) $("agreement").textContent = other.error ?? "Reading…";
  if (!other.n || shown.compare === key) return;
  shown.compare = key;
  if (what === "encoder") encoders(m, other); else videos(m, other);
};

const encoders = (m, other) => {
  const part = other.parts.length > 1 ? [0, 1] : [-1];
  $("othermaps").replaceChildren(...part.map(k => {
    const figure = matrix(`${other.encoder}${k < 0 ? "" : `, ${other.parts[k].name}`}`, x => move(x * other.covered));
    drawMatrix(figure.querySelector("canvas"), other, k);
    return figure;
  }));
  const pairs = pairsOf(m).filter(([, j]) => m.middle(j) <= other.covered);
  if (pairs.length < 10) {
    $("agreement").textContent = "The video is too short to say how well they agree.";
    return;
  }
  const twin = i => other.at(m.middle(i));
  const a = pairs.map(([i, j]) => m.cosine(i, j)), b = pairs.map(([i, j]) => other.cosine(twin(i), twin(j)));
  const [ra, rb] = [ranks(a), ranks(b)];
  $("agreement").textContent = `Agreement ${correlation(ra, rb).toFixed(2)}: the rank correlation of all pairs of moments (1: the same order, 0: none).`;
  const order = pairs.map((_, k) => k).sort((x, y) => Math.abs(ra[y] - rb[y]) - Math.abs(ra[x] - rb[x])), kept = [];
  for (const k of order) {
    if (kept.every(l => [0, 1].some(e => Math.abs(m.middle(pairs[k][e]) - m.middle(pairs[l][e])) > 4))) kept.push(k);
    if (kept.length === 3) break;
  }
  showPairs("Where they disagree most", kept.map(k => ({ cards: pairs[k].map(i => [m, i]),
    words: `${m.encoder}: ${percent(percentile(a[k], m.random))}; ${other.encoder}: ${percent(percentile(b[k], other.random))}` })));
};

const videos = (m, other) => {
  const parts = m.parts.length > 1 ? [0, 1] : [-1], named = k => k < 0 ? "" : `, ${m.parts[k].name}`;
  $("othermaps").replaceChildren(...parts.flatMap(k => {
    const own = matrix(`${other.video.name}${named(k)}`, () => {}), cross = matrix(`This video (across) and that one (down)${named(k)}`, x => move(x * m.covered));
    drawMatrix(own.querySelector("canvas"), other, k);
    drawMatrix(cross.querySelector("canvas"), other, k, m);
    return [own, cross];
  }));
  const best = Array.from({ length: m.n }, (_, i) => {
    const scores = other.scores(m.vector(i));
    const j = scores.reduce((top, one, k) => one > scores[top] ? k : top, 0);
    return { i, j, score: scores[j] };
  });
  const middling = best.map(one => one.score).sort((x, y) => x - y)[best.length >> 1];
  $("agreement").textContent = `Half of this video's moments have one in the other that is more alike than ${percent(percentile(middling, m.random))} of random pairs.`;
  const least = m.best(Float32Array.from(best, one => -one.score), 2), most = m.best(Float32Array.from(best, one => one.score), 2);
  const pair = i => ({ cards: [[m, i], [other, best[i].j]], words: percent(percentile(best[i].score, m.random)) });
  showPairs("The best matches, and what has none", [...most, ...least.filter(i => !most.includes(i))].map(pair));
};

const save = (name, content) => {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

const stem = () => state.video.name.replace(/\.\w+$/, "").replace(/[^\w.-]+/g, "_");

const csv = () => {
  const m = state.moments, segments = m.segments(state.threshold), alone = new Set(m.standingOut());
  const lines = Array.from({ length: m.n }, (_, i) => [m.start[i].toFixed(2), m.end[i].toFixed(2), m.novelty[i].toFixed(4),
    1 + segments.findIndex(one => one.first <= i && i <= one.last), 1 + segments.find(one => one.first <= i && i <= one.last).kind, Number(alone.has(i))].join(","));
  save(`${stem()}.csv`, new Blob([`start,end,novelty,segment,kind,stands_out\n${lines.join("\n")}\n`], { type: "text/csv" }));
};

/** The timeline and the matrices on one picture. */
const png = () => {
  const canvas = document.createElement("canvas"), track = $("track"), maps = [...document.querySelectorAll("#matrices canvas")];
  const width = track.clientWidth, side = Math.min(360, (width - 32) / Math.max(maps.length, 1)), styled = getComputedStyle(document.body);
  const context = sharp(canvas, width + 32, track.clientHeight + side + 112);
  context.fillStyle = styled.backgroundColor;
  context.fillRect(0, 0, width + 32, track.clientHeight + side + 112);
  context.fillStyle = styled.color;
  context.font = `600 16px ${styled.fontFamily}`;
  context.fillText(`${state.video.name}, ${state.moments.encoder}`, 16, 28);
  context.drawImage(track, 16, 44, width, track.clientHeight);
  context.font = `13px ${styled.fontFamily}`;
  context.imageSmoothingEnabled = false;
  maps.forEach((map, k) => {
    const x = 16 + k * (side + 16), y = track.clientHeight + 84;
    context.fillText(map.closest("figure").querySelector("figcaption").textContent, x, y - 8);
    context.drawImage(map, x, y, side, side);
  });
  canvas.toBlob(blob => save(`${stem()}.png`, blob));
};

export const wire = () => {
  for (const id of ["layers", "gradients", "names", "compare"]) $(id).addEventListener("toggle", settle);
  $("layer").addEventListener("change", () => {
    $("channel").value = "";
    layers();
  });
  $("channel").addEventListener("change", layers);
  $("other").addEventListener("change", compare);
  $("csv").addEventListener("click", csv);
  $("png").addEventListener("click", png);
  $("npz").addEventListener("click", async () => {
    const answer = await fetch(`/api/npz/${here()}`);
    if (answer.ok) save(`${stem()}.npz`, await answer.blob()); else say("There are no embeddings to save yet.");
  });
  $("link").addEventListener("click", () => navigator.clipboard.writeText(location.href).then(
    () => { $("taken").textContent = "The link is copied; it works while the page is served here."; }, () => say("The browser did not allow copying; the address bar has the link.")));
};
