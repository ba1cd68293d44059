// The moments of a video: their embeddings as they come, and everything that is computed from them.

export const clock = (seconds, digits = 1) => {
  const tenths = Math.max(Math.round(seconds * 10 ** digits), 0) / 10 ** digits;
  const hours = Math.floor(tenths / 3600), minutes = Math.floor(tenths / 60) % 60;
  const rest = (tenths % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
};

export const decode = text => new Float32Array(Uint8Array.from(atob(text), one => one.charCodeAt(0)).buffer);

export const encode = values => {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return btoa(Array.from(bytes, one => String.fromCharCode(one)).join(""));
};

/** The percentage of random pairs that have less than this cosine; `random` are its quantiles, rising. */
export const percentile = (cosine, random) => {
  let low = 0, high = random.length - 1;
  if (cosine <= random[0]) return 0;
  if (cosine >= random[high]) return 100;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (random[middle] <= cosine) low = middle; else high = middle;
  }
  return 100 * (low + (cosine - random[low]) / (random[high] - random[low] || 1)) / (random.length - 1);
};

export const percent = value => value > 99.9 ? "> 99.9 %" : `${value.toFixed(value >= 98 ? 1 : 0)} %`;

const APART = 2, KERNEL = 4, STANDING_OUT = 6;

export class Moments {
  constructor(video, encoder) {
    Object.assign(this, { video, encoder, n: 0, dim: 0, duration: 0, window: 0, stride: 0.5, parts: [], random: null,
      start: [], end: [], rows: new Float32Array(0), state: "reading", error: null, damage: null, version: 0 });
    this.forget();
  }

  forget() {
    this.n = 0;
    this.start = [];
    this.end = [];
    this.band = [];
    this.novelty = [];
    this.version += 1;
  }

  /** Listens to the server until the video is read, or reading is stopped; calls `changed` at all news. */
  listen(changed) {
    this.state = "reading";
    this.error = null;
    this.forget();
    this.source = new EventSource(`/api/moments/${this.video.id}/${this.encoder}`);
    this.source.onmessage = message => {
      const event = JSON.parse(message.data);
      if (event.pathways) {
        Object.assign(this, { window: event.window, stride: event.stride, random: event.random, parts: event.pathways });
        this.radius = Math.max(Math.round(KERNEL / this.stride), 1);
      }
      if (event.duration) this.duration = event.duration;
      if (event.again) this.forget();
      if (event.rows) this.append(decode(event.rows), event.start, event.end);
      if (event.done) {
        this.state = "done";
        this.damage = event.damage;
      }
      changed(this);
    };
    this.source.addEventListener("end", message => {
      this.source.close();
      const { error, stopped } = JSON.parse(message.data);
      this.error = error;
      this.state = error ? "failed" : stopped ? "stopped" : "done";
      changed(this);
    });
    this.source.onerror = () => {
      if (this.source.readyState !== EventSource.CLOSED) return;  // the browser tries again
      this.state = "failed";
      this.error = "The server is gone; start vie app again.";
      changed(this);
    };
  }

  append(values, start, end) {
    this.dim = values.length / start.length;
    const room = (this.n + start.length) * this.dim;
    if (this.rows.length < room) {
      const larger = new Float32Array(Math.max(2 * this.rows.length, room));
      larger.set(this.rows);
      this.rows = larger;
    }
    for (let row = 0; row < start.length; row += 1) {
      for (const { span: [low, high] } of this.parts) {  // each part of a row gets length 1
        let sum = 0;
        for (let k = low; k < high; k += 1) sum += values[row * this.dim + k] ** 2;
        for (let k = low; k < high; k += 1) this.rows[(this.n + row) * this.dim + k] = values[row * this.dim + k] / Math.sqrt(sum || 1);
      }
    }
    this.start.push(...start);
    this.end.push(...end);
    this.n += start.length;
    this.version += 1;
    this.extend();
  }

  get covered() {
    return this.n ? this.end[this.n - 1] : 0;
  }

  middle(i) {
    return (this.start[i] + this.end[i]) / 2;
  }

  /** The moment whose middle is nearest to a time. */
  at(seconds) {
    const guess = Math.round((seconds - this.middle(0)) / this.stride);
    return Math.min(Math.max(guess, 0), this.n - 1);
  }

  vector(i) {
    return this.rows.subarray(i * this.dim, (i + 1) * this.dim);
  }

  span(part) {
    return part < 0 ? [0, this.dim, this.parts.length] : [...this.parts[part].span, 1];
  }

  randomOf(part) {
    return part < 0 ? this.random : this.parts[part].random;
  }

  cosine(i, j, part = -1, other = this) {
    const [low, high, count] = this.span(part);
    let sum = 0;
    for (let k = low, a = i * this.dim, b = j * this.dim; k < high; k += 1) sum += this.rows[a + k] * other.rows[b + k];
    return sum / count;
  }

