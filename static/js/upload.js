// One file on its way to the hub. Owns the states of an upload and its progress; knows no page and no other upload.
//
//   sending ──last byte out──▶ checking ──accepted──▶ ready
//      ├──cancelled──▶ cancelled ◀──┤
//      └───refused────▶ refused  ◀──┘
//
// XMLHttpRequest, because fetch cannot tell how much of a body has left.

import { Problem } from "./api.js";

const TRANSITIONS = {
  sending: ["checking", "ready", "refused", "cancelled"],
  checking: ["ready", "refused", "cancelled"],
  ready: [],
  refused: [],
  cancelled: [],
};

const TYPES = {
  mp4: "video/mp4", m4v: "video/mp4", mov: "video/quicktime", webm: "video/webm", mkv: "video/x-matroska",
  avi: "video/x-msvideo", "3gp": "video/3gpp", jpg: "image/jpeg", jpeg: "image/jpeg", png: "image/png",
  webp: "image/webp", bmp: "image/bmp",
};

/** The file's content type: what the browser says, else what the name says. */
export function typeOf(file) {
  const extension = file.name.toLowerCase().split(".").pop();
  return file.type || TYPES[extension] || "application/octet-stream";
}

/** Fires "changed" whenever state or progress moved. `kind` is "videos" or "backgrounds". */
export class Upload extends EventTarget {
  constructor(kind, file, { api, now = () => performance.now(), XMLHttpRequest = globalThis.XMLHttpRequest }) {
    super();
    Object.assign(this, { kind, file, api, now });
    this.name = file.name;
    this.size = file.size;
    this.sent = 0;
    this.state = "sending";
    this.media = null;
    this.problem = null;
    this.request = new XMLHttpRequest();
  }

  get open() {
    return TRANSITIONS[this.state].length > 0;
  }

  /** Seconds until the last byte is out at the pace so far, or null while that is a guess. */
  get left() {
    const elapsed = (this.now() - this.startedAt) / 1000;
    return elapsed < 1 || this.sent === 0 ? null : (elapsed / this.sent) * (this.size - this.sent);
  }

  start() {
    const { request } = this;
    const token = this.api.session.token;
    this.startedAt = this.now();
    request.open("POST", `/api/${this.kind}?name=${encodeURIComponent(this.name)}`);
    for (const [name, value] of Object.entries(this.api.headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", typeOf(this.file));
    request.upload.onprogress = (event) => this.progressed(event.loaded);
    request.upload.onload = () => this.progressed(this.size);
    request.onload = () => this.answered(request.status, request.responseText, token);
    request.onerror = () => this.move("refused", { problem: new Problem({ code: "network" }) });
    request.onabort = () => this.move("cancelled");
    request.send(this.file);
    return this;
  }

  cancel() {
    if (this.open) this.request.abort();
  }

  progressed(bytes) {
    if (this.state !== "sending") return;
    this.sent = Math.max(this.sent, Math.min(bytes, this.size));
    if (this.sent === this.size) this.move("checking");
    else this.dispatchEvent(new Event("changed"));
  }

  answered(status, text, token) {
    let media = null;
    try {
      if (status >= 200 && status < 300) media = JSON.parse(text);
    } catch {
      // stays null: an answer that cannot be read is a refusal
    }
    if (media?.id) this.move("ready", { media, sent: this.size });
    else this.move("refused", { problem: this.api.refused(Problem.from(status, text), token) });
  }

  move(state, facts = {}) {
    if (!TRANSITIONS[this.state].includes(state)) throw new Error(`an upload that is ${this.state} cannot be ${state}`);
    Object.assign(this, facts, { state });
    this.dispatchEvent(new Event("changed"));
  }
}
