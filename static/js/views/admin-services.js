// The interface services in an admin's hands: state, load, and what may be done with each; and a form for a new one.

import { ask } from "./ask.js";
import { askText } from "./ask-text.js";
import { ProblemLine } from "./problem.js";
import { arrange, complain, listen, refocus, rowButtons } from "./rows.js";
import { tellOnce } from "./tell-once.js";
import { element, html, parts } from "../html.js";

const AT_WORK = ["ready", "busy"]; // in any other state no slot is free, whatever is done

export class AdminServices {
  constructor(app) {
    this.app = app;
    this.problem = new ProblemLine(app.language);
    this.formProblem = new ProblemLine(app.language);
    this.element = element(html`
      <section class="admin-section" aria-labelledby="services-title">
        <h2 id="services-title" tabindex="-1" data-t="admin.services"></h2>
        <div data-part="problem"></div>
        <p class="muted" data-part="none" data-t="admin.no_services" hidden></p>
        <ul class="admin-rows" data-part="rows"></ul>
        <details class="card admin-add" data-part="add">
          <summary data-t="admin.add"></summary>
          <form data-part="form">
            ${field("name", html`<input id="service-name" name="name" required maxlength="64" pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*" autocomplete="off">`)}
            ${field("dialect", html`
              <select id="service-dialect" name="dialect" data-part="dialect">
                ${["worker", "push", "seed"].map((each) => html`<option value="${each}" data-t="admin.dialect.${each}"></option>`)}
              </select>`)}
            ${field("address", html`<input id="service-address" name="address" type="url" autocomplete="off">`, true)}
            ${field("path", html`<input id="service-path" name="path" placeholder="/process" autocomplete="off">`, true)}
            ${field("models", html`<input id="service-models" name="models" autocomplete="off">`, true)}
            ${field("slots", html`<input id="service-slots" name="slots" type="number" min="1" max="64" value="1">`, true)}
            ${field("note", html`<input id="service-note" name="note" maxlength="500" autocomplete="off">`)}
            <div data-part="formProblem"></div>
            <button class="button primary" data-t="admin.create"></button>
          </form>
        </details>
      </section>`);
    this.parts = parts(this.element);
    this.parts.problem.replaceWith(this.problem.element);
    this.parts.formProblem.replaceWith(this.formProblem.element);
    listen(this.parts.rows, this.problem, (name, move) => this.act(name, move));
    this.parts.dialect.addEventListener("change", () => this.updateForm());
    this.parts.form.addEventListener("submit", (event) => this.create(event));
    this.updateForm();
  }

  draw() {
    const { services } = this.app.admin;
    if (!services) return;
    this.parts.none.hidden = services.length > 0;
    arrange(this.parts.rows, services, (service) => service.name, (service) => this.row(service));
  }

  row(service) {
    const { language } = this.app;
    const { name, state, session, running } = service;
    const used = AT_WORK.includes(state) ? service.slots - session.slots_free : 0;
    const facts = language.line(
      language.t(`admin.dialect.${service.dialect}`),
      service.address && `${service.address}${service.path}`,
      session?.attached && language.t("admin.load", { used: Math.max(running.length, used), slots: service.slots }),
      session && language.t("admin.heard", { time: language.span(session.silent) }),
      service.counts.completed > 0 && language.t("admin.completed", { n: language.number(service.counts.completed) }),
      service.counts.failed > 0 && language.t("admin.failed", { n: language.number(service.counts.failed) }),
    );
    return html`
      <li class="card admin-row" data-service="${state}">
        <div class="admin-words">
          <strong class="name">${name}</strong><span class="state">${language.t(`admin.state.${state}`)}</span>
          <span class="facts">${facts}</span>
          <span class="facts">${service.models.join(", ") || language.t("admin.no_models")}</span>
          ${service.note && html`<span class="muted">${service.note}</span>`}
          ${running.map((task) => html`
            <span class="admin-run">
              <progress max="100" value="${task.progress}" aria-label="${language.t("admin.running", { model: task.model })}"></progress>
              <span class="facts">${language.line(task.model, language.percent(task.progress))}</span>
            </span>`)}
        </div>
        ${rowButtons(language, this.buttons(service), name)}
      </li>`;
  }

  buttons({ pending, enabled, paused, draining, dialect }) {
    if (pending) return ["let_in", "remove"];
    if (!enabled) return ["enable", "remove"];
    const work = paused || draining ? ["resume"] : ["pause", "drain"];
    const own = { worker: ["rotate"], push: ["rotate"], seed: ["models", "slots"] };
    return [...work, ...own[dialect], "note", "disable", "remove"];
  }

  async act(name, move) {
    const { admin } = this.app;
    const service = admin.services.find((each) => each.name === name);
    const moves = {
      let_in: () => this.letIn(service),
      pause: () => admin.change(name, { paused: true }),
      drain: () => admin.change(name, { drain: true }),
      resume: () => admin.change(name, { paused: false, drain: false }),
      models: () => this.nameModels(service, "models", {}),
      slots: () => this.change(service, "slots", String(service.slots), (text) => ({ slots: Number(text) || 0 })),
      note: () => this.change(service, "note", service.note, (text) => ({ note: text.trim() })),
      enable: () => admin.change(name, { enabled: true }),
      disable: async () => await this.sure(service, "disable") && admin.change(name, { enabled: false }),
      remove: async () => await this.sure(service, "remove") && admin.remove(name),
      rotate: async () => await this.sure(service, "rotate") && this.tell(await admin.rotate(name)),
    };
    await moves[move]();
  }

  /** Let in what asked to come, with the models that an admin names if it has none. */
  async letIn(service) {
    if (service.models.length) await this.app.admin.change(service.name, { pending: false });
    else await this.nameModels(service, "let_in", { pending: false });
  }

  /** Write down which models a service has that cannot say so; `fields` are changed with them. */
  async nameModels({ name, registered_models: known }, move, fields) {
    const { admin, language } = this.app;
    const text = await askText(language, language.t("admin.ask_models", { name }), known.join(", "), language.t(`admin.${move}`));
    if (text !== null) await admin.change(name, { ...fields, models: list(text) });
  }

  /** Change one field to what an admin writes; `fields` makes it of the text. */
  async change({ name }, what, value, fields) {
    const { admin, language } = this.app;
    const text = await askText(language, language.t(`admin.ask_${what}`, { name }), value, language.t("admin.save"));
    if (text !== null) await admin.change(name, fields(text));
  }

  sure({ name, dialect }, move) {
    const { language } = this.app;
    const question = move === "disable" && dialect === "worker" ? "disable_worker" : move;
    return ask(language, language.t(`admin.ask_${question}`, { name }), language.t(`admin.${move}`), { no: "admin.not_now" });
  }

  async create(event) {
    event.preventDefault();
    const { admin } = this.app;
    const given = Object.fromEntries(new FormData(this.parts.form));
    const fields = { name: given.name, dialect: given.dialect };
    if (given.note) fields.note = given.note;
    if (given.dialect !== "worker") {
      Object.assign(fields, { address: given.address, models: list(given.models), slots: Number(given.slots) || 1 });
      if (given.path) fields.path = given.path;
    }
    this.formProblem.show(null);
    try {
      const service = await admin.add(fields);
      this.parts.form.reset();
      this.parts.add.open = false;
      this.updateForm();
      await this.tell(service);
      refocus(this.parts.rows, { key: service.name, place: 0 });
    } catch (refusal) {
      complain(this.formProblem, refusal);
    }
  }

  /** What is told only once; services in the older dialect have no secrets. */
  async tell({ name, token, push_secret: secret }) {
    const { language } = this.app;
    if (!token) return;
    const secrets = [{ label: language.t("admin.token", { name }), value: token }];
    if (secret) secrets.push({ label: language.t("admin.secret"), value: secret });
    await tellOnce(language, secrets);
  }

  /** Services that connect by themselves say what they can do; the others have to be told about. */
  updateForm() {
    const called = this.parts.dialect.value !== "worker";
    for (const node of this.element.querySelectorAll("[data-called]")) node.hidden = !called;
    this.element.querySelector("#service-address").required = called;
  }

  update() {
    this.app.language.fill(this.element);
    this.problem.update();
    this.formProblem.update();
    this.draw();
  }
}

function list(text) {
  return text.split(",").map((each) => each.trim()).filter(Boolean);
}

/** One field of the form; `called` ones are for services that the hub calls. */
function field(name, input, called = false) {
  return html`<div class="field" ${called && html`data-called=""`}><label for="service-${name}" data-t="admin.field.${name}"></label>${input}</div>`;
}
