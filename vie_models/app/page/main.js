// The page: its state, and what happens when something is chosen.
import { clock, encode, Moments, percent, percentile } from "./data.js";
import { drawMatrix, drawScale, drawTimeline, STRIP } from "./draw.js";
import * as panels from "./panels.js";
import { calm, Card, Player, where } from "./player.js";

export const $ = id => document.getElementById(id);
const CARDS = 6, TITLES = { appearance: "Appearance", motion: "Motion", likeness: "All moments" };
export const state = { videos: [], features: [], moments: null, open: new Map(), t: 0, part: -1, threshold: 0.1, plus: [], minus: [],
  scope: "here", pictures: [], best: [] };

export const ask = async (path, options) => {
  const answer = await fetch(path, options).catch(() => { throw new Error("The server is gone; start vie app again."); });
  const found = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw new Error(found.error);
  return found;
};

export const say = text => {
  $("message").textContent = text ?? "";
  $("message").hidden = !text;
};

export const options = (select, pairs, value) => {
  select.replaceChildren(...pairs.map(([key, text]) => new Option(text, key)));
  if (value !== undefined) select.value = value;
};

/** The moments of a video with an encoder: those that are there, or new ones that are read now. */
export const momentsOf = (video, encoder, changed) => {
  const key = `${video.id} ${encoder}`;
  let moments = state.open.get(key);
  if (!moments || moments.state === "failed") {
    moments = new Moments(video, encoder);
    state.open.set(key, moments);
    moments.listeners = new Set();
    moments.listen(() => moments.listeners.forEach(one => one(moments)));
  }
  moments.listeners.add(changed);
  return moments;
};

const throttled = (action, pause) => {
  let timer = null, last = 0;
  return () => {
    if (timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      last = performance.now();
      action();
    }, Math.max(last + pause() - performance.now(), 0));
  };
};

const player = new Player($("player"), seconds => move(seconds, false), () => {
  const paused = $("player").paused;
  $("play").textContent = paused ? "▶" : "❚❚";
  $("play").setAttribute("aria-label", paused ? "Play" : "Pause");
  cards();
}, () => {
  $("cannot").textContent = "This video cannot be shown.";
  $("cannot").hidden = false;
});

/** Moves the cursor over everything. */
export const move = (seconds, seek = true) => {
  const m = state.moments;
  if (!m) return;
  state.t = Math.min(Math.max(seconds, 0), Math.max(m.duration - 0.04, 0));
  if (seek) player.seek(state.t);
  const share = m.duration ? state.t / m.duration : 0;
  $("cursor").style.left = `${100 * share}%`;
  $("clock").textContent = `${clock(state.t)} / ${clock(m.duration, 0)}`;
  $("timeline").setAttribute("aria-valuenow", state.t.toFixed(1));
  $("timeline").setAttribute("aria-valuetext", `${clock(state.t)} of ${clock(m.duration, 0)}`);
  for (const hair of document.querySelectorAll("#matrices .matrix")) {
    const place = m.covered ? `${100 * Math.min(state.t / m.covered, 1)}%` : "0";
    hair.style.setProperty("--at", place);
  }
  cards();
  remember();
};

const query = () => {
  const m = state.moments, sum = new Float32Array(m.dim);
  const add = (list, sign) => list.forEach(({ moments, i }) => moments.vector(i).forEach((value, k) => { sum[k] += sign * value / list.length; }));
  add(state.plus.length ? state.plus : [{ moments: m, i: m.at(state.t) }], 1);
  add(state.minus, -1);
  return sum;
};

const slots = Array.from({ length: CARDS }, () => new Card(moment => {
  if (moment.video === state.moments.video) move(moment.start); else choose(moment.video, moment.start);
}));
$("cards").append(...slots.map(one => one.root));

