// A hub's live side in small, on a network that a test controls step by step: one topic whose state is a number.
// Everything that is on its way waits in a list; `step` lets something happen to one of them.

import { turn } from "./fakes.js";

const HISTORY = 12;

export class FakeHub {
  epoch = 1;
  offset = 0;
  events = [];
  lines = new Set(); // connections, each with `due`: what is on its way to the page, in order
  blocked = new Set(); // kinds of connections that do not get through

  constructor(random) {
    this.random = random;
    const hub = this;
    this.WebSocket = class {
      constructor() {
        Object.assign(this, { kind: "socket", due: [], open: false });
        hub.lines.add(this);
        this.due.push(() => { this.open = true; this.onopen({}); });
      }

      send(text) {
        if (!this.open) throw new DOMException("", "InvalidStateError");
        hub.answer(this, JSON.parse(text));
      }

      say(message) {
        this.due.push(() => this.onmessage({ data: JSON.stringify(message) }));
      }

      close() {
        hub.lines.delete(this);
      }

      cut() {
        hub.lines.delete(this);
        this.onclose({ code: 1006, reason: "" });
      }
    };
  }

  below(number) {
    return Math.floor(this.random() * number);
  }

  /** One more event; `lossy` keeps it from a connection now and then, which must leave no hole. */
  publish(lossy = true) {
    this.offset += 1;
    this.events.push({ v: 1, type: "updated", topic: "tasks", epoch: this.name, offset: this.offset, at: "", data: { value: this.offset } });
    this.events = this.events.slice(-HISTORY);
    for (const line of this.lines) if (line.joined && !(lossy && this.random() < 0.03)) line.say(this.events.at(-1));
  }

  /** Forget what no page may rely on. */
  restart() {
    for (const line of [...this.lines]) line.cut();
    this.epoch += 1;
    this.offset = this.below(3);
    this.events = [];
  }

  get name() {
    return `e${this.epoch}`;
  }

  subscribed(cursor) {
    const [epoch, offset] = (cursor ?? ":").split(":");
    const missed = this.offset - Number(offset);
    const recovered = epoch === this.name && missed >= 0 && missed <= this.events.length;
    return {
      type: "subscribed", v: 1, topic: "tasks", epoch: this.name, offset: this.offset, recovered,
      snapshot: recovered ? null : { items: [], value: this.offset }, events: recovered && missed ? this.events.slice(-missed) : [],
    };
  }

  answer(socket, { type, id, after }) {
    if (type === "auth") socket.say({ type: "authed", id, v: 1, user: "u" });
    else if (type === "ping") socket.say({ type: "pong", id, v: 1 });
    else {
      socket.joined = true;
      socket.say({ ...this.subscribed(after), id });
    }
  }

  fetch = (url, { signal }) => new Promise((resolve, reject) => {
    const { pathname, searchParams } = new URL(url);
    const line = { kind: pathname.endsWith("stream") ? "stream" : "poll", due: [] };
    this.lines.add(line);
    let body = null;
    const end = (error) => {
      this.lines.delete(line);
      reject(error);
      try { body?.error(error); } catch { /* has ended already */ }
    };
    line.cut = () => end(new TypeError("network"));
    signal.addEventListener("abort", () => end(new DOMException("", "AbortError")), { once: true });
    if (line.kind === "poll") return line.due.push(() => this.poll(line, searchParams, resolve));
    line.say = (message) => this.pieces(`data: ${JSON.stringify(message)}\n\n`).forEach((piece) => line.due.push(() => body.enqueue(piece)));
    line.due.push(() => {
      resolve(new Response(new ReadableStream({ start: (controller) => { body = controller; } })));
      line.joined = true;
      line.say(this.subscribed(searchParams.get("cursor")));
    });
  });

  poll(line, query, resolve) {
    const answer = this.subscribed(query.get("cursor"));
    const give = () => {
      this.lines.delete(line);
      resolve(new Response(JSON.stringify({ v: 1, cursor: "", topics: [this.subscribed(query.get("cursor"))], previews: [] })));
    };
    if (query.get("wait") === "0" || !answer.recovered || answer.events.length) return give();
    line.joined = true;
    line.say = () => { line.joined = false; line.due.push(give); };
  }

  /** Bytes in pieces of one to forty. */
  pieces(text) {
    const bytes = new TextEncoder().encode(text);
    const pieces = [];
    for (let at = 0; at < bytes.length;) {
      const size = 1 + this.below(40);
      pieces.push(bytes.slice(at, at + size));
      at += size;
    }
    return pieces;
  }

  /** Let the next thing arrive on one connection, or break it where its kind does not get through. */
  async deliver() {
    const waiting = [...this.lines].filter((line) => line.due.length || this.blocked.has(line.kind));
    if (!waiting.length) return false;
    const line = waiting[this.below(waiting.length)];
    if (this.blocked.has(line.kind)) line.cut();
    else line.due.shift()();
    await turn();
    return true;
  }

  cutOne() {
    [...this.lines][this.below(this.lines.size)]?.cut();
  }
}
