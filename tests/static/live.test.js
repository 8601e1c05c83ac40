import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { CONNECT_MS, Live, PONG_MS, QUIET_MS, STEADY_MS, pause } from "../../static/js/live.js";
import { FakeClock, fakeSockets } from "./fakes.js";

let clock, Sockets, live, heard;

beforeEach(() => {
  clock = new FakeClock();
  Sockets = fakeSockets();
  live = new Live({ url: "ws://hub/api/live", token: () => "TOKEN", WebSocket: Sockets, clock, random: () => 0 });
  heard = [];
  live.addEventListener("snapshot", ({ detail }) => heard.push({ snapshot: detail.items.map((item) => item.id) }));
  live.addEventListener("event", ({ detail }) => heard.push(detail.offset));
  live.addEventListener("ended", ({ detail }) => heard.push({ ended: detail.code }));
});

const event = (offset, epoch = "e1") => ({ v: 1, type: "updated", topic: "tasks", epoch, offset, at: "", data: {} });
const subscribed = (more) => ({
  type: "subscribed", id: Sockets.last.lastSent.id, topic: "tasks", epoch: "e1", offset: 4, recovered: false,
  snapshot: { items: [] }, events: [], ...more,
});

/** Open the newest socket up to the point where the hub has to answer the subscription. */
function signIn() {
  Sockets.last.open();
  Sockets.last.say({ type: "authed", id: Sockets.last.lastSent.id, v: 1, user: "u" });
}

function goLive(more = {}) {
  if (live.state === "idle") live.start();
  signIn();
  Sockets.last.say(subscribed(more));
  assert.equal(live.state, "live");
}

function comeBack() {
  clock.pass(10_000 - 1);
  assert.equal(live.state, "connecting");
}

describe("connecting", () => {
  test("signs in first, then subscribes, then takes the snapshot", () => {
    live.start();
    assert.equal(live.state, "connecting");
    Sockets.last.open();
    assert.deepEqual(Sockets.last.sent, [{ type: "auth", id: 1, token: "TOKEN" }]);
    Sockets.last.say({ type: "authed", id: 1, v: 1, user: "u" });
    assert.deepEqual(Sockets.last.lastSent, { type: "subscribe", id: 2, topic: "tasks" });
    Sockets.last.say(subscribed({ snapshot: { items: [{ id: "a" }] } }));
    assert.equal(live.state, "live");
    assert.deepEqual(heard, [{ snapshot: ["a"] }]);
    assert.equal(live.cursor, "e1:4");
  });

  test("gives up a connection on which nothing happens", () => {
    live.start();
    clock.pass(CONNECT_MS);
    assert.equal(live.state, "waiting");
    assert.ok(Sockets.last.closed);
  });

  test("does not listen to a socket that it gave up", () => {
    goLive();
    const old = Sockets.last;
    old.hangUp();
    comeBack();
    old.say(event(5));
    old.hangUp(4401);
    assert.equal(live.state, "connecting");
    assert.deepEqual(heard, [{ snapshot: [] }]);
  });

  test("starting twice is starting once", () => {
    live.start();
    live.start();
    assert.equal(Sockets.all.length, 1);
  });
});

