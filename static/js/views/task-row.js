// One task: what it is, how far it is and why, and what can be done about it.

import { ask } from "./ask.js";
import { icon } from "./icons.js";
import { poster } from "./media.js";
import { Previews } from "./previews.js";
import { ProblemLine } from "./problem.js";
import { Result } from "./result.js";
import { element, html, parts, setText } from "../html.js";
import { ENDED } from "../tasks.js";

export class TaskRow {
  constructor(app, task) {
    this.app = app;
    this.result = null;
    this.visible = false;
    this.looking = false;
    this.element = element(html`
      <li class="task card">
        <div class="task-poster" data-part="poster"></div>
        <div class="task-body">
          <div class="task-head">
            <h3 class="name" tabindex="-1" data-part="name"></h3>
            <span class="state" data-part="state"></span>
          </div>
          <p class="task-meta muted" data-part="meta"></p>
          <div class="task-run" data-part="run">
            <progress max="100" data-part="progress"></progress>
            <span class="percent" data-part="percent"></span>
          </div>
          <p class="task-words" data-part="words"></p>
          <p class="task-message muted" data-part="message"></p>
          <div data-part="previews"></div>
          <div data-part="failure"></div>
          <div data-part="problem"></div>
          <div class="task-foot">
            <span class="muted" data-part="when"></span>
            <div class="task-buttons">
              <button class="button primary" type="button" data-part="show" aria-expanded="false">${icon("play")}<span data-part="showText"></span></button>
              <button class="button" type="button" data-part="download">${icon("download")}<span data-t="task.download"></span></button>
              <button class="button" type="button" data-part="retry">${icon("retry")}<span data-t="task.retry"></span></button>
              <button class="button" type="button" data-part="cancel">${icon("close")}<span data-t="task.cancel"></span></button>
              <button class="button quiet icon-only" type="button" data-part="remove">${icon("trash")}</button>
            </div>
          </div>
        </div>
        <div class="task-result" data-part="result" hidden></div>
      </li>`);
    this.parts = parts(this.element);
    this.element.dataset.id = task.id;
    this.failure = new ProblemLine(app.language);
    this.problem = new ProblemLine(app.language);
    this.previews = new Previews(app.language);
    this.parts.previews.replaceWith(this.previews.element);
    this.parts.failure.replaceWith(this.failure.element);
    this.parts.problem.replaceWith(this.problem.element);
    this.parts.poster.replaceChildren(poster(task.video, "video"));
    const on = (name, act) => this.parts[name].addEventListener("click", act);
    on("show", () => this.toggle());
    on("download", () => this.download());
    on("retry", () => this.act(() => app.api.retryTask(this.task.id)));
    on("cancel", () => this.cancel());
    on("remove", () => this.remove());
    app.language.fill(this.element);
    this.update(task);
  }

  /** `before` is the task as it was, if this is news and not just a redraw. */
  update(task, before = null) {
    if (task.eta !== this.task?.eta) this.etaAt = performance.now();
    this.task = task;
    const { language } = this.app;
    const at = this.parts;
    const { name } = task.video;
    this.element.dataset.state = task.state;
    setText(at.name, name);
    at.name.title = name;
    setText(at.state, language.t(`state.${task.state}`));
    setText(at.meta, language.line(this.meta()));
    at.meta.title = this.again ? language.t("task.attempt_hint") : "";
    at.run.hidden = task.state !== "processing";
    at.progress.value = task.progress;
    at.progress.setAttribute("aria-label", language.t("task.progress", { name }));
    setText(at.percent, language.percent(Math.floor(task.progress)));
    setText(at.message, task.state === "processing" ? task.message ?? "" : "");
    this.previews.element.hidden = task.state !== "processing";
    this.previews.update(name);
    this.look();
    this.failure.show(task.state === "failed" && task.problem ? task.problem : null);
    this.problem.update();
    this.updateButtons(name);
    this.tick();
    this.updateResult(before);
  }

  /** Follow the task itself, for its pictures, while it runs before somebody's eyes. */
  look() {
    const { live } = this.app;
    const { id, state } = this.task;
    const looking = this.visible && state === "processing" && !document.hidden;
    if (looking) live.follow(`task:${id}`);
    else if (this.looking) live.unfollow(`task:${id}`);
    if (state !== "processing") this.previews.clear();
    this.looking = looking;
  }

  picture(picture) {
    if (this.looking && picture.attempt === this.task.attempt) this.previews.show(picture);
  }

  /** The row has left the page. */
  leave() {
    this.visible = false;
    this.look();
    this.previews.clear();
  }

  updateButtons(name) {
    const { task, parts: at } = this;
    const { language } = this.app;
    const { activeElement: held } = document;
    const ended = ENDED.has(task.state);
    const done = task.state === "completed" && Boolean(task.result?.video);
    at.show.hidden = at.download.hidden = !done;
    at.retry.hidden = !(task.state === "failed" || task.state === "cancelled");
    at.cancel.hidden = ended;
    at.remove.hidden = !ended;
    at.remove.title = language.t("task.delete");
    for (const [part, key] of [["download", "download_of"], ["retry", "retry_of"], ["cancel", "cancel_of"], ["remove", "delete_of"]]) {
      at[part].setAttribute("aria-label", language.t(`task.${key}`, { name }));
    }
    setText(at.showText, language.t(this.result ? "task.hide" : "task.show"));
    at.show.setAttribute("aria-label", language.t(this.result ? "task.hide_of" : "task.show_of", { name }));
    at.show.setAttribute("aria-expanded", String(this.result !== null));
    if (held.hidden && this.element.contains(held)) this.focus();
  }

