// A question before something that cannot be undone.

import { element, html, parts } from "../html.js";

/** Resolves to true if the answer was yes; Escape and a click beside it are a no. */
export function ask(language, question, yes) {
  const dialog = element(html`
    <dialog class="ask" aria-labelledby="ask-question">
      <form method="dialog">
        <p id="ask-question">${question}</p>
        <div class="ask-buttons">
          <button class="button" value="no" autofocus>${language.t("ask.keep")}</button>
          <button class="button danger" value="yes" data-part="yes">${yes}</button>
        </div>
      </form>
    </dialog>`);
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close("no"); });
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    dialog.showModal();
  });
}
