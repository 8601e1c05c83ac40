// Three small pictures of what a worker is at: the frame as it was, who is in front, and what it becomes.
// Their space is there from the start, so that nothing moves when they come.

import { element, html, parts, setText } from "../html.js";

const KINDS = ["original", "mask", "composite"];

export class Previews {
  #urls = new Map();

  constructor(language) {
    this.language = language;
    this.element = element(html`
      <div class="previews" role="group">
        ${KINDS.map((kind) => html`
          <figure>
            <span class="preview-box"><img data-part="${kind}Picture" decoding="async" hidden></span>
            <figcaption class="muted" data-part="${kind}Text"></figcaption>
          </figure>`)}
      </div>`);
    this.parts = parts(this.element);
  }

  /** Show a picture: `image` is a Blob, else `url` is an address of the hub's. */
  show({ kind, image, url }) {
    const shown = this.parts[`${kind}Picture`];
    if (!shown) return;
    this.#release(kind);
    if (image) this.#urls.set(kind, url = URL.createObjectURL(image));
    shown.onload = () => { shown.hidden = false; };
    shown.src = url;
  }

  /** `name` is that of the video. */
  update(name) {
    const { language, parts: at } = this;
    this.element.setAttribute("aria-label", language.t("preview.label", { name }));
    for (const kind of KINDS) {
      at[`${kind}Picture`].alt = language.t(`preview.alt.${kind}`, { name });
      setText(at[`${kind}Text`], language.t(`preview.${kind}`));
    }
  }

  clear() {
    for (const kind of KINDS) {
      this.#release(kind);
      const shown = this.parts[`${kind}Picture`];
      shown.hidden = true;
      shown.removeAttribute("src");
    }
  }

  #release(kind) {
    if (this.#urls.has(kind)) URL.revokeObjectURL(this.#urls.get(kind));
    this.#urls.delete(kind);
  }
}
