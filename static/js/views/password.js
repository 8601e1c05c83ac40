// Changing one's password: a dialog. Everybody else who is signed in as this user has to sign in again.

import { ProblemLine } from "./problem.js";
import { element, html, parts } from "../html.js";

/** Open the dialog; it closes when it is done with, or not wanted. */
export function changePassword({ language, session, api }) {
  const t = (key) => language.t(key);
  const dialog = element(html`
    <dialog class="ask" aria-labelledby="password-title">
      <form class="password" data-part="form" novalidate>
        <h2 id="password-title">${t("password.change")}</h2>
        <input class="unseen" autocomplete="username" value="${session.user.email}" tabindex="-1" aria-hidden="true" readonly>
        <div class="field">
          <label for="old-password">${t("password.old")}</label>
          <input id="old-password" type="password" autocomplete="current-password" data-part="old" autofocus>
        </div>
        <div class="field">
          <label for="new-password">${t("password.new")}</label>
          <input id="new-password" type="password" autocomplete="new-password" data-part="fresh" aria-describedby="new-password-hint">
          <small id="new-password-hint">${t("sign.password_hint")}</small>
        </div>
        <p class="muted">${t("password.note")}</p>
        <div data-part="problem"></div>
        <div class="ask-buttons">
          <button class="button" type="button" data-part="no">${t("password.not_now")}</button>
          <button class="button primary" data-part="yes">${t("password.change")}</button>
        </div>
      </form>
    </dialog>`);
  const at = parts(dialog);
  const problem = new ProblemLine(language);
  at.problem.replaceWith(problem.element);
  const complain = (what, field) => {
    problem.show(what);
    field.focus();
  };
  let busy = false;
  at.no.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  at.form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    if (!at.old.value) return complain("password.need_old", at.old);
    if (!at.fresh.value) return complain("password.need_new", at.fresh);
    busy = true;
    problem.show(null);
    try {
      await session.renew(() => api.changePassword(at.old.value, at.fresh.value));
      at.form.replaceWith(changed(language, dialog));
    } catch (refusal) {
      if (refusal.code === "bad_credentials") complain("password.wrong", at.old);
      else complain(refusal, at.fresh);
    }
    busy = false;
  });
  document.body.append(dialog);
  dialog.showModal();
}

function changed(language, dialog) {
  const done = element(html`
    <form method="dialog">
      <p role="status">${language.t("password.changed")}</p>
      <div class="ask-buttons"><button class="button primary" data-part="close">${language.t("password.close")}</button></div>
    </form>`);
  queueMicrotask(() => dialog.querySelector("[data-part=close]").focus());
  return done;
}
