import assert from "node:assert/strict";
import { test } from "node:test";

import { element, escape, html, raw, setText } from "../../static/js/html.js";

const HOSTILE = `"><img src=x onerror='alert(\`1\`)'> & co`;
const HARMLESS = "&quot;&gt;&lt;img src=x onerror=&#39;alert(&#96;1&#96;)&#39;&gt; &amp; co";

test("values are escaped, in texts and in attributes", () => {
  assert.equal(escape(HOSTILE), HARMLESS);
  assert.equal(String(html`<p title="${HOSTILE}">${HOSTILE}</p>`), `<p title="${HARMLESS}">${HARMLESS}</p>`);
});

test("nested markup and lists of it are not escaped twice", () => {
  const rows = ["<b>", "c"].map((name) => html`<li>${name}</li>`);
  assert.equal(String(html`<ul>${rows}</ul>`), "<ul><li>&lt;b&gt;</li><li>c</li></ul>");
});

test("a list of texts is escaped piece by piece", () => {
  assert.equal(String(html`${["<", ">"]}`), "&lt;&gt;");
});

test("nothing is shown for null, undefined and false, but zero and the empty text are kept", () => {
  assert.equal(String(html`[${null}${undefined}${false}${0}${""}]`), "[0]");
});

test("only what was marked as markup goes in as it is", () => {
  assert.equal(String(html`${raw("<hr>")}${"<hr>"}`), "<hr>&lt;hr&gt;");
  assert.equal(String(html`${{ toString: () => "<i>", text: "<i>" }}`), "&lt;i&gt;");
});

test("an element is never made from a plain text", () => {
  assert.throws(() => element("<p></p>"), TypeError);
});

test("a text that is the same already is left alone", () => {
  let writes = 0;
  const node = { get textContent() { return "same"; }, set textContent(_) { writes += 1; } };
  setText(node, "same");
  assert.equal(writes, 0);
  setText(node, "other");
  assert.equal(writes, 1);
});
