// Choosing one file: upload a new one (button or drop), or take an earlier one.
// Fires "changed" when what is chosen, or whether an upload runs, is different.

import { ask } from "./ask.js";
import { icon } from "./icons.js";
import { facts, poster, strip } from "./media.js";
import { ProblemLine } from "./problem.js";
import { element, html, parts, setText } from "../html.js";
import { Upload, typeOf, unfinished } from "../upload.js";

const SHOWN = 6; // earlier files before "show more"

export class Picker extends EventTarget {
  /** `noun` is "video" or "background": the prefix of this picker's texts. */
  constructor(app, { noun, kind, accept }) {
    super();
    Object.assign(this, { app, noun, kind, library: app.library[kind] });
    this.chosen = null;
    this.remembered = `vsh.${noun}`; // in the tab's storage, so that a reload does not lose the choice
    this.upload = null;
    this.unfinished = null; // the name of a file that a reload has interrupted
    this.shown = SHOWN;
    const id = `${noun}-file`;
    this.element = element(html`
      <div class="picker" data-state="empty">
        <div class="drop" data-part="drop">
          <input class="unseen" type="file" id="${id}" accept="${accept}" data-part="file">
          <label for="${id}">
            ${icon(noun === "video" ? "film" : "picture")}
            <span class="drop-words">
              <span><strong data-part="choose"></strong> <span class="drop-or" data-t="${noun}.drop"></span></span>
              <small data-t="${noun}.hint"></small>
              <small data-part="limits"></small>
            </span>
          </label>
        </div>
        <div class="sending" data-part="sending" hidden>
          <div class="sending-head">
            <strong class="name" data-part="sendingName"></strong>
            <button class="button icon-only" type="button" data-part="cancel" data-t-label="upload.cancel" data-t-title="upload.cancel">${icon("close")}</button>
          </div>
          <progress max="100" data-part="progress"></progress>
          <div class="sending-foot"><span data-part="sendingState"></span><span data-part="sendingSize"></span></div>
        </div>
        <div class="chosen" data-part="chosen" hidden>
          <div class="chosen-poster" data-part="poster"></div>
          <div class="chosen-words">
            <strong class="name" data-part="name"></strong>
            <span class="facts" data-part="facts"></span>
          </div>
          <span class="tick" data-t-title="media.selected">${icon("check")}</span>
          <div class="chosen-strip" role="img" data-t-label="media.strip" data-part="strip" hidden></div>
        </div>
        <p class="note" data-part="unfinished" hidden></p>
        <div data-part="problem"></div>
        <details class="earlier" data-part="earlier" hidden>
          <summary><span data-t="${noun}.earlier"></span> <span class="count" data-part="count"></span></summary>
          <ul class="thumbs" data-part="thumbs" data-t-label="${noun}.earlier"></ul>
          <button class="button quiet wide" type="button" data-part="more" data-t="media.more"></button>
        </details>
      </div>`);
    this.parts = parts(this.element);
    this.problem = new ProblemLine(app.language);
    this.parts.problem.replaceWith(this.problem.element);
    this.listen();
    unfinished(kind, { api: app.api }).then((name) => {
      if (!this.uploading) this.unfinished = name;
      this.updateUpload();
    });
  }

  get uploading() {
    return this.upload?.open ?? false;
  }

  focus() {
    (this.uploading ? this.parts.cancel : this.parts.file).focus();
  }

  listen() {
    const { file, cancel, more } = this.parts;
    file.addEventListener("change", () => {
      this.take([...file.files]);
      file.value = "";
    });
    cancel.addEventListener("click", () => this.upload?.cancel());
    more.addEventListener("click", () => this.showMore());
    this.library.addEventListener("changed", () => this.listed());
    this.app.limits.addEventListener("changed", () => this.updateLimits());
    this.app.signal.addEventListener("abort", () => this.upload?.leave());
    let depth = 0; // dragenter and dragleave also come from the children
    const hover = (by) => {
      depth = Math.max(0, depth + by);
      this.element.classList.toggle("hover", depth > 0);
    };
    this.element.addEventListener("dragenter", () => hover(1));
    this.element.addEventListener("dragleave", () => hover(-1));
    this.element.addEventListener("drop", (event) => {
      event.preventDefault();
      hover(-depth);
      this.take([...event.dataTransfer.files]);
    });
  }