describe("order of events (P9, P10)", () => {
  test("tells each event once and in order", () => {
    goLive();
    for (const offset of [5, 6, 6, 5, 4, 7]) Sockets.last.say(event(offset));
    assert.deepEqual(heard, [{ snapshot: [] }, 5, 6, 7]);
    assert.equal(live.cursor, "e1:7");
  });

  test("asks again behind a gap, once, and then tells what was missed", () => {
    goLive();
    Sockets.last.say(event(5));
    Sockets.last.say(event(8));
    Sockets.last.say(event(9));
    assert.deepEqual(Sockets.last.lastSent, { type: "subscribe", id: 3, topic: "tasks", after: "e1:5" });
    Sockets.last.say(subscribed({ offset: 9, recovered: true, events: [6, 7, 8, 9].map((offset) => event(offset)) }));
    Sockets.last.say(event(10));
    assert.deepEqual(heard, [{ snapshot: [] }, 5, 6, 7, 8, 9, 10]);
    assert.equal(Sockets.all.length, 1);
  });

  test("asks again when the epoch changes under an open connection", () => {
    goLive();
    Sockets.last.say(event(1, "e2"));
    assert.equal(Sockets.last.lastSent.after, "e1:4");
    Sockets.last.say(subscribed({ epoch: "e2", offset: 1, snapshot: { items: [{ id: "b" }] } }));
    Sockets.last.say(event(2, "e2"));
    assert.deepEqual(heard, [{ snapshot: [] }, { snapshot: ["b"] }, 2]);
  });

  test("a question behind a gap that stays without an answer ends the connection, however busy it is", () => {
    goLive();
    Sockets.last.say(event(7));
    for (let offset = 8; offset < 8 + CONNECT_MS / 1000; offset += 1) {
      clock.pass(1000);
      if (live.state === "live") Sockets.last.say(event(offset));
    }
    assert.equal(live.state, "waiting");
    assert.deepEqual(heard, [{ snapshot: [] }]);
  });

  test("events that overtake the answer to the subscription are told once", () => {
    goLive();
    Sockets.last.hangUp();
    comeBack();
    signIn();
    Sockets.last.say(event(5));
    Sockets.last.say(subscribed({ offset: 6, recovered: true, events: [event(5), event(6)] }));
    assert.deepEqual(heard, [{ snapshot: [] }, 5, 6]);
  });

  test("a replay with a hole is not believed: the whole list is asked for", () => {
    goLive();
    Sockets.last.hangUp();
    comeBack();
    signIn();
    Sockets.last.say(subscribed({ offset: 7, recovered: true, events: [event(5), event(7)] }));
    assert.equal(live.state, "waiting");
    comeBack();
    signIn();
    assert.deepEqual(Sockets.last.lastSent, { type: "subscribe", id: Sockets.last.lastSent.id, topic: "tasks" });
  });

  test("other topics, unknown types and binary frames change nothing", () => {
    goLive();
    Sockets.last.say({ ...event(5), topic: "task:1" });
    Sockets.last.say({ type: "weather", id: 1 });
    Sockets.last.onmessage({ data: new ArrayBuffer(4) });
    assert.equal(live.state, "live");
    assert.deepEqual(heard, [{ snapshot: [] }]);
  });
});

