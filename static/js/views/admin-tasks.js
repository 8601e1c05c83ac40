// Everybody's tasks in an admin's hands: the queue with its reasons, what runs, what failed.

import { ask } from "./ask.js";
import { arrange } from "./rows.js";
import { element, html, parts } from "../html.js";

const LISTS = ["waiting", "processing", "failed", "all"];

export class AdminTasks {
  constructor(app) {
    this.app = app;
    this.element = element(html`
      <section class="admin-section" aria-labelledby="all-tasks-title">
        <div class="admin-head">
          <h3 id="all-tasks-title" data-t="admin.tasks"></h3>
          <div class="switch" role="group" aria-labelledby="all-tasks-title">${LISTS.map((each) => html`
            <label><input class="unseen" type="radio" name="admin-list" value="${each}" ${each === "waiting" && html`checked=""`}>
              <span data-t="admin.list.${each}"></span></label>`)}
          </div>
        </div>
        <p class="muted" data-part="none" data-t="admin.no_tasks" hidden></p>
        <ol class="admin-rows" data-part="rows"></ol>
      </section>`);
    this.parts = parts(this.element);
    this.parts.rows.addEventListener("click", (event) => this.clicked(event));
    this.element.addEventListener("change", ({ target }) => { if (target.name === "admin-list") app.admin.show(target.value); });
  }

  draw() {
    const { tasks } = this.app.admin;
    this.parts.none.hidden = tasks?.length !== 0;
    arrange(this.parts.rows, tasks ?? [], (task) => task.id, (task) => this.row(task));
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
        <div class="admin-buttons">${this.buttons(task).map((each) => html`
          <button class="button" type="button" data-do="${each}" aria-label="${language.t(`admin.${each}_of`, { name })}">
            ${language.t(`admin.${each}`)}
          </button>`)}</div>
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

  async clicked(event) {
    const button = event.target.closest("[data-do]");
    if (!button) return;
    const { admin, language, problem } = this.app;
    const { key } = button.closest("[data-key]").dataset;
    const move = button.dataset.do;
    if (!await ask(language, language.t(`admin.ask_${move}`), language.t(`admin.${move}`))) return;
    problem.show(null);
    await admin.move(key, move).catch((refusal) => problem.show(refusal));
  }

  update() {
    this.app.language.fill(this.element);
    this.draw();
  }
}
