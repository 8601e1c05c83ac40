// The live connection: one state machine around a websocket, for one topic.
// Owns the cursor (epoch:offset), the order of events and when to come back. Knows nothing of what events mean.
//
//   idle ──start──▶ connecting ──subscribed──▶ live
//                     ▲    │ lost               │ lost
//                     └────┴──── waiting ◀──────┘        any ──stop──▶ idle    any ──final close──▶ ended
//
// Fires "state"; "snapshot" with the whole topic, replacing what was known; "event" for each event, in order, once;
// and "ended" with {code, reason} when the hub said not to come back.

const TRANSITIONS = {
  idle: ["connecting"],
  connecting: ["live", "waiting", "ended", "idle"],
  live: ["waiting", "ended", "idle"],
  waiting: ["connecting", "idle"],
  ended: ["connecting", "idle"],
};

export const CONNECT_MS = 10_000; // until subscribed, else try again
export const QUIET_MS = 15_000; // silence after which we ask whether somebody is there
export const PONG_MS = 8_000; // for the answer to that
export const STEADY_MS = 10_000; // live for so long, and the next loss counts as the first
const SHORTEST_MS = 300;
const LONGEST_MS = 10_000;

/** How long to wait before try number `tries` (from 0): anywhere up to a limit that doubles, so that a crowd spreads. */
export function pause(tries, random) {
  const limit = Math.min(LONGEST_MS, SHORTEST_MS * 2 ** (tries + 1));
  return SHORTEST_MS + random() * (limit - SHORTEST_MS);
}

const CLOCK = {
  now: () => performance.now(),
  set: (run, ms) => setTimeout(run, ms),
  clear: (timer) => clearTimeout(timer),
};

export class Live extends EventTarget {
  state = "idle";
  cursor = null;
  tries = 0;
  #socket = null;
  #timer = null;
  #requests = 0;
  #subscribing = 0;
  #liveSince = 0;
  #awaiting = false;

  /** `token` is a function, asked at each connect. */
  constructor({ url, token, topic = "tasks", WebSocket = globalThis.WebSocket, clock = CLOCK, random = Math.random }) {
    super();
    Object.assign(this, { url, token, topic, WebSocket, clock, random });
  }

  start() {
    if (this.state === "idle" || this.state === "ended") this.#connect();
  }

  stop() {
    this.#drop();
    this.cursor = null;
    this.tries = 0;
    if (this.state !== "idle") this.#move("idle");
  }

  /** Stop waiting, try now: the network is back, or somebody asked. */
  retryNow() {
    if (this.state === "waiting") this.#connect();
  }

  #connect() {
    this.#drop();
    this.#move("connecting");
    const socket = new this.WebSocket(this.url);
    this.#socket = socket;
    // A socket that was given up may still speak; only the current one is listened to.
    const current = (act) => (event) => { if (socket === this.#socket) act(event); };
    socket.onopen = current(() => this.#send("auth", { token: this.token() }));
    socket.onmessage = current((event) => this.#heard(event.data));
    socket.onclose = current((event) => this.#closed(event.code, event.reason));
    this.#after(CONNECT_MS, () => this.#lost());
  }

  #heard(data) {
    if (typeof data !== "string") return;
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return this.#lost();
    }
    if (this.state === "live" && !this.#subscribing) this.#watch();
    if (message.type === "authed") this.#subscribe();
    else if (message.type === "subscribed") this.#subscribed(message);
    else if (message.type === "error") this.#refused(message);
    else if (message.offset !== undefined && message.topic === this.topic) this.#event(message);
  }

  #subscribe() {
    this.#subscribing = this.#send("subscribe", this.cursor ? { topic: this.topic, after: this.cursor } : { topic: this.topic });
  }

  #subscribed({ id, epoch, offset, recovered, snapshot, events }) {
    if (id !== this.#subscribing) return;
    if (recovered) {
      for (const event of events ?? []) this.#event(event);
      if (!this.#socket) return; // a listener has stopped us
      const at = position(this.cursor);
      if (at?.epoch !== epoch || at.offset < offset) return this.#startOver();
    } else {
      this.cursor = `${epoch}:${offset}`;
      this.#tell("snapshot", snapshot ?? { items: [] });
      if (!this.#socket) return;
    }
    this.#subscribing = 0;
    if (this.state !== "live") {
      this.#liveSince = this.clock.now();
      this.#move("live");
    }
    this.#watch();
  }

  /** The next event is told; an old one is dropped; behind a gap everything is asked for again. */
  #event(event) {
    const at = position(this.cursor);
    const known = at !== null && event.epoch === at.epoch;
    if (known && event.offset <= at.offset) return;
    if (known && event.offset === at.offset + 1) {
      this.cursor = `${event.epoch}:${event.offset}`;
      this.#tell("event", event);
    } else if (this.state === "live" && !this.#subscribing) {
      this.#subscribe();
      this.#after(CONNECT_MS, () => this.#lost());
    }
  }

  #refused({ id, code, detail }) {
    if (code === "unauthorized") return this.#end(4401, detail);
    if (id === this.#subscribing) {
      this.#startOver();
    } else if (this.state === "connecting") {
      this.#lost();
    }
  }

  /** The cursor is of no use: come back without one and take the whole list. */
  #startOver() {
    this.cursor = null;
    this.#lost();
  }

  #closed(code, reason) {
    if (code >= 4400 && code <= 4499) this.#end(code, reason);
    else this.#lost();
  }

  /** Come back later: sooner after a long good time, later and later after each failure. */
  #lost() {
    if (this.state === "live" && this.clock.now() - this.#liveSince >= STEADY_MS) this.tries = 0;
    this.#drop();
    this.#move("waiting");
    this.#after(pause(this.tries, this.random), () => this.#connect());
    this.tries += 1;
  }

  #end(code, reason) {
    this.#drop();
    this.cursor = null;
    this.#move("ended");
    this.#tell("ended", { code, reason });
  }

  /** A dead connection may look alive for minutes, so silence is answered with a question. */
  #watch() {
    this.#after(QUIET_MS, () => {
      this.#send("ping");
      this.#after(PONG_MS, () => this.#lost());
    });
  }

  #send(type, fields = {}) {
    this.#requests += 1;
    this.#socket.send(JSON.stringify({ type, id: this.#requests, ...fields }));
    return this.#requests;
  }

  #drop() {
    this.clock.clear(this.#timer);
    this.#subscribing = 0;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  /** There is one timer; what it waits for is the state's business. */
  #after(ms, act) {
    this.clock.clear(this.#timer);
    this.#timer = this.clock.set(act, ms);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #move(state) {
    if (!TRANSITIONS[this.state].includes(state)) throw new Error(`live: ${this.state} cannot become ${state}`);
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

function position(cursor) {
  if (cursor === null) return null;
  const colon = cursor.lastIndexOf(":");
  return { epoch: cursor.slice(0, colon), offset: Number(cursor.slice(colon + 1)) };
}
