// One file on its way to the hub, by tus 1.0.0: it goes on where it stopped, after a lost line and after a reload.
// Owns the states of an upload, its progress and when it is tried again; knows no page and no other upload.
//
//   sending ──last byte out──▶ checking ──accepted──▶ ready
//    │  ▲                        │
//    │  └── waiting ◀──line lost─┤      refused and cancelled end it from any of the three
//    └────────▶ │ ◀──────────────┘
//
// XMLHttpRequest for the bytes, because fetch cannot tell how much of a body has left.

import { Problem, TUS } from "./api.js";

const OPEN = ["sending", "waiting", "checking"];
const TRANSITIONS = {
  sending: ["waiting", "checking", "refused", "cancelled"],
  waiting: ["sending", "checking", "refused", "cancelled"],
  checking: ["waiting", "ready", "refused", "cancelled"],
  ready: [],
  refused: [],
  cancelled: [],
};
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const STALL_MS = 30_000; // without progress a line counts as lost
const LOOK_MS = 1_000; // between two looks at whether the hub has looked into the file
const PASSING = ["offset_mismatch", "upload_resumed", "checksum_mismatch"]; // to be answered by asking where it stands
const PURPOSES = { videos: "video", backgrounds: "background" };

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

/** What an upload of this user's is remembered by; after it come the file's name, size and time of its last change. */
function remembered(api, kind) {
  return ["vsh.upload", api.session.user?.id, kind, ""].join(":");
}

/** The name of a file whose upload has begun and not ended, or null. What the hub does not wait for any more is forgotten. */
export async function unfinished(kind, { api, storage = globalThis.localStorage }) {
  const start = remembered(api, kind);
  const keys = Array.from({ length: storage.length }, (_, at) => storage.key(at));
  for (const key of keys.filter((each) => each.startsWith(start))) {
    try {
      const { state } = await api.upload(storage.getItem(key));
      if (state === "receiving") return key.slice(start.length).split(":").slice(0, -2).join(":");
    } catch (problem) {
      if (problem.status !== 404 && problem.status !== 410) return null;
    }
    storage.removeItem(key);
  }
  return null;
}

/** Fires "changed" whenever state or progress moved. `kind` is "videos" or "backgrounds". */
export class Upload extends EventTarget {
  /** `storage` remembers addresses over a reload; `wait(ms)` resolves after a while, `every(ms, run)` gives a stop. */
  constructor(kind, file, {
    api, storage = globalThis.localStorage, now = () => performance.now(), wait = pause, every = repeat,
    random = Math.random, XMLHttpRequest = globalThis.XMLHttpRequest,
  }) {
    super();
    Object.assign(this, { kind, file, api, storage, now, wait, every, random, XMLHttpRequest });
    this.name = file.name;
    this.size = file.size;
    this.sent = 0;
    this.from = 0; // bytes that were there when it was taken up
    this.state = "sending";
    this.media = null;
    this.problem = null;
    this.address = null;
    this.failures = 0; // in a row
    this.request = null;
    // Who sends what: the same file of the same user goes on where it stopped.
    this.remembered = remembered(api, kind) + [file.name, file.size, file.lastModified].join(":");
  }

  /** Whether a part of this file is there from before. */
  get begun() {
    return this.storage.getItem(this.remembered) !== null;
  }

  get open() {
    return OPEN.includes(this.state);
  }

  /** Seconds until the last byte is out at the pace so far, or null while that is a guess. */
  get left() {
    const elapsed = (this.now() - this.startedAt) / 1000;
    const sent = this.sent - this.from;
    return elapsed < 1 || sent <= 0 ? null : (elapsed / sent) * (this.size - this.sent);
  }

  start() {
    this.startedAt = this.now();
    this.done = this.run();
    return this;
  }

