// What is told only once: it stays in the middle of the screen until somebody says that it is kept.

import { element, html, parts, setText } from "../html.js";

/** Show secrets, each {label, value}, with a button that copies it; resolves when they are kept. */
export function tellOnce(language, secrets) {
  const dialog = element(html`
    <dialog class="ask secret" aria-label="${secrets[0].label}">
      <form method="dialog">
        ${secrets.map(({ label, value }) => html`
          <p>${label}</p>
          <p class="secret-line"><code>${value}</code><button class="button" type="button" data-copy="">${language.t("admin.copy")}</button></p>`)}
        <div class="ask-buttons">
          <span class="muted" role="status" data-part="copied"></span>
          <button class="button primary">${language.t("admin.kept")}</button>
        </div>
      </form>
    </dialog>`);
  document.body.append(dialog);
  dialog.addEventListener("cancel", (event) => event.preventDefault()); // Escape is pressed too easily for this
  dialog.addEventListener("click", async ({ target }) => {
    if (!target.matches("[data-copy]")) return;
    setText(parts(dialog).copied, "");
    if (await copy(target.previousElementSibling)) setText(parts(dialog).copied, language.t("admin.copied"));
  });
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
    dialog.showModal();
  });
}

/** Copy what a node shows; where the clipboard is closed to pages (no https), the old way, which needs it selected. */
async function copy(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(node);
    return document.execCommand("copy");
  }
}
