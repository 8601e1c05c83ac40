// The result beside the original, each playable, and both together.

import { icon } from "./icons.js";
import { element, html, parts, setText } from "../html.js";

export class Result {
  /** `row` can fetch the task again when an address has grown too old. */
  constructor(app, row) {
    this.app = app;
    this.row = row;
    this.refreshed = false;
    this.element = element(html`
      <div class="result">
        <div class="videos">
          <figure>
            <video controls playsinline preload="metadata" data-part="made"></video>
            <figcaption><strong data-t="result.result"></strong> <span class="muted" data-part="facts"></span></figcaption>
          </figure>
          <figure>
            <video controls playsinline preload="metadata" data-part="original"></video>
            <figcaption><strong data-t="result.original"></strong></figcaption>
          </figure>
        </div>
        <p class="problem" role="alert" data-part="unplayable" data-t="result.unplayable" hidden></p>
        <button class="button" type="button" data-part="together">${icon("play")}<span data-part="togetherText"></span></button>
      </div>`);
    this.parts = parts(this.element);
    const { made, original, together } = this.parts;
    original.muted = true; // one of the two is enough to hear
    made.addEventListener("error", () => this.stale());
    original.addEventListener("error", () => this.alone());
    for (const type of ["play", "pause", "ended"]) made.addEventListener(type, () => this.update());
    together.addEventListener("click", () => this.playBoth());
    app.language.fill(this.element);
    this.load();
    this.update();
  }

  load() {
    const { task } = this.row;
    const { made, original } = this.parts;
    made.src = task.result.video.url;
    if (task.video.poster_url) original.poster = task.video.poster_url;
    if (task.video.content_url) original.src = task.video.content_url;
    else this.alone();
  }

  /** The original is gone: its owner may have deleted it since. */
  alone() {
    this.parts.original.closest("figure").hidden = true;
    this.parts.together.hidden = true;
  }

  /** An address may have been too old: ask for a new one once, then say that it cannot be played. */
  async stale() {
    if (!this.refreshed) {
      this.refreshed = true;
      if (await this.row.refresh() && this.row.task.result?.video) return this.load();
    }
    this.parts.unplayable.hidden = false;
  }

  playBoth() {
    const { made, original } = this.parts;
    if (!made.paused && !made.ended) {
      made.pause();
      original.pause();
      return;
    }
    if (made.ended) made.currentTime = 0;
    original.currentTime = made.currentTime;
    for (const video of [made, original]) video.play().catch(() => {}); // its own controls say what is wrong
  }

  update() {
    const { language } = this.app;
    const { made, togetherText, facts } = this.parts;
    const { video } = this.row.task.result;
    setText(togetherText, language.t(made.paused || made.ended ? "result.together" : "result.pause"));
    setText(facts, language.t("result.facts", { size: language.bytes(video.size), hash: video.sha256.slice(0, 12) }));
  }
}
