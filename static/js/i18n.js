// The language of the page: which one, its texts, and how it writes numbers, sizes and times.
// Owns the choice and remembers it. Holds no text itself and never touches the page beyond what it is handed.

import en from "./texts/en.js";
import enProblems from "./texts/en-problems.js";
import zh from "./texts/zh-CN.js";
import zhProblems from "./texts/zh-CN-problems.js";

export const LANGUAGES = {
  en: { name: "English", texts: { ...en, ...enProblems } },
  "zh-CN": { name: "中文", texts: { ...zh, ...zhProblems } },
};
const REMEMBERED = "vsh.language";

/** The language to start with: the remembered one, else the first preferred one that there is, else English. */
export function choose(remembered, preferred) {
  if (remembered in LANGUAGES) return remembered;
  for (const tag of preferred) {
    if (/^zh\b/i.test(tag)) return "zh-CN";
    if (/^en\b/i.test(tag)) return "en";
  }
  return "en";
}

export class Language extends EventTarget {
  constructor(storage, preferred) {
    super();
    this.storage = storage;
    this.use(choose(storage.getItem(REMEMBERED) ?? "", preferred));
  }

  use(tag) {
    this.tag = tag;
    this.texts = LANGUAGES[tag].texts;
    this.plurals = new Intl.PluralRules(tag);
  }

  /** Switch and remember; fires "changed". */
  set(tag) {
    if (tag === this.tag || !(tag in LANGUAGES)) return;
    this.use(tag);
    this.storage.setItem(REMEMBERED, tag);
    this.dispatchEvent(new Event("changed"));
  }

  has(key) {
    return key in this.texts;
  }

  /** The text of a key with {names} filled in; `count` chooses between .one and .other. */
  t(key, values = {}) {
    const wanted = "count" in values ? `${key}.${this.plural(values.count)}` : key;
    const text = this.texts[wanted];
    if (text === undefined) throw new RangeError(`no text for ${wanted}`);
    return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
  }

  plural(count) {
    return this.plurals.select(count) === "one" ? "one" : "other";
  }

  number(value, digits = 0) {
    return new Intl.NumberFormat(this.tag, { maximumFractionDigits: digits }).format(value);
  }

  percent(value) {
    return new Intl.NumberFormat(this.tag, { style: "percent" }).format(value / 100);
  }

  /** Bytes for people: 980 kB, 1.6 MB. */
  bytes(value) {
    const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
    const power = value < 1 ? 0 : Math.min(Math.floor(Math.log10(value) / 3), units.length - 1);
    return new Intl.NumberFormat(this.tag, {
      style: "unit", unit: units[power], unitDisplay: power ? "short" : "long",
      maximumFractionDigits: power > 1 ? 1 : 0,
    }).format(value / 1000 ** power);
  }

  /** How long media lasts, as a clock: 0:19, 1:02:03. */
  clock(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
    const last = String(whole % 60).padStart(2, "0");
    return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${last}` : `${minutes}:${last}`;
  }

  /** A stretch of time for people, rounded: 40 seconds, 3 minutes, 1.5 hours. */
  span(seconds) {
    if (seconds < 55) return this.unit(seconds < 10 ? Math.max(1, Math.round(seconds)) : Math.round(seconds / 5) * 5, "second");
    if (seconds < 3300) return this.unit(Math.max(1, Math.round(seconds / 60)), "minute");
    return this.unit(Math.round(seconds / 1800) / 2, "hour");
  }

  /** From so long to so long, in one unit: 3–5 minutes. */
  spans(from, to) {
    const [unit, seconds, step] = to < 55 ? ["second", 1, 5] : to < 3300 ? ["minute", 60, 1] : ["hour", 3600, .5];
    const [low, high] = [from, to].map((each) => Math.max(step, Math.round(each / seconds / step) * step));
    return low === high ? this.unit(high, unit) : this.units(unit).formatRange(low, high);
  }

  unit(value, unit) {
    return this.units(unit).format(value);
  }

  units(unit) {
    return new Intl.NumberFormat(this.tag, { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 1 });
  }

  /** Parts of a line, without those that there are not; a line break never leaves a dot in front. */
  line(...facts) {
    return facts.flat().filter(Boolean).join("\u00a0· ");
  }

  /** A moment: the time alone for today, else with the date. */
  moment(text, now = new Date()) {
    const at = new Date(text);
    const time = { hour: "2-digit", minute: "2-digit" };
    const date = { month: "short", day: "numeric" };
    if (at.getFullYear() !== now.getFullYear()) date.year = "numeric";
    const style = at.toDateString() === now.toDateString() ? time : { ...date, ...time };
    return new Intl.DateTimeFormat(this.tag, style).format(at);
  }

  /** A day, for what need not be said to the minute. */
  day(text) {
    return new Intl.DateTimeFormat(this.tag, { year: "numeric", month: "short", day: "numeric" }).format(new Date(text));
  }

  /** The half of a text in this language, where somebody wrote it in two: "Green screen / 绿幕". */
  own(text) {
    const [, english, chinese] = /^([^\u3400-\u9fff]+) \/ (.*[\u3400-\u9fff].*)$/su.exec(text) ?? [null, text, text];
    return this.tag === "zh-CN" ? chinese : english;
  }

  /** Fill the elements of a page part that name their text: data-t, data-t-label, data-t-title, data-t-placeholder. */
  fill(root) {
    const fill = (name, set) => {
      for (const node of [root, ...root.querySelectorAll(`[${name}]`)]) {
        const key = node.getAttribute?.(name);
        if (key) set(node, this.t(key));
      }
    };
    fill("data-t", (node, text) => { node.textContent = text; });
    fill("data-t-label", (node, text) => node.setAttribute("aria-label", text));
    fill("data-t-title", (node, text) => node.setAttribute("title", text));
    fill("data-t-placeholder", (node, text) => node.setAttribute("placeholder", text));
    return root;
  }

  /** What a problem says to people: our own words for the codes that have them, else the hub's. */
  problem(problem) {
    const codes = [...(problem.errors ?? []).map((error) => error.code), problem.code];
    const known = codes.find((code) => this.has(`problem.${code}`));
    if (known) return this.t(`problem.${known}`, { detail: problem.detail });
    if (problem.code === "network") return this.t("error.network");
    if (problem.code === "unreadable") return this.t("error.unreadable", { status: problem.status });
    return problem.detail || this.t("error.unknown", { code: problem.code });
  }
}
