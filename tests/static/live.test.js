import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { Live, STEADY_MS, pause } from "../../static/js/live.js";
import { ANSWER_MS, CHECK_MS, QUIET_MS } from "../../static/js/ways.js";
import { FakeClock, fakeFetch, fakeSockets, turn } from "./fakes.js";

let clock, Sockets, fetch, live, heard;

beforeEach(() => {
  clock = new FakeClock();
  Sockets = fakeSockets();
  fetch = fakeFetch();
  live = new Live({
    url: "http://hub/api/live", token: () => "TOKEN", WebSocket: Sockets, fetch, clock, random: () => 0,
  });
  heard = [];
  live.addEventListener("snapshot", ({ detail }) => heard.push({ snapshot: detail.snapshot.items?.map((item) => item.id) }));
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
  if (live.state === "closed") live.start();
  signIn();
  Sockets.last.say(subscribed(more));
  assert.equal(live.state, "live");
}

function comeBack() {
  while (live.state === "waiting") clock.pass(50);
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
    assert.equal(live.cursor(), "e1:4");
  });

  test("gives up a connection on which nothing happens", () => {
    live.start();
    clock.pass(ANSWER_MS);
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
    assert.equal(live.cursor(), "e1:7");
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
    for (let offset = 8; offset < 8 + ANSWER_MS / 1000; offset += 1) {
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
    assert.equal(live.state, "connecting");
    assert.deepEqual(Sockets.last.lastSent, { type: "subscribe", id: 3, topic: "tasks" });
    Sockets.last.say(subscribed({ offset: 7, snapshot: { items: [{ id: "a" }] } }));
    assert.equal(live.state, "live");
    assert.deepEqual(heard, [{ snapshot: [] }, 5, { snapshot: ["a"] }]);
  });

  test("a marker for what was left out counts as that, and is not told", () => {
    goLive();
    Sockets.last.say({ ...event(8), type: "merged", data: { first: 5 } });
    Sockets.last.say(event(9));
    Sockets.last.say({ ...event(9), type: "merged", data: { first: 7 } });
    assert.deepEqual(heard, [{ snapshot: [] }, 9]);
    Sockets.last.say({ ...event(12), type: "merged", data: { first: 11 } });
    assert.equal(Sockets.last.lastSent.after, "e1:9", "a marker has no gap before it either");
  });

  test("other topics, unknown types and binary frames change nothing", () => {
    goLive();
    Sockets.last.say({ ...event(5), topic: "task:1" });
    Sockets.last.say({ type: "weather", id: 1 });
    Sockets.last.onmessage({ data: new ArrayBuffer(4) });
    Sockets.last.onmessage({ data: new TextEncoder().encode("\x01\0\0\xff\0nonsense").buffer });
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

  test("waits longer after each failure, and never longer than ten seconds", async () => {
    live.random = () => 1;
    live.start();
    const waits = [];
    for (let tries = 0; tries < 8; tries += 1) {
      const before = clock.time;
      if (tries % 4 < 2) Sockets.last.hangUp();
      else fetch.last.fail();
      await turn();
      assert.equal(live.state, "waiting");
      while (live.state === "waiting") clock.pass(100);
      waits.push(clock.time - before);
    }
    assert.deepEqual(waits, [600, 1200, 2400, 4800, 9600, 10_000, 10_000, 10_000]);
    assert.deepEqual([Sockets.all.length, fetch.all.length], [5, 4], "each way has its turn");
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
    assert.equal(live.tries, 1);
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
    clock.pass(QUIET_MS + ANSWER_MS - 1);
    assert.equal(live.state, "live");
    clock.pass(1);
    assert.equal(live.state, "waiting");
    assert.ok(Sockets.last.closed);
  });

  test("tries at once when told to", () => {
    live.start();
    Sockets.last.hangUp();
    live.hurry();
    assert.equal(live.state, "connecting");
    assert.equal(clock.time, 0);
    live.hurry();
    assert.equal(Sockets.all.length, 2);
  });

  test("comes back when the hub says so, not earlier and not much later", () => {
    live.random = () => 0.5;
    goLive();
    Sockets.last.say({ type: "farewell", v: 1, code: 1012, reason: "the hub restarts", reconnect_after: 7.5 });
    Sockets.last.hangUp(1012);
    clock.pass(7500);
    assert.equal(live.state, "waiting");
    clock.pass(150);
    assert.equal(live.state, "connecting");
    assert.equal(Sockets.all.length, 2, "by a websocket again: the hub was no failure of that");
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

describe("sleep and hints", () => {
  test("after a sleep it asks whether somebody is there before it gives up", () => {
    goLive();
    clock.pass(QUIET_MS);
    clock.sleep(3_600_000);
    assert.equal(live.state, "live", "nobody could have answered meanwhile");
    assert.equal(Sockets.last.lastSent.type, "ping");
    Sockets.last.say({ type: "pong", id: Sockets.last.lastSent.id, v: 1 });
    clock.pass(QUIET_MS - 1);
    assert.equal(live.state, "live");
  });

  test("and gives up when nobody answers then", () => {
    goLive();
    clock.pass(QUIET_MS);
    clock.sleep(3_600_000);
    clock.pass(ANSWER_MS);
    assert.equal(live.state, "waiting");
  });

  test("a connection that was being opened when the machine fell asleep is opened anew", () => {
    live.start();
    Sockets.last.open();
    clock.sleep(60_000);
    assert.equal(live.state, "waiting");
  });

  test("a pause that was slept through is over", () => {
    goLive();
    Sockets.last.hangUp();
    clock.sleep(60_000);
    assert.equal(live.state, "connecting");
  });

  test("a hint that the network has changed is looked into, and is no proof", () => {
    goLive();
    live.hurry();
    const { id, type } = Sockets.last.lastSent;
    assert.equal(type, "ping");
    Sockets.last.say(event(5));
    Sockets.last.say({ type: "pong", id, v: 1 });
    clock.pass(CHECK_MS);
    assert.equal(live.state, "live");
    live.hurry();
    Sockets.last.say(event(6)); // was on its way already
    clock.pass(CHECK_MS);
    assert.equal(live.state, "waiting");
  });
});

describe("more topics", () => {
  const of = (topic, more) => ({ ...subscribed(more), topic, snapshot: { id: "t1" } });

  test("each has its own place", () => {
    goLive();
    live.follow("task:t1");
    assert.deepEqual(Sockets.last.lastSent, { type: "subscribe", id: 3, topic: "task:t1" });
    Sockets.last.say({ ...event(5), topic: "task:t1" });
    Sockets.last.say(of("task:t1", { epoch: "x1", offset: 7 }));
    Sockets.last.say({ ...event(8, "x1"), topic: "task:t1" });
    Sockets.last.say(event(5));
    assert.deepEqual([live.cursor(), live.cursor("task:t1")], ["e1:5", "x1:8"]);
    live.unfollow("task:t1");
    assert.deepEqual(Sockets.last.lastSent, { type: "unsubscribe", id: 4, topic: "task:t1" });
    Sockets.last.say({ ...event(9, "x1"), topic: "task:t1" });
    assert.equal(live.cursor("task:t1"), null);
  });

  test("it is live when all are joined, and comes back to all of them", () => {
    live.follow("task:t1");
    live.start();
    signIn();
    const [first, second] = Sockets.last.sent.slice(1);
    Sockets.last.say({ ...subscribed(), id: first.id });
    assert.equal(live.state, "connecting");
    Sockets.last.say({ ...of("task:t1", { epoch: "x1" }), id: second.id });
    assert.equal(live.state, "live");
    Sockets.last.hangUp();
    comeBack();
    signIn();
    assert.deepEqual(Sockets.last.sent.slice(1).map(({ topic, after }) => [topic, after]), [["tasks", "e1:4"], ["task:t1", "x1:4"]]);
  });

  test("one that is left while it is waited for is not waited for", () => {
    live.follow("task:t1");
    live.start();
    signIn();
    Sockets.last.say({ ...subscribed(), id: Sockets.last.sent[1].id });
    live.unfollow("task:t1");
    assert.equal(live.state, "live");
  });

  test("one that there is not is let go, and the others go on", () => {
    live.follow("task:gone");
    live.start();
    signIn();
    Sockets.last.say({ type: "error", id: Sockets.last.lastSent.id, v: 1, code: "not_found", detail: "" });
    Sockets.last.say({ ...subscribed(), id: Sockets.last.sent[1].id });
    assert.equal(live.state, "live");
    Sockets.last.hangUp();
    comeBack();
    signIn();
    assert.equal(Sockets.last.sent.length, 2);
  });

  test("a picture is told with its image, once", async () => {
    const pictures = [];
    live.addEventListener("picture", ({ detail }) => pictures.push(detail));
    goLive();
    live.follow("task:t1");
    Sockets.last.say(of("task:t1"));
    const header = { type: "preview", v: 1, topic: "task:t1", id: "t1", attempt: 1, kind: "mask", frame: 3, content_type: "image/jpeg", number: 9, at: "now" };
    const text = new TextEncoder().encode(JSON.stringify(header));
    const data = new Uint8Array([1, 0, 0, text.length >> 8, text.length & 255, ...text, 7, 7, 7]);
    Sockets.last.onmessage({ data: data.buffer });
    Sockets.last.onmessage({ data: data.buffer });
    assert.deepEqual(pictures.map(({ kind, frame, image }) => [kind, frame, image.size, image.type]), [["mask", 3, 3, "image/jpeg"]]);
  });
});

describe("the end", () => {
  for (const code of [4400, 4401, 4499]) {
    test(`close code ${code} is final`, () => {
      goLive();
      Sockets.last.hangUp(code, "because");
      assert.equal(live.state, "closed");
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
    assert.equal(live.state, "closed");
    assert.deepEqual(heard, [{ ended: 4401 }]);
  });

  test("stopping closes the socket, forgets the cursor and leaves no timer, in every state", () => {
    const reach = {
      closed: () => {},
      connecting: () => live.start(),
      live: () => goLive(),
      waiting: () => { live.start(); Sockets.last.hangUp(); },
    };
    for (const [state, go] of Object.entries(reach)) {
      go();
      assert.equal(live.state, state);
      live.stop();
      live.stop();
      assert.equal(live.state, "closed");
      assert.equal(live.cursor(), null);
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
    assert.equal(live.state, "closed");
    assert.deepEqual(heard, [{ snapshot: [] }, 5]);
  });
});