let asked = 0, settled = null;
const findAlike = async () => {
  const m = state.moments;
  if (!m?.n) {
    slots.forEach(one => one.hide());
    return;
  }
  const wanted = query(), number = asked += 1, examples = [...(state.plus.length ? state.plus : [{ moments: m, i: m.at(state.t) }]), ...state.minus];
  const times = list => list.map(({ moments, i }) => where(moments, i, moments === m)).join(" and ");
  $("question").textContent = state.plus.length || state.minus.length
    ? `Moments like ${times(state.plus.length ? state.plus : examples.slice(0, 1))}${state.minus.length ? `, but not like ${times(state.minus)}` : ""}`
    : `Moments like this one, ${clock(state.t)}`;
  let found = [];
  if (state.scope.startsWith("features ")) {
    const features = state.features.find(one => one.id === state.scope.slice(9));
    const body = { vector: encode(wanted), pathway: state.part < 0 ? null : m.parts[state.part].name, count: CARDS,
      avoid: examples.map(({ moments, i }) => [moments.video.id, moments.start[i], moments.end[i]]) };
    const { hits } = await ask(`/api/search/${features.id}`, { method: "POST", body: JSON.stringify(body) }).catch(error => {
      say(error.message);
      return { hits: [] };
    });
    if (number !== asked) return;
    const random = features.about.random[state.part < 0 ? "all" : m.parts[state.part].name] ?? features.about.random.all;
    found = hits.filter(hit => hit.video).map(hit => ({ video: known(hit), start: hit.start, seconds: hit.end - hit.start,
      likeness: percentile(hit.cosine, random), where: `${hit.name}, ${clock(hit.start)}` }));
  } else {
    const pool = [...state.open.values()].filter(one => one.encoder === m.encoder && (one === m || state.scope === "all") && one.n);
    for (const moments of pool) {
      const scores = moments.scores(wanted, state.part);
      const avoid = examples.filter(one => one.moments === moments).map(one => moments.middle(one.i));
      for (const i of moments.best(scores, CARDS, avoid)) {
        found.push({ video: moments.video, moments, i, start: moments.start[i], seconds: moments.end[i] - moments.start[i],
          likeness: percentile(scores[i], m.randomOf(state.part)), score: scores[i], where: where(moments, i, moments === m) });
      }
    }
    found = found.sort((a, b) => b.score - a.score).slice(0, CARDS);
  }
  state.best = found;
  const difference = state.minus.length > 0;
  slots.forEach((slot, k) => {
    if (found[k]) slot.show(found[k], difference ? `No. ${k + 1}` : percent(found[k].likeness), found[k].where); else slot.hide();
  });
  $("cards").dataset.empty = found.length ? "" : m.state === "reading" ? "Reading…" : "The video has no other moment to compare with.";
  clearTimeout(settled);
  slots.forEach(one => one.pause());
  if ($("player").paused && !calm()) settled = setTimeout(() => slots.forEach(one => one.play()), 600);
  if ($("player").paused) panels.settle();
};
const cards = throttled(() => findAlike(), () => $("player").paused ? 60 : 500);
const known = hit => {
  let video = state.videos.find(one => one.id === hit.video);
  if (!video) state.videos.push(video = { id: hit.video, name: hit.name });
  return video;
};

/** Draws what depends on the embeddings. */
const draw = throttled(() => {
  const m = state.moments;
  drawTimeline($("track"), $("timeline").clientWidth, m, state.pictures, state.threshold);
  const parts = m.parts.length > 1 ? m.parts.map((_, part) => part) : m.parts.length ? [-1] : [];
  const place = $("matrices");
  if (place.childElementCount !== parts.length) place.replaceChildren(...parts.map(part => panels.matrix(TITLES[m.parts[Math.max(part, 0)].name], (x) => move(x * m.covered))));
  parts.forEach((part, k) => drawMatrix(place.children[k].querySelector("canvas"), m, part));
  if (m.random && $("scale").dataset.of !== m.encoder) {
    drawScale($("scale"), m.randomOf(parts[0]));
    $("scale").dataset.of = m.encoder;
  }
  status();
  move(state.t, false);
}, () => state.moments.n > 1000 ? 2000 : 250);

const status = () => {
  const m = state.moments, text = $("status"), pieces = m.segments(state.threshold);
  const returning = pieces.filter(one => one.returns).length;
  const about = m.n ? `${pieces.length} segment${pieces.length === 1 ? "" : "s"}${returning ? `, ${returning} of them seen before` : ""}` : "";
  text.textContent = { reading: m.n ? `${clock(m.covered, 0)} read · ${about}` : "Loading the encoder…", stopped: `stopped at ${clock(m.covered, 0)} · ${about}`,
    done: about + (m.damage ? ` · damaged: ${m.damage}` : ""), failed: "" }[m.state];
  $("stop").hidden = !["reading", "stopped"].includes(m.state);
  $("stop").textContent = m.state === "stopped" ? "Read on" : "Stop reading";
  say(m.error);
};

const changed = moments => {
  if (moments !== state.moments) {
    cards();
    return;
  }
  if (moments.parts.length && $("parts").dataset.of !== moments.encoder) choices(moments);
  $("timeline").setAttribute("aria-valuemax", moments.duration.toFixed(1));
  draw();
  if (moments.state !== "reading") panels.settle();
};

