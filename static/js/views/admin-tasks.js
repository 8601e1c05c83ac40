// Everybody's tasks in an admin's hands: the queue with its reasons, what runs, what failed.

import { ask } from "./ask.js";
import { More } from "./more.js";
import { ProblemLine } from "./problem.js";
import { arrange, listen, rowButtons } from "./rows.js";
import { element, html, parts } from "../html.js";

const LISTS = ["waiting", "processing", "failed", "all"];

export class AdminTasks {
  constructor(app) {
    this.app = app;
    this.problem = new ProblemLine(app.language);
    this.element = element(html`
      <section class="admin-section" aria-labelledby="all-tasks-title">
        <div class="admin-head">
          <h2 id="all-tasks-title" tabindex="-1" data-t="admin.tasks"></h2>
          <div class="switch" role="group" aria-labelledby="all-tasks-title">${LISTS.map((each) => html`
            <label><input class="unseen" type="radio" name="admin-list" value="${each}" ${each === "waiting" && html`checked=""`}>
              <span data-t="admin.list.${each}"></span></label>`)}
          </div>
        </div>
        <div data-part="problem"></div>
        <p class="muted" data-part="none" data-t="admin.no_tasks" hidden></p>
        <ol class="admin-rows" data-part="rows"></ol>
      </section>`);
    this.parts = parts(this.element);
    this.parts.problem.replaceWith(this.problem.element);
    this.more = new More(app.language, this.parts.rows, () => app.admin.showMore("tasks"));
    this.element.append(this.more.element);
    listen(this.parts.rows, this.problem, (id, move) => this.act(id, move));
    this.element.addEventListener("change", ({ target }) => { if (target.name === "admin-list") app.admin.show(target.value); });
  }

  draw() {
    const { tasks, list, stats, more } = this.app.admin;
    this.parts.none.hidden = tasks?.length !== 0;
    arrange(this.parts.rows, tasks ?? [], (task) => task.id, (task) => this.row(task));
    const all = list === "all" ? Object.values(stats?.tasks ?? {}).reduce((sum, number) => sum + number, 0) : stats?.tasks[list];
    this.more.draw(more.tasks, tasks?.length, all);
  }

  row(task) {
    const { language } = this.app;
    const name = task.video.name;
    return html`
      <li class="card admin-row" data-state="${task.state}">
        <div class="admin-words">
          <strong class="name">${name}</strong><span class="state">${language.t(`state.${task.state}`)}</span>
          <span class="facts">${language.line(
            task.owner.email, task.model, language.t("admin.age", { time: language.span(task.age) }),
            task.attempt > 0 && language.t("task.attempt", { n: task.attempt }),
            task.worker && language.t("task.worker", { worker: task.worker }),
          )}</span>
          ${this.reason(task)}
          ${task.state === "processing" && html`
            <span class="admin-run">
              <progress max="100" value="${task.progress}" aria-label="${language.t("task.progress", { name })}"></progress>
              <span class="facts">${language.percent(task.progress)}</span>
            </span>`}
        </div>
        ${rowButtons(language, this.buttons(task), name)}
      </li>`;
  }

  /** Why it waits, or why it failed. */
  reason({ state, blocked_by: blocked, problem }) {
    const { language } = this.app;
    if (state === "waiting" && blocked) {
      const key = `blocked.${blocked}`;
      return html`<span>${language.has(key) ? language.t(key) : language.t("blocked.other", { code: blocked })}</span>`;
    }
    return problem && html`<span title="${problem.detail}">${language.problem(problem)}</span>`;
  }

  buttons({ state }) {
    if (state === "waiting") return ["cancel"];
    if (state === "processing") return ["requeue", "cancel"];
    return state === "completed" ? [] : ["requeue"];
  }

  async act(id, move) {
    const { admin, language } = this.app;
    const how = move === "requeue" ? { no: "admin.not_now", look: "primary" } : {};
    if (await ask(language, language.t(`admin.ask_${move}`), language.t(`admin.${move}`), how)) await admin.move(id, move);
  }

  update() {
    this.app.language.fill(this.element);
    this.problem.update();
    this.draw();
  }
}
