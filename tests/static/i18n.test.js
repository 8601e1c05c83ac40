import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { LANGUAGES, Language, choose } from "../../static/js/i18n.js";
import { FakeStorage } from "./fakes.js";

const JS = fileURLToPath(new URL("../../static/js/", import.meta.url));
const sources = readdirSync(JS, { recursive: true })
  .filter((name) => name.endsWith(".js") && !name.startsWith("texts") && name !== "i18n.js")
  .map((name) => ({ name, text: readFileSync(JS + name, "utf8") }));
const english = LANGUAGES.en.texts;
const chinese = LANGUAGES["zh-CN"].texts;
const speaking = (tag) => new Language(new FakeStorage(), [tag]);
const ours = readFileSync(`${JS}i18n.js`, "utf8");
const holes = (text) => (text.match(/\{\w+\}/g) ?? []).sort();

describe("texts", () => {
  test("both languages have the same keys in the same order", () => {
    assert.deepEqual(Object.keys(chinese), Object.keys(english));
  });

  test("both languages fill in the same values", () => {
    for (const key of Object.keys(english)) assert.deepEqual(holes(chinese[key]), holes(english[key]), key);
  });

  test("no text is empty, and the Chinese ones are Chinese", () => {
    for (const [key, text] of Object.entries(chinese)) {
      assert.ok(english[key].trim() && text.trim(), key);
      const plain = text.replace(/\{\w+\}|SHA-256|fps|[\s\d·/…()（）：“”]/g, "");
      if (plain) assert.match(text, /[\u4e00-\u9fff]/, key);
    }
  });

  test("every key that a source asks for exists", () => {
    for (const { name, text } of sources) {
      for (const [, key] of text.matchAll(/(?:\b(?:t|has)\(["'`]|\bdata-t(?:-\w+)?=")([^"'`]+)["'`]/g)) {
        assert.notDeepEqual(meant(key), [], `${name} asks for ${key}`);
      }
    }
  });

  test("every text is used", () => {
    const words = sources.flatMap(({ text }) => [...text.matchAll(/["'`]([\w.]*(?:\$\{[^}]*\})?[\w.]*)["'`]/g)].map(([, word]) => word));
    const used = new Set(words.filter((word) => word.includes(".")).flatMap(meant));
    for (const [, key] of ours.matchAll(/this\.t\("([\w.]+)"/g)) used.add(key);
    for (const key of Object.keys(english)) if (key.startsWith("problem.")) used.add(key); // chosen by the hub's codes
    // task-row names these by the part behind the dot.
    for (const word of words.filter((each) => each.endsWith("_of"))) used.add(`task.${word}`);
    assert.deepEqual(Object.keys(english).filter((key) => !used.has(key)), []);
  });
});

/** The keys that a source can mean by a word such as "task.retry" or "phase.${task.phase}". */
function meant(word) {
  const fixed = word.split(/\$\{[^}]*\}/).map((part) => part.replaceAll(".", "\\."));
  const pattern = new RegExp(`^${fixed.join("\\w+")}(\\.one|\\.other)?$`);
  return Object.keys(english).filter((key) => pattern.test(key));
}

describe("choosing", () => {
  test("what was remembered wins, then the first preference that there is, then English", () => {
    assert.equal(choose("zh-CN", ["en-US"]), "zh-CN");
    assert.equal(choose("", ["fr", "zh-Hant-TW", "en"]), "zh-CN");
    assert.equal(choose("", ["en-GB", "zh"]), "en");
    assert.equal(choose("klingon", ["fr"]), "en");
    assert.equal(choose("", []), "en");
  });

  test("switching is remembered and told once", () => {
    const storage = new FakeStorage();
    const language = new Language(storage, ["en"]);
    let told = 0;
    language.addEventListener("changed", () => { told += 1; });
    language.set("zh-CN");
    language.set("zh-CN");
    language.set("klingon");
    assert.equal(told, 1);
    assert.equal(language.t("sign.in"), chinese["sign.in"]);
    assert.equal(new Language(storage, ["en"]).tag, "zh-CN");
  });
});

describe("writing", () => {
  test("values are filled in as they are, also when they look like holes", () => {
    assert.equal(speaking("en").t("form.created", { name: "{name} $& <b>" }), "Task created: {name} $& <b>");
  });

  test("a number chooses its plural", () => {
    assert.equal(speaking("en").t("model.ready", { count: 1, n: 1 }), "1 worker ready");
    assert.equal(speaking("en").t("model.ready", { count: 0, n: 0 }), "0 workers ready");
    assert.equal(speaking("zh").t("model.ready", { count: 1, n: 1 }), "1 个服务可用");
  });

  test("an unknown key is a mistake, not a text", () => {
    assert.throws(() => speaking("en").t("no.such"), RangeError);
  });

  test("sizes, clocks and spans", () => {
    const language = speaking("en");
    assert.equal(language.bytes(0), "0 bytes");
    assert.equal(language.bytes(1_632_292), "1.6 MB");
    assert.equal(language.bytes(208_428), "208 kB");
    assert.equal(language.clock(19.7), "0:20");
    assert.equal(language.clock(3723), "1:02:03");
    assert.equal(language.span(0.2), "1 second");
    assert.equal(language.span(47), "45 seconds");
    assert.equal(language.span(130), "2 minutes");
    assert.equal(language.span(5400), "1.5 hours");
    assert.equal(language.spans(170, 290), "3–5 minutes");
    assert.equal(language.spans(100, 110), "2 minutes");
    assert.equal(speaking("zh").span(130), "2分钟");
  });

  test("a moment of today is a time, any other has its date", () => {
    const now = new Date(2026, 4, 1, 12, 0);
    assert.doesNotMatch(speaking("en").moment(new Date(2026, 4, 1, 9, 5).toISOString(), now), /May/);
    assert.match(speaking("en").moment(new Date(2026, 3, 30, 9, 5).toISOString(), now), /Apr 30/);
    assert.match(speaking("en").moment(new Date(2025, 3, 30, 9, 5).toISOString(), now), /2025/);
  });

  test("of a text in two languages the reader gets the own half", () => {
    assert.equal(speaking("en").own("Green screen / 绿幕"), "Green screen");
    assert.equal(speaking("zh").own("Green screen / 绿幕"), "绿幕");
    assert.equal(speaking("zh").own("Still, or 1 / 2 moving"), "Still, or 1 / 2 moving");
    assert.equal(speaking("en").own("绿幕"), "绿幕");
    assert.equal(speaking("zh").own(""), "");
  });

  test("a line of facts leaves out what there is not", () => {
    assert.equal(speaking("en").line("a", null, ["b", ""], undefined), "a\u00a0· b");
  });
});

describe("problems", () => {
  test("every code that people may come to see has words in both languages", () => {
    const [shown] = readFileSync(new URL("../../docs/reference/problems.md", import.meta.url), "utf8").split("## Codes in messages");
    const [, answers] = shown.split("## Codes of HTTP answers");
    const rows = [...answers.matchAll(/^\| (?:\d+ \| )?`(\w+)`/gm)].map(([, code]) => code);
    const [, workers] = answers.split("All others come from the worker");
    const said = [...workers.matchAll(/`(\w+)`/g)].map(([, code]) => code);
    assert.ok(rows.length > 80 && said.length > 8);
    assert.deepEqual([...rows, ...said].filter((code) => !speaking("zh").has(`problem.${code}`)), []);
  });

  const say = (tag, problem) => speaking(tag).problem({ errors: [], detail: "", ...problem });

  test("the field's code says more than the problem's, our words more than the hub's", () => {
    const problem = { code: "invalid", detail: "hub", errors: [{ pointer: "/email", code: "invalid_email" }] };
    assert.equal(say("en", problem), english["problem.invalid_email"]);
    assert.equal(say("zh", { code: "bad_credentials", detail: "hub" }), chinese["problem.bad_credentials"]);
  });

  test("a code that we have no words for is told in the hub's", () => {
    assert.equal(say("zh", { code: "strange", detail: "出错了" }), "出错了");
    assert.equal(say("en", { code: "strange" }), "Something went wrong (strange).");
  });

  test("no answer and a broken answer have words", () => {
    assert.equal(say("en", { code: "network" }), english["error.network"]);
    assert.match(say("en", { code: "unreadable", status: 502 }), /502/);
  });
});
