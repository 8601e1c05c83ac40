// The three ways to hear the hub live: a websocket, a stream of server-sent events, long polls.
// A way is one connection for some topics. It says what it hears, and once that it has ended. Owns the wire and whether
// somebody is still there; never knows what an event means, nor what comes after the end.
//
//   new Way({ url, token, topics, WebSocket, fetch, clock }, { heard(message, way), ended(how, way) })
//
// `topics` is a Map of names to places, whose `cursor` is null or text. What is heard are "subscribed", events,
// "preview" with an `image` or a `url`, and "refused" for a topic that there is not. `how` is {code?, reason?, after?,
// missing?}: a close code, seconds to wait, whether a topic is not there (any more).

export const ANSWER_MS = 8_000; // for an answer, and for the opening
export const CHECK_MS = 4_000; // for an answer, when there is reason for doubt
export const QUIET_MS = 15_000; // of silence on a websocket, after which we ask whether somebody is there
export const SILENCE_MS = 40_000; // on a stream, whose hub says something every 15 seconds
export const WAIT_S = 25; // how long the hub may hold a poll
export const GATHER_MS = 150; // between two polls, and before a request is made anew for other topics
export const LATE_MS = 5_000; // a timer that is later than this has slept: what it says of others means nothing

class Way {
  ended = false;
  #timer = null;

  constructor(hub, ears) {
    Object.assign(this, { hub, ears });
  }

  hear(message) {
    if (!this.ended) this.ears.heard(message, this);
  }

  end(how = {}) {
    if (this.ended) return;
    this.close();
    this.ears.ended(how, this);
  }

