// The interface services in an admin's hands: state, load, and what may be done with each; and a form for a new one.

import { ask } from "./ask.js";
import { askText } from "./ask-text.js";
import { arrange } from "./rows.js";
import { element, html, parts } from "../html.js";

export class AdminServices {
  constructor(app) {
    this.app = app;
    this.element = element(html`
      <section class="admin-section" aria-labelledby="services-title">
        <h3 id="services-title" data-t="admin.services"></h3>
        <p class="muted" data-part="none" data-t="admin.no_services" hidden></p>
        <ul class="admin-rows" data-part="rows"></ul>
        <p class="note secret" data-part="secret" role="status" hidden></p>
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
            <button class="button primary" data-t="admin.create"></button>
          </form>
        </details>
      </section>`);
    this.parts = parts(this.element);
    this.parts.rows.addEventListener("click", (event) => this.clicked(event));
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
    const used = session ? service.slots - session.slots_free : 0;
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
        <div class="admin-buttons">${this.buttons(service).map((each) => html`
          <button class="button" type="button" data-do="${each}" aria-label="${language.t(`admin.${each}_of`, { name })}">
            ${language.t(`admin.${each}`)}
          </button>`)}</div>
      </li>`;
  }

  buttons({ pending, enabled, paused, draining, dialect }) {
    if (pending) return ["let_in", "remove"];
    if (!enabled) return ["enable", "remove"];
    const work = paused || draining ? ["resume"] : ["pause", "drain"];
    const own = { worker: ["rotate"], push: ["rotate"], seed: ["models"] };
    return [...work, ...own[dialect], "disable", "remove"];
  }

  async clicked(event) {
    const button = event.target.closest("[data-do]");
    if (!button) return;
    const { admin, language, problem } = this.app;
    const name = button.closest("[data-key]").dataset.key;
    const moves = {
      let_in: () => this.letIn(name),
      pause: () => admin.change(name, { paused: true }),
      drain: () => admin.change(name, { drain: true }),
      resume: () => admin.change(name, { paused: false, drain: false }),
      models: () => this.nameModels(name, "models", {}),
      enable: () => admin.change(name, { enabled: true }),
      disable: async () => await this.sure("disable", name) && admin.change(name, { enabled: false }),
      remove: async () => await this.sure("remove", name) && admin.remove(name),
      rotate: async () => await this.sure("rotate", name) && this.tell(await admin.rotate(name)),
    };
    problem.show(null);
    button.disabled = true;
    await moves[button.dataset.do]().catch((refusal) => problem.show(refusal));
    button.disabled = false;
    language.fill(this.element);
  }

  /** Let in what asked to come, with the models that an admin names if it has none. */
  async letIn(name) {
    const { admin } = this.app;
    const service = admin.services.find((each) => each.name === name);
    if (service.models.length) await admin.change(name, { pending: false });
    else await this.nameModels(name, "let_in", { pending: false });
  }

  /** Write down which models a service has that cannot say so; `fields` are changed with them. */
  async nameModels(name, move, fields) {
    const { admin, language } = this.app;
    const { registered_models: known } = admin.services.find((each) => each.name === name);
    const text = await askText(language, language.t("admin.ask_models", { name }), known.join(", "), language.t(`admin.${move}`));
    if (text !== null) await admin.change(name, { ...fields, models: list(text) });
  }

  sure(move, name) {
    const { language } = this.app;
    return ask(language, language.t(`admin.ask_${move}`, { name }), language.t(`admin.${move}`));
  }

  async create(event) {
    event.preventDefault();
    const { admin, problem } = this.app;
    const given = Object.fromEntries(new FormData(this.parts.form));
    const fields = { name: given.name, dialect: given.dialect };
    if (given.note) fields.note = given.note;
    if (given.dialect !== "worker") {
      Object.assign(fields, { address: given.address, models: list(given.models), slots: Number(given.slots) || 1 });
      if (given.path) fields.path = given.path;
    }
    problem.show(null);
    try {
      this.tell(await admin.add(fields));
      this.parts.form.reset();
      this.parts.add.open = false;
      this.updateForm();
    } catch (refusal) {
      problem.show(refusal);
    }
  }

  /** What is told once. */
  tell({ name, token, push_secret: secret }) {
    const { language } = this.app;
    this.parts.secret.hidden = !token;
    if (!token) return;
    this.parts.secret.replaceChildren(element(html`
      <span>${language.t("admin.token", { name })}<br><code>${token}</code>
        ${secret && html`<br>${language.t("admin.secret")}<br><code>${secret}</code>`}</span>`));
  }

  /** Services that connect by themselves say what they can do; the others have to be told about. */
  updateForm() {
    const called = this.parts.dialect.value !== "worker";
    for (const node of this.element.querySelectorAll("[data-called]")) node.hidden = !called;
    this.element.querySelector("#service-address").required = called;
  }

  update() {
    this.app.language.fill(this.element);
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
