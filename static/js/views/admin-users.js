// The users in an admin's hands: who there is, who is an admin, who is shut out, and whose work has more weight.

import { ask } from "./ask.js";
import { askText } from "./ask-text.js";
import { More } from "./more.js";
import { ProblemLine } from "./problem.js";
import { arrange, listen, rowButtons } from "./rows.js";
import { element, html, parts } from "../html.js";

const CHANGES = {
  promote: { role: "admin" },
  demote: { role: "user" },
  shut_out: { disabled: true },
  take_back: { disabled: false },
};

export class AdminUsers {
  constructor(app) {
    this.app = app;
    this.problem = new ProblemLine(app.language);
    this.element = element(html`
      <section class="admin-section" aria-labelledby="users-title">
        <h2 id="users-title" tabindex="-1" data-t="admin.users"></h2>
        <div data-part="problem"></div>
        <ul class="admin-rows" data-part="rows"></ul>
      </section>`);
    this.parts = parts(this.element);
    this.parts.problem.replaceWith(this.problem.element);
    this.more = new More(app.language, this.parts.rows, () => app.admin.showMore("users"));
    this.element.append(this.more.element);
    listen(this.parts.rows, this.problem, (id, move) => this.act(id, move));
  }

  draw() {
    const { users, stats, more } = this.app.admin;
    if (!users) return;
    arrange(this.parts.rows, users, (user) => user.id, (user) => this.row(user));
    this.more.draw(more.users, users.length, stats.users);
  }

  row({ email, name, role, disabled, weight, created_at: created }) {
    const { language } = this.app;
    const standing = disabled ? "disabled" : role;
    return html`
      <li class="card admin-row" data-user="${standing}">
        <div class="admin-words">
          <strong class="name">${email}</strong><span class="state">${language.t(`admin.user.${standing}`)}</span>
          <span class="facts">${language.line(
            name, language.t("admin.registered", { time: language.moment(created) }),
            weight > 1 && language.t("admin.has_weight", { n: weight }),
          )}</span>
        </div>
        ${rowButtons(language, [role === "admin" ? "demote" : "promote", disabled ? "take_back" : "shut_out", "weight"], email)}
      </li>`;
  }

  async act(id, move) {
    const { admin, language } = this.app;
    const { email: name, weight } = admin.users.find((each) => each.id === id);
    if (move === "weight") return this.weigh(id, name, weight);
    const look = move === "shut_out" ? "danger" : "primary";
    const sure = move === "take_back"
      || await ask(language, language.t(`admin.ask_${move}`, { name }), language.t(`admin.${move}`), { no: "admin.not_now", look });
    if (sure) await admin.changeUser(id, CHANGES[move]);
  }

  /** Let somebody have as many times the workers' time of others who wait as an admin writes. */
  async weigh(id, name, weight) {
    const { admin, language } = this.app;
    const text = await askText(language, language.t("admin.ask_weight", { name }), String(weight), language.t("admin.save"));
    if (text !== null) await admin.changeUser(id, { weight: Math.round(Number(text)) || 0 });
  }

  update() {
    this.app.language.fill(this.element);
    this.problem.update();
    this.draw();
  }
}
