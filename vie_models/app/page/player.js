// Plays videos, and moments of them. What the browser cannot play comes from the server as clips in H.264.
import { clock } from "./data.js";

const CHUNK = 20;
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
export const address = video => `/video/${video.id}`;
const clip = (video, start, seconds) => `/clip/${video.id}?start=${start.toFixed(2)}&seconds=${seconds.toFixed(2)}`;

/** The player at the top. `moved(seconds)` is called as it plays. */
export class Player {
  constructor(element, moved, changed, failed) {
    Object.assign(this, { element, moved, changed, failed, offset: 0, video: null });
    element.addEventListener("error", () => this.fall());
    element.addEventListener("loadedmetadata", () => element.videoWidth || this.fall());
    for (const name of ["play", "pause"]) element.addEventListener(name, changed);
    element.addEventListener("ended", () => this.video?.clips && this.seek(this.offset + CHUNK, true));
    element.addEventListener("timeupdate", () => this.tell());
    const frame = () => {
      if (!element.paused) this.tell();
      requestAnimationFrame(frame);
    };
    frame();
  }

  show(video, seconds) {
    this.video = video;
    this.offset = -1;
    this.element.removeAttribute("src");
    this.seek(seconds);
  }

  /** The browser cannot play this file: take clips of it instead. */
  fall() {
    if (!this.video || !this.element.getAttribute("src")) return;
    if (this.video.clips) {
      this.failed();
      return;
    }
    this.video.clips = true;
    this.offset = -1;
    this.seek(this.wanted);
  }

  tell() {
    if (this.element.seeking || this.element.readyState < 2) return;
    this.moved((this.video.clips ? this.offset : 0) + this.element.currentTime);
  }

  seek(seconds, play = !this.element.paused) {
    this.wanted = seconds;
    const offset = this.video.clips ? Math.floor(seconds / CHUNK) * CHUNK : 0;
    if (offset !== this.offset) {
      this.offset = offset;
      this.element.src = this.video.clips ? clip(this.video, offset, CHUNK) : address(this.video);
    }
    this.element.currentTime = seconds - offset;
    if (play) this.element.play().catch(() => {});
  }

  toggle() {
    if (this.element.paused) this.element.play().catch(() => {}); else this.element.pause();
  }
}

/** A card with a small player that starts at its moment; `pick` is what a click on its caption does. */
export class Card {
  constructor(pick) {
    this.root = document.createElement("figure");
    this.video = document.createElement("video");
    Object.assign(this.video, { muted: true, playsInline: true, loop: false, preload: "auto", tabIndex: -1 });
    this.caption = document.createElement("button");
    this.caption.type = "button";
    this.root.append(this.video, this.caption);
    this.caption.addEventListener("click", () => pick(this.moment));
    this.video.addEventListener("click", () => pick(this.moment));
    this.video.addEventListener("timeupdate", () => {
      const { first, seconds } = this;
      if (this.video.currentTime > first + seconds) this.video.currentTime = first;
    });
    this.video.addEventListener("ended", () => this.play());
    this.video.addEventListener("error", () => this.fall());
    this.video.addEventListener("loadedmetadata", () => this.video.videoWidth || this.fall());
    this.root.addEventListener("pointerenter", () => this.play());
    this.caption.addEventListener("focus", () => this.play());
  }

  fall() {
    if (!this.moment || this.moment.video.clips || !this.video.getAttribute("src")) return;
    this.moment.video.clips = true;
    this.load();
  }

  /** Shows a moment {video, start, seconds}, its likeness and where it is. */
  show(moment, likeness, where) {
    const same = this.moment && this.moment.video === moment.video && Math.abs(this.moment.start - moment.start) < 0.01;
    this.moment = moment;
    const [strong, small] = [document.createElement("strong"), document.createElement("span")];
    strong.textContent = likeness;
    small.textContent = where;
    this.caption.replaceChildren(strong, small);
    this.caption.setAttribute("aria-label", `${likeness}: ${where}`);
    this.caption.title = where;
    this.root.hidden = false;
    if (!same) this.load();
  }

  load() {
    const { video, start, seconds } = this.moment, length = Math.max(seconds, 2);
    const source = video.clips ? clip(video, start, length) : address(video);
    Object.assign(this, { first: video.clips ? 0 : start, seconds: length });
    if (this.video.getAttribute("src") !== source) this.video.src = source;
    this.video.currentTime = this.first + 0.01;
  }

  play() {
    if (this.root.hidden || !this.moment) return;
    if (this.video.currentTime < this.first || this.video.currentTime > this.first + this.seconds) this.video.currentTime = this.first;
    this.video.play().catch(() => {});
  }

  pause() {
    this.video.pause();
  }

  hide() {
    this.pause();
    this.root.hidden = true;
    this.moment = null;
  }
}

export const where = (moments, i, here) => `${here ? "" : `${moments.video.name}, `}${clock(moments.start[i])}`;
