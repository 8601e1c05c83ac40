// A clock, a websocket and a request that do only what a test tells them to.

export class FakeClock {
  time = 0;
  #timers = new Map();
  #made = 0;

  now = () => this.time;

  set = (run, ms) => {
    this.#made += 1;
    this.#timers.set(this.#made, { run, at: this.time + ms });
    return this.#made;
  };

  clear = (timer) => {
    this.#timers.delete(timer);
  };

  get waiting() {
    return this.#timers.size;
  }

  /** Sleep as a laptop does: time passes, and what came due meanwhile runs late. */
  sleep(ms) {
    this.time += ms;
    this.pass(0);
  }

  /** Let time pass and run what comes due, in order. */
  pass(ms) {
    const end = this.time + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].run();
    }
    this.time = end;
  }
}

/** Make a WebSocket class whose sockets are collected in `.all`. */
export function fakeSockets() {
  return class FakeWebSocket {
    static all = [];
    static get last() {
      return FakeWebSocket.all.at(-1);
    }

    constructor(url) {
      this.url = url;
      this.sent = [];
      this.closed = false;
      FakeWebSocket.all.push(this);
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close() {
      this.closed = true;
    }

    open() {
      this.onopen({});
    }

    say(message) {
      this.onmessage({ data: typeof message === "string" ? message : JSON.stringify(message) });
    }

    hangUp(code = 1006, reason = "") {
      this.onclose({ code, reason });
    }

    get lastSent() {
      return this.sent.at(-1);
    }
  };
}

/** Let everything happen that only waits for its turn. */
export const turn = () => new Promise((resolve) => { setImmediate(resolve); });

/** A fetch whose requests are collected in `.all`; the test answers each, whole or piece by piece. */
export function fakeFetch() {
  const all = [];
  const fetch = (url, { headers, signal }) => new Promise((resolve, reject) => {
    const address = new URL(url);
    const request = {
      path: address.pathname, query: Object.fromEntries(address.searchParams), headers, signal,
      fail: () => reject(new TypeError("network")),
      answer: (body, status = 200, more = {}) => resolve(new Response(JSON.stringify(body), { status, headers: more })),
      /** Begin a body; `send` takes text or bytes, `end` and `cut` finish it. */
      stream: () => {
        let body;
        resolve(new Response(new ReadableStream({ start: (controller) => { body = controller; } })));
        signal.addEventListener("abort", () => body.error(new DOMException("", "AbortError")), { once: true });
        const bytes = (data) => (typeof data === "string" ? new TextEncoder().encode(data) : data);
        return { send: (data) => body.enqueue(bytes(data)), end: () => body.close(), cut: () => body.error(new TypeError("network")) };
      },
    };
    signal.addEventListener("abort", () => reject(new DOMException("", "AbortError")), { once: true });
    all.push(request);
  });
  return Object.defineProperty(Object.assign(fetch, { all }), "last", { get: () => all.at(-1) });
}

/** An XMLHttpRequest that notes what it was told; the test plays the hub. */
export class FakeRequest {
  static last = null;

  constructor() {
    this.headers = {};
    this.upload = {};
    FakeRequest.last = this;
  }

  open(method, url) {
    Object.assign(this, { method, url });
  }

  setRequestHeader(name, value) {
    this.headers[name] = value;
  }

  send(body) {
    this.body = body;
  }

  abort() {
    this.onabort();
  }

  getResponseHeader(name) {
    return this.answerHeaders?.[name] ?? null;
  }

  answer(status, body) {
    this.status = status;
    this.responseText = typeof body === "string" ? body : JSON.stringify(body);
    this.onload();
  }
}

export class FakeStorage {
  #items = new Map();

  getItem(key) {
    return this.#items.get(key) ?? null;
  }

  setItem(key, value) {
    this.#items.set(key, value);
  }

  removeItem(key) {
    this.#items.delete(key);
  }

  get length() {
    return this.#items.size;
  }

  key(at) {
    return [...this.#items.keys()][at];
  }
}