describe("coming back", () => {
  test("resumes after the last event (P10)", () => {
    goLive();
    Sockets.last.say(event(5));
    Sockets.last.hangUp();
    assert.equal(live.state, "waiting");
    comeBack();
    signIn();
    assert.equal(Sockets.last.lastSent.after, "e1:5");
    Sockets.last.say(subscribed({ offset: 6, recovered: true, snapshot: null, events: [event(6)] }));
    assert.equal(live.state, "live");
    assert.deepEqual(heard, [{ snapshot: [] }, 5, 6]);
  });

  test("takes a new list from a hub that was started again", () => {
    goLive({ snapshot: { items: [{ id: "a" }, { id: "gone" }] } });
    Sockets.last.hangUp(1006);
    comeBack();
    signIn();
    Sockets.last.say(subscribed({ epoch: "e2", offset: 0, snapshot: { items: [{ id: "a" }] } }));
    Sockets.last.say(event(1, "e2"));
    assert.deepEqual(heard, [{ snapshot: ["a", "gone"] }, { snapshot: ["a"] }, 1]);
  });

  test("waits longer after each failure, and never longer than ten seconds", () => {
    live.random = () => 1;
    live.start();
    const waits = [];
    for (let tries = 0; tries < 8; tries += 1) {
      const before = clock.time;
      Sockets.last.hangUp();
      const count = Sockets.all.length;
      while (Sockets.all.length === count) clock.pass(100);
      waits.push(clock.time - before);
    }
    assert.deepEqual(waits, [600, 1200, 2400, 4800, 9600, 10_000, 10_000, 10_000]);
  });

  test("spreads a crowd over the whole wait", () => {
    assert.equal(pause(0, () => 0), 300);
    assert.equal(pause(3, () => 0.5), 300 + 0.5 * (4800 - 300));
    assert.equal(pause(50, () => 1), 10_000);
  });

  test("counts from the start again only after a good while", () => {
    goLive();
    Sockets.last.hangUp();
    comeBack();
    goLive();
    Sockets.last.hangUp();
    assert.equal(live.tries, 2);
    comeBack();
    goLive();
    clock.pass(STEADY_MS);
    Sockets.last.hangUp();
    assert.equal(live.tries, 1);
  });

  test("asks into a long silence and leaves when nobody answers", () => {
    goLive();
    clock.pass(QUIET_MS);
    assert.equal(Sockets.last.lastSent.type, "ping");
    Sockets.last.say({ type: "pong", id: Sockets.last.lastSent.id, v: 1 });
    clock.pass(QUIET_MS + PONG_MS - 1);
    assert.equal(live.state, "live");
    clock.pass(1);
    assert.equal(live.state, "waiting");
    assert.ok(Sockets.last.closed);
  });

  test("tries at once when told to", () => {
    live.start();
    Sockets.last.hangUp();
    live.retryNow();
    assert.equal(live.state, "connecting");
    assert.equal(clock.time, 0);
    live.retryNow();
    assert.equal(Sockets.all.length, 2);
  });

  test("drops a cursor that the hub refuses", () => {
    goLive();
    Sockets.last.hangUp();
    comeBack();
    signIn();
    Sockets.last.say({ type: "error", id: Sockets.last.lastSent.id, v: 1, code: "bad_cursor", detail: "" });
    assert.equal(live.state, "waiting");
    comeBack();
    signIn();
    assert.equal(Sockets.last.lastSent.after, undefined);
  });

  test("comes back from half a message", () => {
    goLive();
    Sockets.last.say('{"type":"upd');
    assert.equal(live.state, "waiting");
  });

  test("a hub that cannot check the token now is tried again, whatever it closes with", () => {
    live.start();
    Sockets.last.open();
    Sockets.last.say({ type: "error", id: 1, v: 1, code: "unavailable", detail: "database" });
    Sockets.last.hangUp(4401);
    assert.equal(live.state, "waiting");
  });
});

describe("the end", () => {
  for (const code of [4400, 4401, 4499]) {
    test(`close code ${code} is final`, () => {
      goLive();
      Sockets.last.hangUp(code, "because");
      assert.equal(live.state, "ended");
      clock.pass(60_000);
      assert.equal(Sockets.all.length, 1);
      assert.deepEqual(heard.at(-1), { ended: code });
    });
  }

  for (const code of [1000, 1001, 1006, 1011, 1012, 4399, 4500]) {
    test(`close code ${code} is not`, () => {
      goLive();
      Sockets.last.hangUp(code);
      assert.equal(live.state, "waiting");
    });
  }

  test("a token that the hub does not know is final", () => {
    live.start();
    Sockets.last.open();
    Sockets.last.say({ type: "error", id: 1, v: 1, code: "unauthorized", detail: "" });
    assert.equal(live.state, "ended");
    assert.deepEqual(heard, [{ ended: 4401 }]);
  });

  test("stopping closes the socket, forgets the cursor and leaves no timer, in every state", () => {
    const reach = {
      idle: () => {},
      connecting: () => live.start(),
      live: () => goLive(),
      waiting: () => { live.start(); Sockets.last.hangUp(); },
      ended: () => { live.start(); Sockets.last.hangUp(4401); },
    };
    for (const [state, go] of Object.entries(reach)) {
      go();
      assert.equal(live.state, state);
      live.stop();
      live.stop();
      assert.equal(live.state, "idle");
      assert.equal(live.cursor, null);
      assert.equal(clock.waiting, 0);
    }
  });

  test("a listener may stop it in the middle of a replay", () => {
    goLive();
    Sockets.last.hangUp();
    comeBack();
    signIn();
    live.addEventListener("event", () => live.stop());
    Sockets.last.say(subscribed({ offset: 6, recovered: true, events: [event(5), event(6)] }));
    assert.equal(live.state, "idle");
    assert.deepEqual(heard, [{ snapshot: [] }, 5]);
  });
});
