// The live connection: one state machine over one way to the hub (js/ways), for some topics.
// Owns where we stand in each topic, the order of events, which way is taken and when to come back. Knows nothing of
// what events mean.
//
//   closed ──start──▶ connecting ──▶ live ◀── polling      live: a websocket; polling: a stream or polls, while
//                       ▲    │ lost    │ lost    │ lost     a websocket is looked for now and then
//                       └────┴──── waiting ◀─────┘         any ──stop, or a final close──▶ closed
//
// Fires "state"; "snapshot" {topic, snapshot}, replacing what was known; "event" for each event, in order, once;
// "picture" for each preview; and "ended" {code, reason} when the hub said not to come back.

import { PollWay, SocketWay, StreamWay } from "./ways.js";

const MOVES = {
  closed: ["connecting"],
  connecting: ["live", "polling", "waiting", "closed"],
  live: ["waiting", "closed"],
  polling: ["live", "waiting", "closed"],
  waiting: ["connecting", "closed"],
};
const LADDER = [SocketWay, SocketWay, StreamWay, PollWay]; // the next one after each failure, and from the start again

export const STEADY_MS = 10_000; // up for so long, and the next loss is no failure
export const SEARCH_MS = 5_000; // after which a websocket is looked for; later and later
export const LONGEST_SEARCH_MS = 60_000;
const SHORTEST_MS = 300;
const LONGEST_MS = 10_000;

/** How long to wait before try number `tries` (from 0): anywhere up to a limit that doubles, so that a crowd spreads. */
export function pause(tries, random) {
  const limit = Math.min(LONGEST_MS, SHORTEST_MS * 2 ** (tries + 1));
  return SHORTEST_MS + random() * (limit - SHORTEST_MS);
}

const CLOCK = {
  now: () => Date.now(), // goes on while the machine sleeps
  set: (run, ms) => setTimeout(run, ms),
  clear: (timer) => clearTimeout(timer),
};

/** Where we stand in one topic: everything up to `offset` of `epoch` was told. */
class Place {
  epoch = null;
  offset = 0;
  pictures = new Map();

  get cursor() {
    return this.epoch === null ? null : `${this.epoch}:${this.offset}`;
  }

  begin(epoch, offset) {
    Object.assign(this, { epoch, offset });
  }

  forget() {
    this.begin(null, 0);
  }

  reaches(epoch, offset) {
    return epoch === this.epoch && offset <= this.offset;
  }

  /** Whether an event is the "next" one, which counts as told then, an "old" one, or behind a "gap". */
  take({ type, epoch, offset, data }) {
    const first = type === "merged" ? data.first : offset;
    if (this.reaches(epoch, offset)) return "old";
    if (epoch !== this.epoch || first > this.offset + 1) return "gap";
    this.offset = offset;
    return "next";
  }
}

export class Live extends EventTarget {
  state = "closed";
  tries = 0;
  #topics;
  #way = null;
  #candidate = null;
  #rung = 0;
  #searches = 0;
  #since = 0;
  #timer = null;
  #hub;
  #ears = { heard: (message, way) => this.#heard(message, way), ended: (how, way) => this.#ended(how, way) };

  /** `url` is that of /api/live; `token` is a function, asked at each connect; `topic` is followed always. */
  constructor({ url, token, topic = "tasks", WebSocket = globalThis.WebSocket, fetch = globalThis.fetch?.bind(globalThis), clock = CLOCK, random = Math.random }) {
    super();
    this.#topics = new Map([[topic, new Place()]]);
    this.#hub = { url, token, topics: this.#topics, WebSocket, fetch, clock };
    Object.assign(this, { topic, clock, random });
  }

  start() {
    if (this.state === "closed") this.#connect();
  }

  stop() {
    this.#drop();
    this.tries = this.#rung = 0;
    if (this.state !== "closed") this.#move("closed");
  }

  /** Whether what is shown is up to date. */
  get up() {
    return this.state === "live" || this.state === "polling";
  }

  /** There is reason to look at once: the network came or went, the machine was asleep, or somebody asked. */
  hurry() {
    if (this.state === "waiting") this.#connect();
    else if (this.up) this.#way.check();
    if (this.state === "polling") this.#search(0);
  }

