// Markup from templates. Owns escaping: every value is escaped unless it was marked as markup.
// Never holds a text of its own and never listens to anything.

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "`": "&#96;" };

class Markup {
  constructor(text) {
    this.text = text;
  }

  toString() {
    return this.text;
  }
}

/** The text with every character replaced that could end a text or an attribute. */
export function escape(value) {
  return String(value).replace(/[&<>"'`]/g, (character) => ENTITIES[character]);
}

/** Mark a text as markup already; only for constants of this program. */
export function raw(text) {
  return new Markup(text);
}

/** Template tag: values are escaped, markup and lists of markup go in as they are, null and false vanish. */
export function html(strings, ...values) {
  return new Markup(strings.reduce((text, string, index) => text + insert(values[index - 1]) + string));
}

function insert(value) {
  if (value === null || value === undefined || value === false) return "";
  if (value instanceof Markup) return value.text;
  if (Array.isArray(value)) return value.map(insert).join("");
  return escape(value);
}

/** The first element of some markup, alive but not yet in the page. */
export function element(markup) {
  if (!(markup instanceof Markup)) throw new TypeError("element() takes what html`` made");
  const template = document.createElement("template");
  template.innerHTML = markup.text.trim();
  return template.content.firstElementChild;
}

/** The elements below `root` that carry data-part, by its value. */
export function parts(root) {
  const found = {};
  for (const node of root.querySelectorAll("[data-part]")) found[node.dataset.part] ??= node;
  return found;
}

/** Set a text only where it differs, so that screen readers and selections are left in peace. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
