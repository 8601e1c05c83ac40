// A question before something that cannot be undone.

import { element, html, parts } from "../html.js";

/**
 * Resolves to true if the answer was yes; Escape and a click beside it are a no. `no` is the key of the text for no;
 * `look` is how the button for yes looks, "danger" or "primary".
 */
export function ask(language, question, yes, { no = "ask.keep", look = "danger" } = {}) {
  const dialog = element(html`
    <dialog class="ask" aria-labelledby="ask-question">
      <form method="dialog">
        <p id="ask-question">${question}</p>
        <div class="ask-buttons">
          <button class="button" value="no" autofocus>${language.t(no)}</button>
          <button class="button ${look}" value="yes" data-part="yes">${yes}</button>
        </div>
      </form>
    </dialog>`);
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => { if (event.target === dialog && beside(dialog, event)) dialog.close("no"); });
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    dialog.showModal();
  });
}

/** Whether a click is outside of the dialog; its padding belongs to it. */
function beside(dialog, { clientX: x, clientY: y }) {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  return x < left || x > right || y < top || y > bottom;
}
