// What a signed-in user sees: the form for a new task beside the list of tasks.

import { ask } from "./ask.js";
import { TaskForm } from "./task-form.js";
import { TaskList } from "./task-list.js";
import { element, html } from "../html.js";

export class Workspace {
  constructor(app) {
    this.app = app;
    this.form = new TaskForm(app);
    this.list = new TaskList(app);
    this.element = element(html`<div class="workspace"></div>`);
    this.element.append(this.form.element, this.list.element);
    app.tasks.addEventListener("changed", ({ detail }) => this.told(detail));
    this.element.addEventListener("ordered", ({ detail }) => this.list.reveal(detail));
    addEventListener("beforeunload", (event) => { if (this.form.uploading) event.preventDefault(); }, { signal: app.signal });
    // A file dropped beside the pickers must not make the browser leave the page.
    for (const type of ["dragover", "drop"]) {
      addEventListener(type, (event) => event.preventDefault(), { signal: app.signal });
    }
  }

  async mayLeave() {
    if (!this.form.uploading) return true;
    const { language } = this.app;
    return ask(language, language.t("ask.sign_out"), language.t("sign.out"));
  }

  /** Say what happened to a task, but not each step of its progress. */
  told({ what, id, before }) {
    const { language, tasks, frame } = this.app;
    const task = tasks.get(id);
    if (what === "put" && before && before.state !== task.state) {
      frame.say(language.t("task.said", { name: task.video.name, state: language.t(`state.${task.state}`) }));
    }
    this.mark();
  }

  /** How far the task is that gets done next. */
  mark() {
    const { language, tasks, frame } = this.app;
    const running = tasks.open.filter((task) => task.state === "processing");
    frame.mark(running.length ? language.percent(Math.max(...running.map((task) => task.progress))) : "");
  }

  update() {
    this.mark();
    this.form.update();
    this.list.update();
  }
}
