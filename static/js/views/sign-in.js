// The way in: sign in, or create an account.

import { ProblemLine } from "./problem.js";
import { element, html, parts, setText } from "../html.js";

export class SignIn {
  constructor({ language, session, api }) {
    Object.assign(this, { language, session, api });
    this.registering = false;
    this.busy = false;
    this.element = element(html`
      <div class="welcome">
        <div class="welcome-words">
          <h1 data-t="app.tagline"></h1>
          <p data-t="app.pitch"></p>
          <div class="welcome-art" aria-hidden="true"><i></i><i></i></div>
        </div>
        <form class="card sign" data-part="form" novalidate>
          <h2 data-part="title"></h2>
          <p class="note" data-part="note" role="status" hidden></p>
          <div class="field">
            <label for="email" data-t="sign.email"></label>
            <input id="email" name="email" type="email" autocomplete="username" inputmode="email" required maxlength="254" data-part="email">
          </div>
          <div class="field" data-part="nameField" hidden>
            <label for="name" data-t="sign.name"></label>
            <input id="name" name="name" autocomplete="name" maxlength="100" data-part="name">
          </div>
          <div class="field">
            <label for="password" data-t="sign.password"></label>
            <div class="with-button">
              <input id="password" name="password" type="password" required data-part="password" aria-describedby="password-hint">
              <button class="button quiet" type="button" data-part="reveal" aria-pressed="false" data-t-label="sign.show_password"></button>
            </div>
            <small id="password-hint" data-part="hint" data-t="sign.password_hint" hidden></small>
          </div>
          <div data-part="problem"></div>
          <button class="button primary wide" data-part="submit"></button>
          <button class="button link" type="button" data-part="other"></button>
        </form>
      </div>`);
    this.parts = parts(this.element);
    this.problem = new ProblemLine(language);
    this.parts.problem.replaceWith(this.problem.element);
    this.parts.email.value = session.email;
    this.parts.other.addEventListener("click", () => this.toggle());
    this.parts.reveal.addEventListener("click", () => this.reveal());
    this.parts.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
  }

  shown() {
    const { email, password } = this.parts;
    (email.value ? password : email).focus();
  }

  toggle() {
    this.registering = !this.registering;
    this.problem.show(null);
    this.update();
    this.parts.email.focus();
  }

  reveal() {
    const { password, reveal } = this.parts;
    const shown = password.type === "password";
    password.type = shown ? "text" : "password";
    reveal.setAttribute("aria-pressed", String(shown));
    this.update();
    password.focus();
  }

  /** The first field that cannot be sent so, and the key of what to say; null where there is none. */
  missing() {
    const { email, password } = this.parts;
    if (!email.value.trim()) return { at: email, key: "sign.need_email" };
    if (!email.validity.valid) return { at: email, key: "problem.invalid_email" };
    return password.value ? null : { at: password, key: "sign.need_password" };
  }

  async submit() {
    const { email, password, name } = this.parts;
    if (this.busy) return;
    const missing = this.missing();
    if (missing) {
      this.problem.show(missing.key);
      missing.at.focus();
      return;
    }
    this.busy = true;
    this.problem.show(null);
    this.update();
    try {
      const answer = this.registering
        ? await this.api.register(email.value.trim(), password.value, name.value.trim())
        : await this.api.login(email.value.trim(), password.value);
      this.session.begin(answer);
    } catch (problem) {
      this.problem.show(problem);
      (problem.errors?.some((error) => error.pointer === "/email") ? email : password).focus();
    } finally {
      this.busy = false;
      this.update();
    }
  }

  update() {
    const { language, registering, parts: at } = this;
    const t = (key) => language.t(key);
    language.fill(this.element);
    const mode = registering ? "register" : "in";
    setText(at.title, registering ? t("sign.register_title") : t("sign.in_title"));
    setText(at.submit, this.busy ? t("sign.busy") : registering ? t("sign.register") : t("sign.in"));
    setText(at.other, registering ? t("sign.to_in") : t("sign.to_register"));
    setText(at.reveal, at.password.type === "password" ? t("sign.show") : t("sign.hide"));
    at.submit.disabled = this.busy;
    at.form.dataset.mode = mode;
    at.nameField.hidden = !registering;
    at.hint.hidden = !registering;
    at.password.autocomplete = registering ? "new-password" : "current-password";
    at.note.hidden = !this.session.reason;
    setText(at.note, this.session.reason ? t(`sign.${this.session.reason}`) : "");
    this.problem.update();
  }
}