  /** The button that had the focus is gone; no other one takes its place, or a key pressed twice would undo what was done. */
  focus() {
    this.parts.name.focus({ preventScroll: true });
  }

  /** Whether an attempt before this one came to nothing; while it waits, the count is of what is over. */
  get again() {
    return this.task.attempt > 1 && this.task.state !== "waiting";
  }

  meta() {
    const { task } = this;
    const { language, models } = this.app;
    return [
      language.own(models.get(task.model)?.alias || task.model),
      task.background ? language.t("task.background", { name: task.background.name }) : task.options?.color && language.t("task.color", { color: task.options.color }),
      this.again ? language.t("task.attempt", { n: language.number(task.attempt) }) : null,
      task.worker && task.state === "processing" ? language.t("task.worker", { worker: task.worker }) : null,
    ];
  }

  /** The lines that depend on the time. */
  tick() {
    const { task, parts: at } = this;
    const { language } = this.app;
    setText(at.words, language.line(this.words()));
    const took = task.state === "completed" && task.started_at
      ? language.t("task.took", { time: language.span((new Date(task.ended_at) - new Date(task.started_at)) / 1000) })
      : null;
    setText(at.when, language.line(language.t("task.created", { time: language.moment(task.created_at) }), took));
  }

  words() {
    const { task } = this;
    const { language } = this.app;
    if (task.state === "processing") {
      const phase = task.phase ?? "none";
      return [language.t(`phase.${phase}`), this.eta()];
    }
    if (task.state === "completed") return [this.kept()];
    if (task.state !== "waiting") return [];
    const again = task.attempt > 0 ? language.t("task.again") : null;
    if (task.blocked_by && task.blocked_by !== "all_busy") {
      const key = `blocked.${task.blocked_by}`;
      return [again, language.has(key) ? language.t(key) : language.t("blocked.other", { code: task.blocked_by })];
    }
    const place = task.position > 1 ? language.t("task.position", { n: language.number(task.position) })
      : language.t(task.position === 1 ? "task.next" : "task.queued");
    return [again, place, this.eta() ?? (task.blocked_by ? language.t("blocked.all_busy") : null)];
  }

  /** Until when the result is there, or that it is not any more. */
  kept() {
    const { task } = this;
    const { language } = this.app;
    if (task.result_gone) return language.t("task.result_gone", { time: language.moment(task.result_gone.at) });
    return task.result_expires_at ? language.t("task.kept_until", { time: language.day(task.result_expires_at) }) : null;
  }

  /** When it will be done, as far as that can be said; nothing once the estimate has run out. */
  eta() {
    const { task } = this;
    const { language } = this.app;
    if (!task.eta) return null;
    const elapsed = (performance.now() - this.etaAt) / 1000;
    const [from, to] = [task.eta.p50 - elapsed, task.eta.p90 - elapsed];
    if (!(from > 1)) return null;
    return to > from * 1.3
      ? language.t("task.eta_range", { times: language.spans(from, to) })
      : language.t("task.eta", { time: language.span(from) });
  }

  updateResult(before) {
    const { task } = this;
    if (task.state !== "completed") this.hide();
    // Somebody watched it being made: show it. Lists that are merely loaded stay closed.
    else if (before?.state === "processing" && !this.result && !document.hidden) this.show();
    this.result?.update();
  }

  async toggle() {
    if (this.result) {
      this.hide();
      return this.updateButtons(this.task.video.name);
    }
    await this.refresh();
    this.show();
  }

  show() {
    if (this.result || !this.task.result?.video) return;
    this.result = new Result(this.app, this);
    this.parts.result.replaceChildren(this.result.element);
    this.parts.result.hidden = false;
    this.updateButtons(this.task.video.name);
  }

  hide() {
    if (!this.result) return;
    this.result = null;
    this.parts.result.replaceChildren();
    this.parts.result.hidden = true;
  }

  /** Fetch the task again, for addresses that are fresh: they live only for a while. */
  refresh() {
    return this.act(() => this.app.api.task(this.task.id));
  }

  async download() {
    if (!await this.refresh()) return;
    const { url, download_url: address = url } = this.task.result?.video ?? {};
    if (!address) return;
    const link = element(html`<a href="${address}" download="${this.task.video.name.replace(/\.\w+$/, "")}.mp4"></a>`);
    document.body.append(link);
    link.click();
    link.remove();
  }

  async cancel() {
    const { language, api } = this.app;
    if (this.task.state === "processing") {
      const sure = await ask(language, language.t("ask.cancel"), language.t("ask.yes_cancel"));
      if (this.parts.cancel.hidden) return this.focus(); // it has ended while the question was open
      if (!sure) return;
    }
    await this.act(() => api.cancelTask(this.task.id));
  }

  async remove() {
    const { language, api, tasks } = this.app;
    if (!await ask(language, language.t("ask.delete_task"), language.t("ask.yes_delete"))) return;
    const { id } = this.task;
    if (await this.act(() => api.deleteTask(id))) tasks.remove(id);
  }

  /** Do something with the task; its answer is news, its problem is said here. True if it went well. */
  async act(request) {
    const { tasks } = this.app;
    const { id } = this.task;
    this.problem.show(null);
    try {
      const task = await request();
      if (task?.id) tasks.put(task);
      return true;
    } catch (problem) {
      if (problem.code !== "not_found") this.problem.show(problem);
      else if (await this.gone()) tasks.remove(id);
      else this.problem.show("task.input_gone");
      return false;
    }
  }

  /** Whether it is the task itself that the hub does not find, and not a file that it was made of. */
  gone() {
    return this.app.api.task(this.task.id).then(() => false, ({ code }) => code === "not_found");
  }
}