  /** Cosines of all moments and a vector, whatever its length. */
  scores(query, part = -1) {
    const [low, high, count] = this.span(part), found = new Float32Array(this.n);
    let length = 0;
    for (let k = low; k < high; k += 1) length += query[k] ** 2;
    length = Math.sqrt(length * count) || 1;
    for (let i = 0; i < this.n; i += 1) {
      let sum = 0;
      for (let k = low, a = i * this.dim; k < high; k += 1) sum += this.rows[a + k] * query[k];
      found[i] = sum / length;
    }
    return found;
  }

  /** The best moments by score, at least two seconds from one another and from the seconds in `avoid`. */
  best(scores, count, avoid = []) {
    const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]), found = [];
    for (const i of order) {
      const near = seconds => Math.abs(seconds - this.middle(i)) < Math.max(APART, this.window);
      if (!avoid.some(near) && !found.some(j => near(this.middle(j)))) found.push(i);
      if (found.length === count) break;
    }
    return found;
  }

  /** Continues the novelty of Foote (as `vie segment` computes it) over the moments that came. */
  extend() {
    const radius = this.radius, width = 2 * radius;
    const from = this.band.length;
    for (let i = from; i < this.n; i += 1) {
      this.band.push(Float32Array.from({ length: Math.min(width, i + 1) }, (_, back) => this.cosine(i, i - back)));
    }
    const alike = (i, j) => this.band[Math.max(i, j)][Math.abs(i - j)];
    for (let m = Math.max(from - radius - 1, 0); m < this.n; m += 1) {
      this.novelty[m] = 0;
      if (m < 2 || m > this.n - 2) continue;
      const side = (low, high) => {
        const weights = [];
        for (let k = low; k < high; k += 1) weights.push([k, Math.exp(-(((k - (m - 0.5)) / Math.max(radius / 2, 0.5)) ** 2) / 2)]);
        const sum = weights.reduce((all, [, one]) => all + one, 0);
        return weights.map(([k, one]) => [k, one / sum]);
      };
      const past = side(Math.max(m - radius, 0), m), future = side(m, Math.min(m + radius, this.n));
      const mean = (a, b) => {
        let sum = 0;
        for (const [i, u] of a) for (const [j, v] of b) sum += u * v * alike(i, j);
        return sum;
      };
      this.novelty[m] = (mean(past, past) + mean(future, future)) / 2 - mean(past, future);
    }
  }

  /** Segments: {start, end, first, last, kind}; those that are alike have the same kind. */
  segments(threshold) {
    const key = `${this.version} ${threshold}`;
    if (this.segmented?.key === key) return this.segmented.found;
    const order = Array.from(this.novelty.keys()).sort((a, b) => this.novelty[b] - this.novelty[a]), peaks = [];
    for (const m of order) {
      if (this.novelty[m] < threshold || m === 0) break;
      const top = Math.max(this.novelty[m - 1], this.novelty[m + 1] ?? -1);
      if (this.novelty[m] >= top && peaks.every(other => Math.abs(other - m) >= this.radius)) peaks.push(m);
    }
    peaks.sort((a, b) => a - b);
    const edges = [0, ...peaks, this.n], found = [];
    for (let k = 0; k + 1 < edges.length; k += 1) {
      const [first, last] = [edges[k], edges[k + 1] - 1];
      if (last < first) continue;
      const border = m => (this.middle(m) + this.middle(m - 1)) / 2;
      found.push({ first, last, start: first ? border(first) : 0,
        end: last + 1 < this.n ? border(last + 1) : this.state === "done" ? this.duration : this.covered });
    }
    this.group(found);
    this.segmented = { key, found };
    return found;
  }

  /** Gives segments one kind if their mean embeddings are closer to the first of the kind than 99.5 % of random pairs. */
  group(segments) {
    const means = [];
    for (const one of segments) {
      const mean = new Float32Array(this.dim);
      for (let i = one.first; i <= one.last; i += 1) this.vector(i).forEach((value, k) => { mean[k] += value; });
      let best = -1, cosine = -1;
      means.forEach((other, number) => {
        let dot = 0, a = 0, b = 0;
        for (let k = 0; k < this.dim; k += 1) { dot += mean[k] * other[k]; a += mean[k] ** 2; b += other[k] ** 2; }
        if (dot / Math.sqrt(a * b) > cosine) [best, cosine] = [number, dot / Math.sqrt(a * b)];
      });
      one.returns = best >= 0 && percentile(cosine, this.random) >= 99.5;
      one.kind = one.returns ? best : means.length;
      if (!one.returns) means.push(mean);
    }
  }

  /** Moments that are least like all others, by time. */
  standingOut() {
    if (this.n < 10) return [];
    if (this.outstanding?.version === this.version) return this.outstanding.found;
    const mean = new Float32Array(this.dim);
    for (let i = 0; i < this.n; i += 1) for (let k = 0; k < this.dim; k += 1) mean[k] += this.rows[i * this.dim + k];
    const found = this.best(this.scores(mean).map(one => -one), STANDING_OUT).sort((a, b) => a - b);
    this.outstanding = { version: this.version, found };
    return found;
  }
}