  follow(topic) {
    if (this.#topics.has(topic)) return;
    this.#topics.set(topic, new Place());
    this.#way?.join(topic);
    this.#candidate?.join(topic);
  }

  unfollow(topic) {
    if (topic === this.topic || !this.#topics.delete(topic)) return;
    for (const way of [this.#way, this.#candidate]) {
      if (!way) continue;
      way.leave(topic);
      this.#settle(way);
    }
  }

  cursor(topic = this.topic) {
    return this.#topics.get(topic)?.cursor ?? null;
  }

  // --- coming and going ---------------------------------------------------------------------------------------------

  #connect() {
    this.clock.clear(this.#timer);
    if (!this.#move("connecting")) return;
    this.#open(this.#way = new LADDER[this.#rung](this.#hub, this.#ears));
  }

  #open(way) {
    try {
      way.open();
    } catch {
      way.end(); // there is no such thing as a websocket here
    }
  }

  #arrived(way) {
    if (way === this.#candidate) {
      this.#way.close();
      [this.#way, this.#candidate, this.#rung] = [way, null, 0];
    } else if (this.state !== "connecting") {
      return;
    }
    this.clock.clear(this.#timer);
    this.#since = this.clock.now();
    this.#searches = 0;
    if (this.#move(way.state) && this.state === "polling") this.#search();
  }

  /** Look for a websocket beside what there is; when it has caught up, it takes over. */
  #search(ms = Math.min(LONGEST_SEARCH_MS, SEARCH_MS * 2 ** this.#searches) * (1 + this.random()) / 2) {
    if (this.#candidate) return;
    this.#after(ms, () => {
      this.#searches += 1;
      this.#open(this.#candidate = new SocketWay(this.#hub, this.#ears));
    });
  }

  #ended({ code, reason = "", after, missing = false }, way) {
    if (way === this.#candidate) {
      this.#candidate = null;
      return this.#search();
    }
    if (code >= 4400 && code <= 4499) return this.#finish(code, reason);
    this.#candidate?.close();
    this.#way = this.#candidate = null;
    if (missing) for (const topic of [...this.#topics.keys()]) if (topic !== this.topic) this.#topics.delete(topic);
    const steady = this.state !== "connecting" && this.clock.now() - this.#since >= STEADY_MS;
    if (steady) this.tries = 0;
    else if (after === undefined) this.#rung = (this.#rung + 1) % LADDER.length;
    this.tries += 1;
    if (!this.#move("waiting")) return;
    const wait = after === undefined ? pause(this.tries - 1, this.random) : after * 1000 + this.random() * SHORTEST_MS;
    this.#after(wait, () => this.#connect());
  }

  /** The hub does not want us back. */
  #finish(code, reason) {
    this.#drop();
    if (this.#move("closed")) this.#tell("ended", { code, reason });
  }

  #drop() {
    this.clock.clear(this.#timer);
    this.#way?.close();
    this.#candidate?.close();
    this.#way = this.#candidate = null;
    for (const place of this.#topics.values()) place.forget();
  }

  // --- hearing ------------------------------------------------------------------------------------------------------

  #heard(message, way) {
    const place = this.#topics.get(message.topic);
    if (!place) return;
    if (message.type === "subscribed") this.#subscribed(message, place, way);
    else if (message.type === "refused") this.#refused(message, place, way);
    else if (message.type === "preview") this.#picture(message, place);
    else if (message.offset !== undefined) this.#event(message, place, way);
  }

  #subscribed({ topic, epoch, offset, recovered, snapshot, events }, place, way) {
    if (recovered) {
      for (const event of events ?? []) {
        this.#take(event, place);
        if (way.ended) return; // a listener has stopped us
      }
      if (!place.reaches(epoch, offset)) {
        place.forget();
        return way.join(topic); // the cursor is of no use: take everything
      }
    } else if (!place.reaches(epoch, offset + 1)) {
      place.begin(epoch, offset);
      this.#tell("snapshot", { topic, snapshot });
    }
    this.#settle(way);
  }

  #refused({ topic }, place, way) {
    place.forget();
    if (topic === this.topic) return way.end();
    this.#topics.delete(topic);
    this.#settle(way);
  }

  #settle(way) {
    if (!way.ended && way.ready) this.#arrived(way);
  }

  /** Behind a gap everything is asked for again. */
  #event(event, place, way) {
    if (this.#take(event, place) === "gap" && !way.waitsFor(event.topic)) way.join(event.topic);
  }

  /** Tell an event if it is the next one. */
  #take(event, place) {
    const found = place.take(event);
    if (found === "next" && event.type !== "merged") this.#tell("event", event);
    return found;
  }

  /** Polls and changes of the way show the last pictures again. */
  #picture(picture, place) {
    const mark = `${picture.number} ${picture.at}`;
    if (place.pictures.get(picture.kind) === mark) return;
    place.pictures.set(picture.kind, mark);
    this.#tell("picture", picture);
  }

  /** There is one timer; what it waits for is the state's business. */
  #after(ms, act) {
    this.clock.clear(this.#timer);
    this.#timer = this.clock.set(act, ms);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** The one way from state to state; false if a listener has moved on from there already. */
  #move(state) {
    if (!MOVES[this.state].includes(state)) throw new Error(`live: ${this.state} cannot become ${state}`);
    this.state = state;
    this.dispatchEvent(new Event("state"));
    return this.state === state;
  }
}