  /** End it without a word. */
  close() {
    this.ended = true;
    this.hub.clock.clear(this.#timer);
    this.hangUp();
  }

  /** There is one timer. `act` is told whether it comes late. */
  after(ms, act) {
    const { clock } = this.hub;
    clock.clear(this.#timer);
    const due = clock.now() + ms;
    this.#timer = clock.set(() => act(clock.now() - due > LATE_MS), ms);
  }
}

/** GET /api/live as a websocket. */
export class SocketWay extends Way {
  state = "live";
  #socket = null;
  #signedIn = false;
  #number = 0;
  #asked = new Map();
  #after = undefined;

  open() {
    this.after(ANSWER_MS, () => this.end());
    const socket = this.#socket = new this.hub.WebSocket(String(this.hub.url).replace(/^http/, "ws"));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#ask("auth", { token: this.hub.token() });
    socket.onmessage = ({ data }) => { if (!this.ended) this.#heard(data); };
    socket.onclose = ({ code, reason }) => this.end({ code, reason, after: this.#after });
  }

  /** Whether all topics are joined. */
  get ready() {
    return this.#signedIn && ![...this.#asked.values()].some((about) => this.hub.topics.has(about));
  }

  waitsFor(topic) {
    return [...this.#asked.values()].includes(topic);
  }

  /** Subscribe, from where the topic stands for us; once signed in, all of `topics` are. */
  join(topic) {
    if (!this.#signedIn) return;
    const { cursor } = this.hub.topics.get(topic);
    this.#ask("subscribe", cursor ? { topic, after: cursor } : { topic });
  }

  leave(topic) {
    for (const [number, about] of this.#asked) if (about === topic) this.#asked.delete(number);
    if (this.#signedIn) this.#ask("unsubscribe", { topic });
  }

  /** Find out soon whether somebody is there. */
  check() {
    if (!this.#signedIn) return;
    this.#ask("ping");
    this.after(CHECK_MS, (late) => this.#unanswered(late));
  }

  hangUp() {
    this.#socket?.close();
  }

  #ask(type, fields = {}) {
    this.#number += 1;
    this.#socket.send(JSON.stringify({ type, id: this.#number, ...fields }));
    if (!this.#asked.size) this.after(ANSWER_MS, (late) => this.#unanswered(late));
    this.#asked.set(this.#number, type === "subscribe" ? fields.topic : type);
  }

  #unanswered(late) {
    if (!late || !this.#signedIn) return this.end();
    this.#asked.forEach((about, number) => { if (about === "ping") this.#asked.delete(number); });
    this.#ask("ping");
    this.after(ANSWER_MS, () => this.end());
  }

  #heard(data) {
    if (typeof data !== "string") {
      const picture = unpacked(data);
      return picture && this.hear(picture);
    }
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return this.end();
    }
    const about = this.#asked.get(message.id);
    const answered = this.#asked.delete(message.id);
    this.#take(message, about);
    if (this.ended || (this.#asked.size && !answered)) return;
    if (this.#asked.size) this.after(ANSWER_MS, (late) => this.#unanswered(late));
    else this.after(QUIET_MS, () => this.#ask("ping"));
  }

  #take(message, about) {
    if (message.type === "authed") {
      this.#signedIn = true;
      for (const topic of this.hub.topics.keys()) this.join(topic);
    } else if (message.type === "farewell") {
      this.#after = message.reconnect_after ?? undefined;
    } else if (message.type === "error") {
      this.#refused(message, about);
    } else if (message.type !== "subscribed" || about === message.topic) {
      this.hear(message);
    }
  }

  #refused({ code, detail: reason }, about) {
    const final = { unauthorized: 4401, rate_limited: 4429 }[code];
    if (final) this.end({ code: final, reason });
    else if (about === "auth") this.end();
    else if (this.hub.topics.has(about)) this.hear({ type: "refused", topic: about });
  }
}

/** What streams and polls have in common: a request for all topics, made anew when those change. */
class RequestWay extends Way {
  state = "polling";
  #abort = null;
  #changed = false;
  #unanswered = new Set();

  open() {
    this.#abort?.abort();
    const { signal } = this.#abort = new AbortController();
    this.after(ANSWER_MS, () => this.end());
    this.run(signal).catch(() => { if (!signal.aborted) this.end(); });
  }

  get ready() {
    return !this.#changed && this.#unanswered.size === 0;
  }

  waitsFor(topic) {
    return this.#unanswered.has(topic);
  }

  join(topic) {
    this.#unanswered.add(topic);
    this.leave();
  }

  leave() {
    this.#changed = true;
    this.after(GATHER_MS, () => this.open());
  }

  /** Nobody can be asked here: ask for everything anew. */
  check() {
    this.open();
  }

  hangUp() {
    this.#abort?.abort();
  }

  /** After a sleep the other side is not to blame. */
  doubt = (late) => (late ? this.open() : this.end());

  /** The answer to a request about all topics, or null where there is none. */
  async request(path, query, signal) {
    const { url, token, topics, fetch } = this.hub;
    this.#changed = false;
    this.#unanswered = new Set(topics.keys());
    const asked = new URLSearchParams({ topics: [...topics.keys()].join(","), ...query });
    const cursor = [...topics.values()].map((place) => place.cursor).filter(Boolean).join(",");
    if (cursor) asked.set("cursor", cursor);
    const headers = { Authorization: `Bearer ${token()}` };
    const response = await fetch(`${url}${path}?${asked}`, { headers, signal, cache: "no-store" });
    if (response.ok) return response;
    const refused = await refusal(response);
    if (!signal.aborted) this.end(refused);
    return null;
  }

  take(message) {
    if (message.type === "subscribed") this.#unanswered.delete(message.topic);
    if (message.type === "farewell") this.end({ code: message.code, reason: message.reason, after: message.reconnect_after ?? undefined });
    else if (message.type === "preview") this.hear({ ...message, ...message.data });
    else this.hear(message);
  }
}

/** GET /api/live/stream, read with fetch: an EventSource could neither send the token nor say why it was refused. */
export class StreamWay extends RequestWay {
  async run(signal) {
    const response = await this.request("/stream", {}, signal);
    if (!response) return;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const events = new EventText();
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) return;
      if (done) return this.end();
      for (const data of events.read(value)) {
        this.take(JSON.parse(data));
        if (signal.aborted) return;
      }
      if (this.ready) this.after(SILENCE_MS, this.doubt);
    }
  }
}

/** GET /api/live?topics=, again and again. */
export class PollWay extends RequestWay {
  async run(signal) {
    for (let wait = 0; ; wait = WAIT_S) {
      this.after(ANSWER_MS + wait * 1000, this.doubt);
      const response = await this.request("", { wait }, signal);
      const answer = response && await response.json();
      if (!answer || signal.aborted) return;
      for (const message of [...answer.topics, ...answer.previews ?? []]) {
        this.take(message);
        if (signal.aborted) return;
      }
      await new Promise((resolve) => this.after(GATHER_MS, resolve));
    }
  }
}

/** The data of events in a text/event-stream that comes in pieces, however it was cut (HTML standard, 9.2.6). */
export class EventText {
  #rest = "";
  #data = [];

  read(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    return lines.flatMap((line) => this.#line(line.replace(/\r$/, "")));
  }

  #line(line) {
    if (line) {
      if (line.startsWith("data:")) this.#data.push(line.slice(5).replace(/^ /, ""));
      return [];
    }
    const data = this.#data;
    this.#data = [];
    return data.length ? [data.join("\n")] : [];
  }
}

/** A picture: 1 byte type, 4 bytes length of the header (big-endian), header, image; null where it is none. */
function unpacked(data) {
  try {
    const view = new DataView(data);
    const size = view.getUint32(1);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 5, size)));
    const image = new Blob([new Uint8Array(data, 5 + size)], { type: header.content_type });
    return view.getUint8(0) === 1 ? { ...header, image } : null;
  } catch {
    return null;
  }
}

/** What an answer that is none says of the end; only the hub's own words count, not those of a proxy. */
async function refusal(response) {
  const { code, detail: reason } = await response.json().catch(() => ({}));
  const after = Number(response.headers.get("Retry-After")) || undefined;
  return { code: { unauthorized: 4401, forbidden: 4403 }[code], reason, after, missing: code === "not_found" };
}