  /** Try until it is over. */
  async run() {
    while (this.open) {
      try {
        await this.go();
      } catch (error) {
        if (!this.open) return;
        const problem = error instanceof Problem ? error : new Problem({ detail: String(error) });
        if (!passes(problem)) return this.end("refused", { problem });
        this.failures += PASSING.includes(problem.code) ? 0 : 1;
        this.move("waiting");
        const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.failures);
        await this.wait(longest * (0.5 + this.random() / 2));
      }
    }
  }

  /** From wherever it stands to the end. */
  async go() {
    let offset = await this.locate();
    while (this.open && offset < this.size) {
      if (this.state !== "sending") this.move("sending");
      offset = await this.send(offset);
      this.failures = 0;
    }
    if (!this.open) return;
    if (this.state !== "checking") this.move("checking", { sent: this.size });
    await this.outcome();
  }

  /** Begin, or find out how far it is; the offset. */
  async locate() {
    const known = this.address ?? this.storage.getItem(this.remembered);
    const offset = known ? await this.api.uploadOffset(known) : -1;
    if (offset >= 0) {
      if (!this.address) this.from = offset;
      this.address = known;
      this.sent = offset;
      return offset;
    }
    const address = await this.api.beginUpload(this.size, {
      filename: this.name, filetype: typeOf(this.file), purpose: PURPOSES[this.kind],
    });
    if (!address) throw new Problem({ code: "unreadable" });
    if (!this.open) {
      this.forget(address); // cancelled meanwhile
      return this.size;
    }
    Object.assign(this, { address, sent: 0, from: 0 });
    this.remember(address);
    return 0;
  }

  /** Send everything from `offset` on; the offset after it. */
  send(offset) {
    const token = this.api.session.token;
    const request = this.request = new this.XMLHttpRequest();
    let stalled = false;
    this.heardAt = this.now();
    const stop = this.every(STALL_MS / 10, () => {
      stalled = this.state === "sending" && this.now() - this.heardAt > STALL_MS;
      if (stalled) request.abort();
    });
    return new Promise((resolve, reject) => {
      request.open("PATCH", this.address);
      for (const [name, value] of Object.entries({
        ...this.api.headers(), ...TUS, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream",
      })) request.setRequestHeader(name, value);
      request.upload.onprogress = (event) => this.progressed(offset + event.loaded);
      request.upload.onload = () => this.progressed(this.size);
      request.onload = () => {
        const after = Number(request.getResponseHeader("Upload-Offset"));
        if (request.status === 204 && after > offset) resolve(after);
        else reject(this.api.refused(Problem.from(request.status, request.responseText), token));
      };
      request.onerror = () => reject(new Problem({ code: "network" }));
      request.onabort = () => reject(new Problem({ code: stalled ? "network" : "cancelled" }));
      request.send(offset ? this.file.slice(offset) : this.file);
    }).finally(stop);
  }

  /** All bytes are there: wait for what the hub finds in them. */
  async outcome() {
    for (;;) {
      const upload = await this.api.upload(this.address);
      if (!this.open) return;
      if (upload.state === "rejected") return this.end("refused", { problem: new Problem({ status: 422, ...upload.problem }) });
      if (upload.state === "ready") {
        const media = await this.api.oneMedia(this.kind, upload.id);
        return this.open && this.end("ready", { media });
      }
      await this.wait(LOOK_MS);
    }
  }

  /** Nobody wants it any more. */
  cancel() {
    if (!this.open) return;
    this.storage.removeItem(this.remembered);
    this.leave();
    if (this.address) this.forget(this.address);
  }

  /** Stop here; it may go on later, with the same file. */
  leave() {
    if (!this.open) return;
    this.move("cancelled");
    this.request?.abort();
  }

  progressed(bytes) {
    if (this.state !== "sending") return;
    this.heardAt = this.now();
    this.sent = Math.max(this.sent, Math.min(bytes, this.size));
    if (this.sent === this.size) this.move("checking");
    else this.dispatchEvent(new Event("changed"));
  }

  /** It is over; after a session that has ended, the next one of the same user may go on. */
  end(state, facts = {}) {
    if (facts.problem?.status !== 401) this.storage.removeItem(this.remembered);
    this.move(state, facts);
  }

  move(state, facts = {}) {
    if (this.state === state && state === "waiting") return;
    if (!TRANSITIONS[this.state].includes(state)) throw new Error(`an upload that is ${this.state} cannot be ${state}`);
    Object.assign(this, facts, { state });
    this.dispatchEvent(new Event("changed"));
  }

  remember(address) {
    try {
      this.storage.setItem(this.remembered, address);
    } catch {
      // a full or forbidden storage: it will not go on after a reload
    }
  }

  /** Tell the hub that nobody comes back to this upload; it would find out by itself. */
  forget(address) {
    this.api.endUpload(address).catch(() => {});
  }
}

/** Whether trying again may help: the line, the hub's health, or an offset that has moved. */
function passes(problem) {
  if (["disk_full", "too_many_uploads"].includes(problem.code)) return false;
  return problem.status >= 500 || problem.status === 429 || ["network", ...PASSING].includes(problem.code);
}

function repeat(ms, run) {
  const timer = setInterval(run, ms);
  return () => clearInterval(timer);
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