  /** Start to upload the first of these files, if it may be what is wanted here. */
  take([file, ...others]) {
    if (!file) return;
    if (this.uploading) return this.problem.show("upload.one_at_a_time", { name: file.name });
    const wanted = this.kind === "videos" ? "video/" : "image/";
    const type = typeOf(file);
    if (!type.startsWith(wanted) && type !== "application/octet-stream") {
      return this.problem.show(`upload.wrong_kind.${this.noun}`, { name: file.name });
    }
    if (file.size === 0) return this.problem.show("upload.empty", { name: file.name });
    const upload = new Upload(this.kind, file, { api: this.app.api });
    const refused = upload.begun ? null : this.app.limits.refuse(file.size);
    if (refused) return this.problem.show(refused.key, { name: file.name, limit: this.quantity(refused) });
    this.problem.show(others.length ? "upload.one_file" : null);
    this.unfinished = null;
    this.upload = upload;
    this.upload.addEventListener("changed", () => this.moved());
    this.upload.start();
    this.tell();
  }

  /** A limit in words: files are counted, all else is bytes. */
  quantity({ key, value }) {
    const { language } = this.app;
    return key === "upload.too_many_files" ? String(value) : language.bytes(value);
  }

  moved() {
    const { upload, app } = this;
    if (upload.state === "ready") {
      this.upload = null;
      this.library.add(upload.media);
      const said = this.problem.problem;
      this.choose(upload.media);
      if (said === "upload.one_file") this.problem.show(said);
      app.frame.say(app.language.t("upload.accepted", { name: upload.media.name }));
    } else if (upload.state === "refused") {
      this.upload = null;
      this.problem.show(upload.problem, { name: upload.name });
      app.limits.refresh();
      this.tell();
    } else if (upload.state === "cancelled") {
      this.upload = null;
      this.tell();
    } else {
      this.updateUpload();
    }
  }

  /** The list has come: what was chosen before a reload is chosen again. */
  listed() {
    const wanted = sessionStorage.getItem(this.remembered);
    const item = !this.chosen && this.library.items.find((each) => each.id === wanted);
    const { known, next, items } = this.library;
    if (item) this.choose(item);
    else if (this.chosen && known && !next && !items.some(({ id }) => id === this.chosen.id)) this.lose();
    else this.updateEarlier();
    if (!this.chosen && !this.listedBefore) this.parts.earlier.open = true;
    this.listedBefore = this.library.known;
  }

  choose(media) {
    this.chosen = media;
    if (media) sessionStorage.setItem(this.remembered, media.id);
    else sessionStorage.removeItem(this.remembered);
    this.problem.show(null);
    this.tell();
  }

  /** What is chosen has been deleted, here or elsewhere. */
  lose() {
    const { name } = this.chosen;
    this.choose(null);
    this.problem.show("media.gone", { name });
  }

  /** The hub does not find what is chosen. */
  gone() {
    this.lose();
    this.library.refresh();
  }

  async remove(media) {
    const { language } = this.app;
    if (!await ask(language, language.t("ask.delete_media", { name: media.name }), language.t("ask.yes_delete"))) return;
    try {
      const chosen = this.chosen?.id === media.id;
      await this.library.remove(media.id);
      if (chosen) this.choose(null);
    } catch (problem) {
      this.problem.show(problem);
    }
  }

  async showMore() {
    this.shown += SHOWN * 2;
    if (this.shown > this.library.items.length && this.library.next) await this.library.more();
    this.updateEarlier();
  }

  tell() {
    this.update();
    this.dispatchEvent(new Event("changed"));
  }

