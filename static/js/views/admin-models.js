// The models as admins see them: who offers each, and how many tasks wait for it.

import { arrange } from "./rows.js";
import { element, html, parts } from "../html.js";

export class AdminModels {
  constructor(app) {
    this.app = app;
    this.element = element(html`
      <section class="admin-section" aria-labelledby="models-title">
        <h2 id="models-title" tabindex="-1" data-t="admin.models_title"></h2>
        <p class="muted" data-part="none" data-t="admin.no_models_yet" hidden></p>
        <ul class="admin-rows" data-part="rows"></ul>
      </section>`);
    this.parts = parts(this.element);
  }

  draw() {
    const { models } = this.app.admin;
    this.parts.none.hidden = models?.length !== 0;
    arrange(this.parts.rows, models ?? [], (model) => model.name, (model) => this.row(model));
  }

  row({ name, alias, waiting, workers_ready: ready, interfaces }) {
    const { language } = this.app;
    return html`
      <li class="card admin-row">
        <div class="admin-words">
          <strong class="name">${alias ? language.own(alias) : name}</strong>
          <span class="facts">${language.line(
            alias && name,
            language.t("admin.queued", { n: language.number(waiting) }),
            language.t("model.ready", { count: ready, n: language.number(ready) }),
            interfaces.length ? language.t("admin.offered_by", { names: interfaces.join(", ") }) : language.t("admin.offered_by_none"),
          )}</span>
        </div>
      </li>`;
  }

  update() {
    this.app.language.fill(this.element);
    this.draw();
  }
}
