// Choosing the model: what each is good for, who is ready, and about how long it takes for the chosen video.

import { ProblemLine } from "./problem.js";
import { element, html, parts, setText } from "../html.js";

const REMEMBERED = "vsh.model";
const TOO_LARGE = new Set(["too_many_pixels", "too_many_frames"]);
const COMMON = "mediapipe-selfie"; // what most videos need: people before a camera

export class ModelChoice {
  constructor(app) {
    this.app = app;
    this.video = null;
    this.verdicts = new Map(); // by model: what the hub says about the chosen video
    this.wanted = localStorage.getItem(REMEMBERED);
    this.rows = new Map();
    this.element = element(html`
      <div class="models-box">
        <p class="muted" data-part="note"></p>
        <ul class="models" data-part="list"></ul>
        <div data-part="problem"></div>
      </div>`);
    this.parts = parts(this.element);
    this.problem = new ProblemLine(app.language);
    this.parts.problem.replaceWith(this.problem.element);
    app.models.addEventListener("changed", () => {
      this.update();
      this.ask();
    });
  }

  /** The chosen model's name: what was chosen last, else the common one, else the first that somebody is ready for. */
  get chosen() {
    const fitting = this.app.models.items.filter((model) => this.fits(model));
    if (fitting.some((model) => model.name === this.wanted)) return this.wanted;
    const ready = fitting.filter((model) => model.workers_ready > 0);
    const usual = ready.find((model) => model.name === COMMON);
    return (usual ?? ready[0] ?? fitting[0])?.name ?? null;
  }

  /** Estimate for this video from now on. */
  show(video) {
    if (video?.id === this.video?.id) return;
    this.video = video;
    this.verdicts.clear();
    this.ask();
  }

  /** Have the hub say what each model would make of the video; an answer for one that is not chosen any more is dropped. */
  async ask() {
    const { video } = this;
    if (!video) return;
    try {
      const { models } = await this.app.api.video(video.id);
      if (video !== this.video) return;
      this.verdicts = new Map(models.map((verdict) => [verdict.name, verdict]));
      this.update();
    } catch {
      // What is known of the models goes on to be shown; the next refresh asks again.
    }
  }

  /** Whether a model takes videos as large as the chosen one. */
  fits(model) {
    return !TOO_LARGE.has(this.verdicts.get(model.name)?.reason);
  }

  focus() {
    this.element.querySelector("input")?.focus();
  }

  choose(name) {
    this.wanted = name;
    localStorage.setItem(REMEMBERED, name);
    this.problem.show(null);
  }

  update() {
    const { language, models } = this.app;
    const { list, note } = this.parts;
    const failed = models.problem && !models.known;
    note.hidden = models.items.length > 0;
    setText(note, failed ? language.problem(models.problem) : language.t(models.known ? "model.empty" : "model.loading"));
    for (const [name, row] of this.rows) {
      if (models.get(name)) continue;
      row.element.remove();
      this.rows.delete(name);
    }
    const { chosen } = this;
    models.items.forEach((model, index) => {
      const row = this.rows.get(model.name) ?? this.row(model);
      if (list.children[index] !== row.element) list.insertBefore(row.element, list.children[index] ?? null);
      this.updateRow(row, model, chosen);
    });
    this.problem.update();
  }

  row(model) {
    const node = element(html`
      <li>
        <label class="model">
          <input type="radio" name="model" value="${model.name}">
          <span class="model-words">
            <span class="model-head"><strong data-part="alias"></strong><span class="ready" data-part="ready"></span></span>
            <span class="model-description" data-part="description"></span>
            <small class="muted" data-part="estimate"></small>
          </span>
        </label>
      </li>`);
    const row = { element: node, radio: node.querySelector("input"), parts: parts(node) };
    row.radio.addEventListener("change", () => this.choose(model.name));
    this.rows.set(model.name, row);
    return row;
  }

  updateRow(row, model, chosen) {
    const { language } = this.app;
    const { alias, ready, description, estimate } = row.parts;
    const count = model.workers_ready ?? 0;
    setText(alias, language.own(model.alias || model.name));
    setText(description, language.own(model.description ?? ""));
    const absent = this.verdicts.get(model.name)?.reason === "paused" ? "model.all_paused" : "model.none_ready";
    setText(ready, count ? language.t("model.ready", { count, n: language.number(count) }) : language.t(absent));
    ready.dataset.ready = String(count > 0);
    row.radio.checked = model.name === chosen;
    row.radio.disabled = !this.fits(model);
    setText(estimate, this.prospect(model));
    estimate.dataset.problem = String(row.radio.disabled);
  }

  /** How long the model takes for the chosen video, or why that cannot be said. */
  prospect(model) {
    const { language } = this.app;
    const { seconds, reason } = this.verdicts.get(model.name) ?? {};
    if (seconds) {
      return seconds.p90 > seconds.p50 * 1.3
        ? language.t("model.estimate_range", { times: language.spans(seconds.p50, seconds.p90) })
        : language.t("model.estimate", { time: language.span(seconds.p50) });
    }
    const limits = { pixels: language.number(model.max_pixels / 1e6, 1), frames: language.number(model.max_frames) };
    return language.has(`model.${reason}`) ? language.t(`model.${reason}`, limits) : "";
  }
}