  update() {
    const { language } = this.app;
    const { chosen, parts: at } = this;
    language.fill(this.element);
    this.element.dataset.state = this.uploading ? "uploading" : chosen ? "chosen" : "empty";
    const held = [at.drop, at.sending].some((part) => part.contains(document.activeElement));
    at.drop.hidden = this.uploading;
    at.sending.hidden = !this.uploading;
    if (held) this.focus();
    setText(at.choose, language.t(chosen ? `${this.noun}.another` : `${this.noun}.choose`));
    at.chosen.hidden = !chosen || this.uploading;
    if (chosen) {
      if (at.poster.dataset.id !== chosen.id) {
        at.poster.dataset.id = chosen.id;
        at.poster.replaceChildren(poster(chosen, this.noun));
        at.strip.hidden = !chosen.strip_url;
        at.strip.replaceChildren(...chosen.strip_url ? [strip(chosen)] : []);
      }
      setText(at.name, chosen.name);
      setText(at.facts, facts(language, chosen));
    }
    this.problem.update();
    this.updateLimits();
    this.updateUpload();
    this.updateEarlier();
  }

  updateLimits() {
    const { language, limits } = this.app;
    setText(this.parts.limits, limits.now ? language.t("upload.limits", {
      file: language.bytes(limits.now.file_size), left: language.bytes(limits.left), all: language.bytes(limits.now.size.limit),
    }) : "");
  }

  updateUpload() {
    const { upload, parts: at } = this;
    const { language } = this.app;
    at.unfinished.hidden = !this.unfinished;
    setText(at.unfinished, this.unfinished ? language.t("upload.unfinished", { name: this.unfinished }) : "");
    if (!this.uploading) return;
    const waiting = upload.state === "waiting";
    const sending = upload.state === "sending" || waiting;
    setText(at.sendingName, upload.name);
    const left = sending && !waiting && upload.left !== null ? ` · ${language.t("upload.left", { time: language.span(upload.left) })}` : "";
    setText(at.sendingState, sending
      ? `${language.t(waiting ? "upload.waiting" : "upload.sending")} ${language.percent(Math.floor((upload.sent / upload.size) * 100))}${left}`
      : language.t("upload.checking"));
    setText(at.sendingSize, sending
      ? language.t("upload.of", { sent: language.bytes(upload.sent), size: language.bytes(upload.size) })
      : language.bytes(upload.size));
    at.progress.setAttribute("aria-label", sending ? language.t("upload.sending") : language.t("upload.checking"));
    if (sending) at.progress.value = (upload.sent / upload.size) * 100;
    else at.progress.removeAttribute("value");
  }

  updateEarlier() {
    const { library, parts: at, shown } = this;
    const { items } = library;
    at.earlier.hidden = items.length === 0;
    setText(at.count, library.next ? `${items.length}+` : String(items.length));
    at.more.hidden = items.length <= shown && !library.next;
    this.drawThumbs(items.slice(0, shown));
    for (const radio of at.thumbs.querySelectorAll("input")) radio.checked = radio.value === this.chosen?.id;
  }

  /** Drawn anew only when different, so that pictures do not flicker and the focus stays. */
  drawThumbs(items) {
    const { thumbs } = this.parts;
    const drawn = [this.app.language.tag, ...items.map((item) => item.id)].join(" ");
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const focused = thumbs.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    thumbs.replaceChildren(...items.map((item) => this.thumb(item)));
    if (focused) (thumbs.querySelector(`[data-key="${CSS.escape(focused)}"]`) ?? this.parts.file).focus();
  }

  thumb(item) {
    const { language } = this.app;
    const label = language.t("media.remove", { name: item.name });
    const node = element(html`
      <li class="thumb">
        <label title="${item.name}">
          <input class="unseen" type="radio" name="${this.noun}-earlier" value="${item.id}" data-key="${item.id}">
          <span class="thumb-poster" data-part="poster"></span>
          <span class="name">${item.name}</span>
          <small class="facts">${facts(language, item, true)}</small>
        </label>
        <button class="button icon-only" type="button" data-part="remove" data-key="remove-${item.id}" aria-label="${label}" title="${label}">${icon("trash")}</button>
      </li>`);
    const at = parts(node);
    at.poster.replaceChildren(poster(item, this.noun));
    const radio = node.querySelector("input");
    radio.addEventListener("change", () => { if (!this.uploading) this.choose(item); });
    at.remove.addEventListener("click", () => this.remove(item));
    return node;
  }
}