const choices = moments => {
  const names = ["both", ...moments.parts.map(part => part.name)];
  state.part = Math.min(state.part, moments.parts.length - 1);
  if (moments.parts.length < 2) state.part = -1;
  $("parts").hidden = moments.parts.length < 2;
  $("parts").dataset.of = moments.encoder;
  $("parts").replaceChildren($("parts").firstElementChild, ...names.map((name, k) => {
    const label = document.createElement("label"), input = document.createElement("input"), text = document.createElement("span");
    Object.assign(input, { type: "radio", name: "part", value: k - 1, checked: k - 1 === state.part });
    text.textContent = name;
    input.addEventListener("change", () => {
      state.part = k - 1;
      cards();
      remember();
    });
    label.append(input, text);
    return label;
  }));
};

const chips = () => {
  const make = (list, sign) => list.map((one, k) => {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.className = "chip";
    chip.textContent = `${sign} ${where(one.moments, one.i, one.moments === state.moments)} ×`;
    chip.setAttribute("aria-label", `Remove ${sign} ${clock(one.moments.start[one.i])}`);
    chip.addEventListener("click", () => {
      list.splice(k, 1);
      chips();
    });
    return chip;
  });
  $("chips").replaceChildren(...make(state.plus, "+"), ...make(state.minus, "−"));
  cards();
  remember();
};

/** Opens a video with an encoder. */
export const choose = (video, seconds = 0, encoder = $("encoder").value) => {
  const before = state.moments;
  before?.listeners.delete(changed);
  const same = before && before.video === video;
  Object.assign(state, { video, t: seconds });
  options($("video"), state.videos.map(one => [one.id, one.name]), video.id);
  $("encoder").value = encoder;
  if (before && before.encoder !== encoder) Object.assign(state, { plus: [], minus: [] });
  $("cannot").hidden = true;
  say(null);
  state.moments = momentsOf(video, encoder, changed);
  if (!same) {
    player.show(video, seconds);
    state.pictures = [];
    strip(video);
  }
  $("credit").textContent = video.name.startsWith("Example") ? "Example: Intel IoT Developer Kit sample videos, CC BY 4.0" : "";
  scopes();
  chips();
  panels.forget();
  changed(state.moments);
};

let film = null;
const strip = video => {
  film?.close();
  film = new EventSource(`/api/strip/${video.id}?count=${STRIP}`);
  film.onmessage = message => {
    const picture = new Image();
    picture.addEventListener("load", draw);
    picture.src = `data:image/jpeg;base64,${JSON.parse(message.data).picture}`;
    state.pictures.push(picture);
  };
  film.addEventListener("end", () => film.close());
};

const scopes = () => {
  const usable = state.features.filter(one => one.about?.model), name = one => one.about.model === $("encoder").value ? one.name : `${one.name} (${one.about.model})`;
  const pairs = [["here", "this video"], ["all", state.videos.length > 1 ? `all ${state.videos.length} videos` : "all videos"], ...usable.map(one => [`features ${one.id}`, name(one)])];
  if (!pairs.some(([key]) => key === state.scope)) state.scope = "here";
  options($("where"), pairs, state.scope);
};

/** Reads the other videos too, one after another, so that moments are found in them. */
const readAll = async () => {
  for (const video of state.videos) {
    if (state.scope !== "all") return;
    await new Promise(resolve => {
      const moments = momentsOf(video, $("encoder").value, one => {
        cards();
        if (one.state !== "reading") resolve();
      });
      if (moments.state !== "reading") resolve();
    });
  }
};

let remembering = null;
const remember = () => {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    const at = list => list.filter(one => one.moments === state.moments).map(one => one.moments.start[one.i].toFixed(1)).join(",");
    const hash = new URLSearchParams({ video: state.video.id, encoder: state.moments.encoder, t: state.t.toFixed(1), part: state.part,
      threshold: state.threshold, scope: state.scope, plus: at(state.plus), minus: at(state.minus) });
    history.replaceState(null, "", `#${hash}`);
  }, 300);
};

