// The form for a new task: video, background, model, go.

import { ModelChoice } from "./model-choice.js";
import { Picker } from "./picker.js";
import { ProblemLine } from "./problem.js";
import { uuid } from "../api.js";
import { element, html, parts, setText } from "../html.js";

const SLOW_MS = 5_000; // after which it is said that the hub does not answer
const COLOR = "#00b140";
const REMEMBERED = { kind: "vsh.kind", color: "vsh.color" }; // in the tab's storage, like the chosen files

export class TaskForm {
  constructor(app) {
    this.app = app;
    this.busy = false;
    this.key = null;
    this.video = new Picker(app, { noun: "video", kind: "videos", accept: "video/*,.mkv,.mov,.m4v" });
    this.background = new Picker(app, { noun: "background", kind: "backgrounds", accept: "image/jpeg,image/png,image/webp" });
    this.model = new ModelChoice(app);
    this.element = element(html`
      <form class="card form" novalidate aria-labelledby="form-title">
        <h2 id="form-title" data-t="form.title"></h2>
        <section class="step" role="group" aria-labelledby="video-title">
          <h3 id="video-title"><span class="step-number" aria-hidden="true">1</span><span data-t="video.title"></span></h3>
          <div data-part="video"></div>
        </section>
        <section class="step" role="group" aria-labelledby="background-title">
          <div class="step-head">
            <h3 id="background-title"><span class="step-number" aria-hidden="true">2</span><span data-t="background.title"></span></h3>
            <div class="switch" role="radiogroup" data-t-label="background.kind">
              <label><input class="unseen" type="radio" name="kind" value="picture" checked><span data-t="background.picture"></span></label>
              <label><input class="unseen" type="radio" name="kind" value="color"><span data-t="background.color"></span></label>
            </div>
          </div>
          <div data-part="background"></div>
          <div class="color" data-part="color" hidden>
            <input type="color" id="color" name="color" value="${COLOR}">
            <div>
              <label for="color" data-t="background.color_label"></label> <output for="color" data-part="colorText">${COLOR}</output>
              <small data-t="background.color_note"></small>
            </div>
          </div>
        </section>
        <section class="step" role="group" aria-labelledby="model-title">
          <h3 id="model-title"><span class="step-number" aria-hidden="true">3</span><span data-t="model.title"></span></h3>
          <div data-part="model"></div>
        </section>
        <div class="go">
          <div data-part="problem"></div>
          <button class="button primary wide" data-part="create"></button>
        </div>
      </form>`);
    this.parts = parts(this.element);
    this.problem = new ProblemLine(app.language);
    this.parts.video.replaceWith(this.video.element);
    this.parts.background.replaceWith(this.background.element);
    this.parts.model.replaceWith(this.model.element);
    this.parts.problem.replaceWith(this.problem.element);
    this.video.addEventListener("changed", () => {
      this.model.show(this.video.chosen);
      this.touched();
    });
    this.background.addEventListener("changed", () => this.touched());
    const { elements } = this.element;
    for (const [name, key] of Object.entries(REMEMBERED)) elements[name].value = sessionStorage.getItem(key) ?? elements[name].value;
    this.element.addEventListener("input", () => this.touched());
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.create();
    });
  }

  get uploading() {
    return this.video.uploading || this.background.uploading;
  }

  get plain() {
    return this.element.elements.kind.value === "color";
  }

  /** Where what is missing is no field: the files are still on their way. */
  focus() {
    this.parts.create.focus();
  }

  /** What is ordered, or the line to say it beside and the key of what is missing. */
  order() {
    const { video, background, model } = this;
    if (this.video.uploading || (!this.plain && background.uploading)) return { missing: "form.still_uploading", at: this };
    if (!video.chosen) return { missing: "form.need_video", at: video };
    if (!this.plain && !background.chosen) return { missing: "background.missing", at: background };
    if (!model.chosen) return { missing: "form.need_model", at: model };
    const order = { video_id: video.chosen.id, model: model.chosen };
    if (this.plain) order.options = { color: this.element.elements.color.value };
    else order.background_id = background.chosen.id;
    return { order };
  }

  /** Another order is another task: it gets another idempotency key, and old complaints are gone. */
  touched() {
    this.key = null;
    this.problem.show(null);
    for (const [name, key] of Object.entries(REMEMBERED)) sessionStorage.setItem(key, this.element.elements[name].value);
    this.update();
  }

  async create() {
    if (this.busy) return;
    const { order, missing, at } = this.order();
    for (const each of [this, this.model]) each.problem.show(null);
    if (missing) {
      at.problem.show(missing);
      at.focus();
      at.problem.element.scrollIntoView({ block: "nearest" });
      return;
    }
    const { api, tasks, frame, language } = this.app;
    this.busy = true;
    this.key ??= uuid();
    this.update();
    const slow = setTimeout(() => this.problem.show("form.slow"), SLOW_MS);
    try {
      const task = await api.createTask(order, this.key);
      this.key = null;
      tasks.put(task);
      frame.say(language.t("form.created", { name: task.video.name }));
      this.element.dispatchEvent(new CustomEvent("ordered", { bubbles: true, detail: task.id }));
    } catch (problem) {
      const at = this.place(problem);
      if (problem.code === "not_found" && at.gone) at.gone();
      else at.problem.show(problem);
      at.problem.element.scrollIntoView({ block: "nearest" });
    } finally {
      clearTimeout(slow);
      if (this.problem.problem === "form.slow") this.problem.show(null);
      this.busy = false;
      this.update();
    }
  }

  /** Where a problem belongs: beside the field that it names, else above the button. */
  place(problem) {
    const pointer = problem.errors[0]?.pointer ?? "";
    if (pointer.startsWith("/video")) return this.video;
    if (pointer.startsWith("/background")) return this.background;
    if (pointer.startsWith("/model")) return this.model;
    return this;
  }

  update() {
    const { language } = this.app;
    const { create, color, colorText } = this.parts;
    language.fill(this.element);
    this.video.update();
    this.background.update();
    this.model.update();
    this.background.element.hidden = this.plain;
    color.hidden = !this.plain;
    setText(colorText, this.element.elements.color.value);
    setText(create, language.t(this.busy ? "form.creating" : "form.create"));
    create.setAttribute("aria-disabled", String(this.busy)); // a disabled one would lose the focus
    this.problem.update();
  }
}
