// The frame around everything: title, connection state, language, account, and the one view in the middle.
// Also the page's voice: what is said here is read out by screen readers.

import { icon } from "./icons.js";
import { changePassword } from "./password.js";
import { element, html, parts, setText } from "../html.js";
import { LANGUAGES } from "../i18n.js";

export class Frame {
  constructor(document, { language, session, api }) {
    Object.assign(this, { document, language, session, api });
    this.view = null;
    this.desk = null;
    this.element = element(html`
      <div class="frame">
        <a class="skip" href="#main" data-part="skip" data-t="app.skip"></a>
        <header class="top">
          <div class="brand">
            <img src="favicon.svg" alt="" width="32" height="32">
            <span class="brand-long" data-t="app.name"></span>
            <span class="brand-short" data-t="app.short" aria-hidden="true"></span>
          </div>
          <div class="top-end">
            <button class="live" type="button" data-part="live" hidden>
              <span class="dot" aria-hidden="true"></span><span data-part="liveText"></span>
            </button>
            <label class="language">
              <span class="unseen" data-t="app.language"></span>
              <select data-part="language">
                ${Object.entries(LANGUAGES).map(([tag, { name }]) => html`<option value="${tag}" lang="${tag}">${name}</option>`)}
              </select>
            </label>
            <a class="admin-link" href="#admin" data-part="admin" data-t="admin.link" hidden></a>
            <div class="account" data-part="account" hidden>
              <button class="account-name" type="button" data-part="password" data-t-title="password.change">${icon("person")}<span data-part="user"></span></button>
              <button class="button quiet" type="button" data-part="signOut" data-t="sign.out"></button>
            </div>
          </div>
        </header>
        <h1 class="unseen" data-part="title" data-t="app.name"></h1>
        <main id="main" tabindex="-1" data-part="main"></main>
        <div class="unseen" role="status" aria-live="polite" data-part="voice"></div>
      </div>`);
    this.parts = parts(this.element);
    document.body.replaceChildren(this.element);
    this.parts.skip.addEventListener("click", (event) => this.skip(event));
    this.parts.language.addEventListener("change", () => language.set(this.parts.language.value));
    this.parts.live.addEventListener("click", () => this.again());
    this.parts.signOut.addEventListener("click", () => this.signOut());
    this.parts.password.addEventListener("click", () => changePassword(this));
    language.addEventListener("changed", () => this.update());
    this.update();
  }

  /** Put one view in the middle; `desk` is what belongs to the signed-in user, or null. */
  show(view, desk) {
    const first = this.view === null;
    this.view = view;
    if (desk !== this.desk) desk?.live.addEventListener("state", () => { if (this.desk === desk) this.tellLive(); });
    this.desk = desk;
    this.parts.main.replaceChildren(view.element);
    this.parts.title.hidden = view.element.querySelector("h1") !== null;
    this.update();
    if (!first) this.parts.main.focus({ preventScroll: true });
    view.shown?.();
  }

  /** Move on to the middle; the address names the page, so it must stay what it is. */
  skip(event) {
    event.preventDefault();
    this.parts.main.focus();
  }

  /** A new element each time, or the same words a second time would not be read out. */
  say(text) {
    this.parts.voice.replaceChildren(element(html`<span>${text}</span>`));
  }

  /** The mark in the browser's tab: how far the task is that gets done next. */
  mark(text) {
    this.document.title = text ? `${text} · ${this.language.t("app.name")}` : this.language.t("app.name");
  }

  /** Try now, whatever keeps the connection from it. */
  again() {
    const { live } = this.desk;
    if (live.state === "closed") live.start();
    else live.hurry();
  }

  async signOut() {
    if (!await this.desk.view.mayLeave()) return;
    this.api.logout().catch(() => {}); // the token is forgotten here in any case
    this.session.end("out_done");
  }

  update() {
    const { language, session } = this;
    this.document.documentElement.lang = language.tag;
    language.fill(this.element);
    this.mark("");
    this.parts.language.value = language.tag;
    this.parts.account.hidden = !session.user;
    this.updateAdmin();
    setText(this.parts.user, session.user ? session.user.name || session.user.email : "");
    this.parts.user.title = session.user?.email ?? "";
    this.updateLive();
    this.view?.update();
  }

  /** The way to the admin's page, and back. */
  updateAdmin() {
    const { admin } = this.parts;
    const there = Boolean(this.view?.admin);
    admin.hidden = this.session.user?.role !== "admin";
    admin.href = there ? "#" : "#admin";
    setText(admin, this.language.t(there ? "admin.back" : "admin.link"));
  }

  updateLive() {
    const { live, liveText } = this.parts;
    live.hidden = !this.desk;
    if (!this.desk) return;
    const { state } = this.desk.live;
    live.dataset.state = state;
    live.title = this.language.t(`live.hint.${state}`);
    live.disabled = state !== "waiting" && state !== "closed";
    setText(liveText, this.language.t(`live.${state}`));
  }

  tellLive() {
    this.updateLive();
    const { state } = this.desk.live;
    if (state !== "connecting") this.say(this.language.t(`live.${state}`));
  }
}