const drop = async file => {
  if (!file) return;
  say(null);
  $("status").textContent = `Taking ${file.name}…`;
  try {
    const video = await ask(`/api/drop?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    state.videos.push(video);
    choose(video);
  } catch (error) {
    say(error.message);
  }
};

const wire = () => {
  $("video").addEventListener("change", () => choose(state.videos.find(one => one.id === $("video").value)));
  $("encoder").addEventListener("change", () => choose(state.video, state.t));
  $("play").addEventListener("click", () => player.toggle());
  $("player").addEventListener("click", () => player.toggle());
  $("add").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => drop($("file").files[0]));
  $("stop").addEventListener("click", () => {
    const m = state.moments;
    if (m.state === "stopped") m.listen(() => m.listeners.forEach(one => one(m)));
    else ask(`/api/stop/${m.video.id}/${m.encoder}`, { method: "POST" }).catch(error => say(error.message));
  });
  $("threshold").addEventListener("input", () => {
    state.threshold = Number($("threshold").value);
    $("level").value = state.threshold.toFixed(2);
    draw();
    remember();
  });
  $("where").addEventListener("change", () => {
    state.scope = $("where").value;
    const features = state.features.find(one => state.scope === `features ${one.id}`);
    if (features && features.about.model !== $("encoder").value) choose(state.video, state.t, features.about.model);
    if (state.scope === "all") readAll();
    cards();
    remember();
  });
  for (const [id, list] of [["plus", "plus"], ["minus", "minus"]]) {
    $(id).addEventListener("click", () => {
      if (state.moments?.n) state[list].push({ moments: state.moments, i: state.moments.at(state.t) });
      chips();
    });
  }
  const place = event => {
    const box = $("timeline").getBoundingClientRect();
    move((event.clientX - box.left) / box.width * state.moments.duration);
  };
  $("timeline").addEventListener("pointerdown", event => {
    $("timeline").setPointerCapture(event.pointerId);
    place(event);
  });
  $("timeline").addEventListener("pointermove", event => event.buttons && place(event));
  addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input, summary")) return;
    if (event.key === " " && event.target.closest("button")) return;
    const steps = { ArrowLeft: -0.5, ArrowRight: 0.5, j: -10, l: 10, Home: -Infinity, End: Infinity };
    if (event.key === " " || event.key === "k") player.toggle();
    else if (event.key in steps && state.moments) move(state.t + steps[event.key] * (event.shiftKey ? 10 : 1));
    else return;
    event.preventDefault();
  });
  addEventListener("dragover", event => {
    event.preventDefault();
    $("drop").hidden = false;
  });
  addEventListener("dragleave", event => { if (!event.relatedTarget) $("drop").hidden = true; });
  addEventListener("drop", event => {
    event.preventDefault();
    $("drop").hidden = true;
    drop(event.dataTransfer.files[0]);
  });
  addEventListener("resize", () => state.moments && draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.moments && draw());
  panels.wire();
};

/** Learns what the features hold, which may take a while; their videos can be opened then. */
const describe = async () => {
  for (const features of state.features) {
    features.about = await ask(`/api/features/${features.id}`).catch(error => say(error.message));
    if (features.about && !features.about.model) say(`${features.name} was made by an encoder that the page does not have, and cannot be searched here.`);
    for (const video of features.about?.videos ?? []) if (!state.videos.some(one => one.id === video.id)) state.videos.push(video);
  }
  if (!state.moments) return;
  options($("video"), state.videos.map(one => [one.id, one.name]), state.video.id);
  scopes();
};

const begin = async () => {
  wire();
  const about = await ask("/api/about");
  Object.assign(state, { videos: about.videos, features: about.features, encoders: about.encoders });
  const hash = new URLSearchParams(location.hash.slice(1));
  options($("encoder"), about.encoders.map(name => [name, name]));
  const described = describe();
  if (!state.videos.length || hash.get("scope")?.startsWith("features")) await described;
  if (about.encoders.includes(hash.get("encoder"))) $("encoder").value = hash.get("encoder");
  const number = (key, fallback) => hash.has(key) && Number.isFinite(Number(hash.get(key))) ? Number(hash.get(key)) : fallback;
  Object.assign(state, { part: Math.max(number("part", -1), -1), threshold: Math.min(Math.max(number("threshold", 0.1), 0.02), 0.5),
    scope: hash.get("scope") ?? "here" });
  $("threshold").value = state.threshold;
  $("level").value = state.threshold.toFixed(2);
  const video = state.videos.find(one => one.id === hash.get("video")) ?? state.videos[0];
  if (!video) {
    say("Drop a video on the page to look at it.");
    return;
  }
  const later = ["plus", "minus"].map(key => [key, (hash.get(key) ?? "").split(",").filter(Boolean).map(Number)]);
  choose(video, number("t", 0));
  if (later.some(([, times]) => times.length)) restore(later);
  if (state.scope === "all") readAll();
};

/** Puts the examples of a link back, as soon as their moments are there. */
const restore = later => {
  const m = state.moments, last = Math.max(...later.flatMap(([, times]) => times));
  const back = () => {
    if (m.covered <= last && m.state === "reading") return;
    m.listeners.delete(back);
    for (const [key, times] of later) state[key] = times.filter(Number.isFinite).map(seconds => ({ moments: m, i: m.at(seconds + m.window / 2) }));
    chips();
  };
  m.listeners.add(back);
};

begin().catch(error => say(error.message));
