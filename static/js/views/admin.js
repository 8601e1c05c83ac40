// The admin's page: numbers on top, then the interface services, the models, everybody's tasks with their reasons, and
// who there is.

import { AdminModels } from "./admin-models.js";
import { AdminServices } from "./admin-services.js";
import { AdminTasks } from "./admin-tasks.js";
import { AdminUsers } from "./admin-users.js";
import { ProblemLine } from "./problem.js";
import { Admin } from "../admin.js";
import { element, html, parts, setText } from "../html.js";

export class AdminPage {
  /** `refused` is called when the hub says that this is no admin. */
  constructor({ language, api, refused }) {
    this.language = language;
    this.admin = new Admin(api, { visible: () => !document.hidden });
    this.element = element(html`
      <div class="admin">
        <div class="admin-head">
          <h1 data-t="admin.title"></h1>
          <span class="muted" data-part="stats"></span>
          <span class="muted admin-space" data-part="space"></span>
          <p class="problem" role="alert" data-part="warning" hidden></p>
        </div>
        <div data-part="problem"></div>
      </div>`);
    this.parts = parts(this.element);
    this.problem = new ProblemLine(language);
    this.parts.problem.replaceWith(this.problem.element);
    const app = { language, admin: this.admin };
    this.sections = [AdminServices, AdminModels, AdminTasks, AdminUsers].map((Section) => new Section(app));
    this.element.append(...this.sections.map((section) => section.element));
    this.admin.addEventListener("changed", () => this.changed());
    this.admin.addEventListener("refused", refused);
  }

  shown() {
    this.admin.start();
  }

  close() {
    this.admin.stop();
  }

  changed() {
    this.problem.show(this.admin.problem);
    this.updateStats();
    for (const section of this.sections) section.draw();
  }

  updateStats() {
    const { language } = this;
    const { stats } = this.admin;
    if (!stats) return;
    setText(this.parts.stats, language.line(
      language.t("admin.stats_tasks", { waiting: language.number(stats.tasks.waiting), processing: language.number(stats.tasks.processing) }),
      language.t("admin.stats_slots", { free: language.number(stats.slots.free), all: language.number(stats.slots.all) }),
      language.t("admin.stats_users", { count: stats.users, n: language.number(stats.users) }),
      language.t("admin.stats_disk", { size: language.bytes(stats.disk.output.free) }),
    ));
    this.updateSpace(stats.space);
  }

  /** What the last round of tidying found; before the first one there is nothing to tell. */
  updateSpace(space) {
    const { language } = this;
    const { space: line, warning } = this.parts;
    line.hidden = !space;
    warning.hidden = !space?.refused && !space?.missing;
    if (!space) return;
    const used = Object.entries(space.used).filter(([, size]) => size)
      .map(([what, size]) => language.t("admin.space_used", { what: language.t(`admin.space.${what}`), size: language.bytes(size) }));
    const gone = ["orphans", "results", "leftovers"].map((what) => space[what]);
    const [number, size] = ["number", "size"].map((part) => gone.reduce((sum, each) => sum + each[part], 0));
    setText(line, language.line(used, language.t("admin.space_tidied", {
      time: language.moment(space.at), count: number, n: language.number(number), size: language.bytes(size),
    })));
    setText(warning, space.refused ? language.t("admin.space_refused")
      : language.t("admin.space_missing", { count: space.missing, n: language.number(space.missing) }));
  }

  update() {
    this.language.fill(this.element);
    this.problem.update();
    this.updateStats();
    for (const section of this.sections) section.update();
  }
}
