// The list of the user's tasks, redrawn row by row as the news come in.

import { ProblemLine } from "./problem.js";
import { TaskRow } from "./task-row.js";
import { element, html, parts, setText } from "../html.js";

export class TaskList {
  constructor(app) {
    this.app = app;
    this.rows = new Map();
    this.element = element(html`
      <section class="tasks" aria-labelledby="tasks-title">
        <div class="tasks-head">
          <h2 id="tasks-title" tabindex="-1" data-part="title" data-t="tasks.title"></h2>
          <span class="muted" data-part="summary"></span>
        </div>
        <p class="muted" data-part="loading" data-t="tasks.loading"></p>
        <div class="empty card" data-part="empty" hidden>
          <div class="empty-art" aria-hidden="true"><i></i></div>
          <strong data-t="tasks.empty"></strong>
          <span class="muted" data-t="tasks.empty_hint"></span>
        </div>
        <ol class="task-rows" data-part="rows"></ol>
        <div data-part="problem"></div>
        <button class="button wide" type="button" data-part="more" data-t="tasks.more" hidden></button>
      </section>`);
    this.parts = parts(this.element);
    this.problem = new ProblemLine(app.language);
    this.parts.problem.replaceWith(this.problem.element);
    this.parts.more.addEventListener("click", () => this.showMore());
    app.tasks.addEventListener("changed", ({ detail }) => this.changed(detail));
    this.watch(app);
    const tick = setInterval(() => this.tick(), 1000);
    app.signal.addEventListener("abort", () => clearInterval(tick));
  }

  /** Who looks at which rows, and the pictures that come because of that. */
  watch({ live, signal }) {
    this.eye = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting } of seen) {
        const row = this.rows.get(target.dataset.id);
        if (row?.element !== target) continue;
        row.visible = isIntersecting;
        row.look();
      }
    });
    const look = () => { for (const row of this.rows.values()) row.look(); };
    live.addEventListener("picture", ({ detail }) => this.rows.get(detail.id)?.picture(detail));
    live.addEventListener("state", () => { if (live.up) look(); });
    document.addEventListener("visibilitychange", look, { signal });
    signal.addEventListener("abort", () => this.eye.disconnect());
  }

  changed({ what, id, before }) {
    const row = this.rows.get(id);
    if (what === "put" && row) {
      row.update(this.app.tasks.get(id), before);
      this.updateHead();
    } else {
      this.arrange();
    }
  }

  /** Put the rows in order; rows that are in place already are not touched, so a playing video plays on. */
  arrange() {
    const { tasks } = this.app;
    const { rows: list, title } = this.parts;
    const held = list.contains(document.activeElement);
    for (const [id, row] of this.rows) {
      if (tasks.get(id)) continue;
      row.element.remove();
      row.leave();
      this.eye.unobserve(row.element);
      this.rows.delete(id);
    }
    let next = list.firstElementChild;
    for (const task of tasks.list()) {
      let row = this.rows.get(task.id);
      if (!row) {
        this.rows.set(task.id, row = new TaskRow(this.app, task));
        this.eye.observe(row.element);
      } else {
        row.update(task);
      }
      if (row.element === next) next = next.nextElementSibling;
      else list.insertBefore(row.element, next);
    }
    if (held && !list.contains(document.activeElement)) title.focus();
    this.updateHead();
  }

  /** Bring a task into view, where the list lies below the form. */
  reveal(id) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.rows.get(id)?.element.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
  }

  async showMore() {
    const { more } = this.parts;
    if (more.ariaDisabled === "true") return;
    more.ariaDisabled = "true"; // a disabled one would lose the focus
    this.problem.show(null);
    try {
      await this.app.feed.more();
    } catch (problem) {
      this.problem.show(problem);
    }
    more.ariaDisabled = "false";
    this.updateHead();
  }

  /** Times left run down although nothing new is heard. */
  tick() {
    if (document.hidden) return;
    for (const row of this.rows.values()) row.tick();
  }

  updateHead() {
    const { tasks, feed, language } = this.app;
    const at = this.parts;
    at.loading.hidden = tasks.known;
    at.empty.hidden = !tasks.known || tasks.size > 0;
    at.more.hidden = !tasks.known || feed.done;
    const count = tasks.open.length;
    const n = `${language.number(count)}${feed.crowded ? "+" : ""}`;
    setText(at.summary, count ? language.t("tasks.summary", { count, n }) : "");
  }

  update() {
    this.app.language.fill(this.element);
    for (const row of this.rows.values()) row.update(row.task);
    this.problem.update();
    this.updateHead();
  }
}
