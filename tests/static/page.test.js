// What must hold for the page as a set of files: it runs under a strict policy, and nothing is fetched late.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const STATIC = fileURLToPath(new URL("../../static/", import.meta.url));
const files = readdirSync(STATIC, { recursive: true }).filter((name) => /\.\w+$/.test(name));
const read = (name) => readFileSync(join(STATIC, name), "utf8");
const scripts = files.filter((name) => name.endsWith(".js"));

test("the page has no inline script and no inline style, and no file writes one", () => {
  assert.doesNotMatch(read("index.html"), /<style|style=|<script(?![^>]*src=)|\son\w+=/);
  for (const name of scripts) assert.doesNotMatch(read(name), /\sstyle="|<script|\son\w+="|\beval\(|new Function/, name);
});

test("nothing comes from elsewhere", () => {
  for (const name of files) {
    const text = read(name).replaceAll("http://www.w3.org/2000/svg", "");
    assert.doesNotMatch(text, /https?:\/\/|@import|url\((?!#)/, name);
  }
});

test("index.html announces every module, and each exists", () => {
  const announced = [...read("index.html").matchAll(/(?:modulepreload" href|module" src)="([^"]+)"/g)].map(([, name]) => name);
  assert.deepEqual(announced.sort(), scripts.map((name) => name.replaceAll("\\", "/")).sort());
});

test("every import leads to a file, and only main and views look at views", () => {
  for (const name of scripts) {
    for (const [, target] of read(name).matchAll(/from "(\.[^"]+)"/g)) {
      const file = relative(STATIC, normalize(join(STATIC, dirname(name), target)));
      assert.ok(files.includes(file), `${name} imports ${file}`);
      if (file.includes("views")) assert.match(name, /^js.(main\.js|views.)/, `${name} imports ${file}`);
    }
  }
});

test("only views and main touch the document", () => {
  for (const name of scripts.filter((each) => !/views|main\.js|html\.js/.test(each))) {
    assert.doesNotMatch(read(name), /\bdocument\b/, name);
  }
});

test("innerHTML is written in one place only", () => {
  assert.deepEqual(scripts.filter((name) => /innerHTML|insertAdjacentHTML|outerHTML/.test(read(name))), [join("js", "html.js")]);
});

test("no file is longer than 400 lines", () => {
  for (const name of files) assert.ok(read(name).split("\n").length <= 400, name);
});

test("there is one style sheet link for each style sheet", () => {
  const linked = [...read("index.html").matchAll(/stylesheet" href="([^"]+)"/g)].map(([, name]) => name);
  assert.deepEqual(linked.sort(), files.filter((name) => name.endsWith(".css")).sort());
});
