// What stands below a list that is not shown to its end.

import { refocus } from "./rows.js";
import { element, html, parts, setText } from "../html.js";

export class More {
  /** `ask` gets more of what `list` shows; it resolves when that is shown. */
  constructor(language, list, ask) {
    this.language = language;
    this.element = element(html`
      <p class="admin-more" hidden>
        <span class="muted" data-part="words"></span>
        <button class="button" type="button" data-part="more" data-t="media.more"></button>
      </p>`);
    this.parts = parts(this.element);
    this.parts.more.addEventListener("click", async () => {
      const place = list.children.length;
      await ask();
      refocus(list, { place });
    });
  }

  /** `more` says whether there is anything that is not shown. */
  draw(more, shown, all) {
    const { language } = this;
    this.element.hidden = !more;
    setText(this.parts.words, language.t("admin.shown", { n: language.number(shown), all: language.number(Math.max(shown, all)) }));
  }
}
