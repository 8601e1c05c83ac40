// A problem, said where it belongs.

import { icon } from "./icons.js";
import { element, html, parts, setText } from "../html.js";

/** A line that is empty until there is something to say. */
export class ProblemLine {
  constructor(language) {
    this.language = language;
    this.problem = null;
    this.element = element(html`
      <p class="problem" role="alert" hidden>${icon("alert")}<span data-part="text"></span></p>`);
    this.parts = parts(this.element);
  }

  /** `problem` is a Problem (of the file `name`), the key of one of our texts with its values, or null for none. */
  show(problem, values = {}) {
    this.problem = problem;
    this.values = values;
    this.update();
  }

  update() {
    this.element.hidden = this.problem === null;
    this.element.title = this.problem?.detail ?? "";
    setText(this.parts.text, this.problem === null ? "" : this.words());
  }

  words() {
    const { problem, values, language } = this;
    if (typeof problem === "string") return language.t(problem, values);
    const why = language.problem(problem);
    return values.name ? language.t("upload.refused", { name: values.name, why }) : why;
  }
}
