// A question that is answered with a line of text.

import { element, html, parts } from "../html.js";

/** Resolves to the text, or to null where nobody wants to answer. */
export function askText(language, question, value, yes) {
  const dialog = element(html`
    <dialog class="ask" aria-labelledby="ask-question">
      <form method="dialog" class="field">
        <label id="ask-question" for="ask-text">${question}</label>
        <input id="ask-text" data-part="text" value="${value}" autocomplete="off">
        <div class="ask-buttons">
          <button class="button" type="button" data-part="no">${language.t("admin.not_now")}</button>
          <button class="button primary" value="yes">${yes}</button>
        </div>
      </form>
    </dialog>`);
  const { text, no } = parts(dialog);
  document.body.append(dialog);
  no.addEventListener("click", () => dialog.close("no"));
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? text.value : null);
    });
    dialog.showModal();
  });
}
