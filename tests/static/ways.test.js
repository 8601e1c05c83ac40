// Ways beside the websocket: when they are taken, what they make of the cruellest pieces, and the way back.

import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { LONGEST_SEARCH_MS, Live, SEARCH_MS, STEADY_MS } from "../../static/js/live.js";
import { ANSWER_MS, EventText, GATHER_MS, SILENCE_MS, WAIT_S } from "../../static/js/ways.js";
import { FakeClock, fakeFetch, fakeSockets, turn } from "./fakes.js";

let clock, Sockets, fetch, live, heard;

beforeEach(() => {
  clock = new FakeClock();
  Sockets = fakeSockets();
  fetch = fakeFetch();
  live = new Live({ url: "http://hub/api/live", token: () => "TOKEN", WebSocket: Sockets, fetch, clock, random: () => 1 });
  heard = [];
  live.addEventListener("snapshot", ({ detail }) => heard.push({ snapshot: detail.snapshot.items.length }));
  live.addEventListener("event", ({ detail }) => heard.push(detail.data.word ?? detail.offset));
  live.addEventListener("ended", ({ detail }) => heard.push({ ended: detail.code }));
});

const event = (offset, data = {}, epoch = "e1") => ({ v: 1, type: "updated", topic: "tasks", epoch, offset, at: "", data });
const subscribed = (more = {}) => ({
  type: "subscribed", v: 1, topic: "tasks", epoch: "e1", offset: 4, recovered: false, snapshot: { items: [] }, events: [], ...more,
});
const missed = (...offsets) => subscribed({ recovered: true, snapshot: null, offset: offsets.at(-1) ?? 4, events: offsets.map((offset) => event(offset)) });
const text = (message, id = "") => `${id && `id: ${id}\n`}data: ${JSON.stringify(message)}\n\n`;

async function passUntil(state) {
  for (let steps = 0; live.state !== state; steps += 1) {
    assert.ok(steps < 10_000, `${live.state} does not become ${state}`);
    clock.pass(50);
    await turn();
  }
}

/** Let two websockets fail, and the stream too if `further` is to come. */
async function climb(further = false) {
  live.start();
  for (let tries = 0; tries < 2; tries += 1) {
    Sockets.last.hangUp();
    await passUntil("connecting");
  }
  if (further) {
    fetch.last.fail();
    await turn();
    await passUntil("connecting");
  }
}

async function goStreaming() {
  await climb();
  const stream = fetch.last.stream();
  await turn();
  stream.send(`retry: 3000\n\n${text(subscribed(), "e1:4")}`);
  await turn();
  assert.equal(live.state, "polling");
  return stream;
}

async function goPolling() {
  await climb(true);
  fetch.last.answer({ v: 1, cursor: "e1:4", topics: [subscribed()], previews: [] });
  await turn();
  assert.equal(live.state, "polling");
  clock.pass(GATHER_MS);
  await turn();
}

/** Let the newest socket get through, and answer its subscription with `message`. */
async function getThrough(message) {
  Sockets.last.open();
  Sockets.last.say({ type: "authed", id: 1, v: 1, user: "u" });
  Sockets.last.say({ ...message, id: Sockets.last.lastSent.id });
  await turn();
}

describe("a stream", () => {
  test("is opened after two websockets that failed, with the token where it belongs", async () => {
    await climb();
    assert.equal(Sockets.all.length, 2);
    const { path, query, headers } = fetch.last;
    assert.deepEqual([path, query, headers.Authorization], ["/api/live/stream", { topics: "tasks" }, "Bearer TOKEN"]);
  });

  test("that comes byte by byte, cut within characters, is the same stream", async () => {
    const stream = await goStreaming();
    const bytes = new TextEncoder().encode(`: still here\n\n${text(event(5, { word: "视频" }), "e1:5")}: still\r\n\r\n${text(event(6, { word: "🎬" })).replaceAll("\n", "\r\n")}`);
    for (const byte of bytes) {
      stream.send(Uint8Array.of(byte));
      await turn();
    }
    assert.deepEqual(heard, [{ snapshot: 0 }, "视频", "🎬"]);
  });

  test("that comes all at once is the same stream", async () => {
    const stream = await goStreaming();
    stream.send([5, 6, 6, 5, 7].map((offset) => text(event(offset))).join(""));
    await turn();
    assert.deepEqual(heard, [{ snapshot: 0 }, 5, 6, 7]);
  });

  test("that breaks within an event resumes after the last whole one", async () => {
    const stream = await goStreaming();
    stream.send(text(event(5)) + text(event(6)).slice(0, 30));
    await turn();
    clock.pass(STEADY_MS - 1000); // before a websocket is looked for is long enough
    stream.cut();
    await turn();
    assert.equal(live.state, "waiting");
    await passUntil("connecting");
    assert.equal(fetch.last.query.cursor, "e1:5");
    assert.deepEqual(heard, [{ snapshot: 0 }, 5]);
  });

  test("with a hole is asked for again", async () => {
    const stream = await goStreaming();
    stream.send(text(event(7)));
    await turn();
    clock.pass(GATHER_MS);
    assert.equal(fetch.last.query.cursor, "e1:4");
    const next = fetch.last.stream();
    await turn();
    next.send(text(missed(5, 6, 7)) + text(event(8)));
    await turn();
    assert.deepEqual(heard, [{ snapshot: 0 }, 5, 6, 7, 8]);
    assert.equal(live.state, "polling");
  });

  test("on which nothing comes, as behind a proxy that holds it back, gives way to polls", async () => {
    await climb();
    fetch.last.stream();
    await turn();
    clock.pass(ANSWER_MS);
    assert.equal(live.state, "waiting");
    await passUntil("connecting");
    assert.deepEqual([fetch.last.path, fetch.last.query.wait], ["/api/live", "0"]);
  });

  test("that falls silent is left; what is said in between keeps it", async () => {
    const stream = await goStreaming();
    clock.pass(SILENCE_MS - 1);
    stream.send(": still here\n\n");
    await turn();
    clock.pass(SILENCE_MS - 1);
    assert.equal(live.state, "polling");
    clock.pass(1);
    assert.equal(live.state, "waiting");
    assert.ok(fetch.last.signal.aborted);
  });

  test("is opened anew after a sleep, whose silence proves nothing", async () => {
    await goStreaming();
    const before = fetch.all.length;
    clock.sleep(3_600_000);
    assert.equal(live.state, "polling");
    assert.equal(fetch.all.length, before + 1);
    assert.equal(fetch.last.query.cursor, "e1:4");
  });

  test("that says farewell is come back to when it says so", async () => {
    const stream = await goStreaming();
    stream.send(text({ type: "farewell", v: 1, code: 1012, reason: "the hub restarts", reconnect_after: 12.5 }));
    await turn();
    clock.pass(12_500);
    assert.equal(live.state, "waiting");
    clock.pass(300);
    assert.equal(live.state, "connecting");
  });

  test("whose farewell is final stays closed", async () => {
    const stream = await goStreaming();
    stream.send(text({ type: "farewell", v: 1, code: 4401, reason: "sign in again", reconnect_after: null }));
    await turn();
    assert.equal(live.state, "closed");
    assert.deepEqual(heard, [{ snapshot: 0 }, { ended: 4401 }]);
  });

  test("is asked anew for another topic, once for several that come together", async () => {
    const stream = await goStreaming();
    const before = fetch.all.length;
    live.follow("task:t1");
    live.follow("task:t2");
    live.unfollow("task:t2");
    stream.send(": still here\n\n");
    await turn();
    clock.pass(GATHER_MS);
    assert.equal(fetch.all.length, before + 1);
    assert.deepEqual(fetch.last.query, { topics: "tasks,task:t1", cursor: "e1:4" });
    const next = fetch.last.stream();
    await turn();
    next.send(text(missed()) + text({ ...subscribed({ epoch: "x1", snapshot: { items: [1] } }), topic: "task:t1" }));
    await turn();
    live.unfollow("task:t1");
    next.send(": still here\n\n");
    await turn();
    clock.pass(GATHER_MS);
    assert.deepEqual(fetch.last.query, { topics: "tasks", cursor: "e1:4" });
  });
});

describe("polls", () => {
  test("ask again with the cursor, and are held then", async () => {
    await goPolling();
    assert.deepEqual(fetch.last.query, { topics: "tasks", wait: String(WAIT_S), cursor: "e1:4" });
    fetch.last.answer({ v: 1, cursor: "e1:6", topics: [missed(5, 6)], previews: [] });
    await turn();
    clock.pass(GATHER_MS);
    await turn();
    assert.equal(fetch.last.query.cursor, "e1:6");
    assert.deepEqual(heard, [{ snapshot: 0 }, 5, 6]);
  });

  test("show each picture once, by its address", async () => {
    const pictures = [];
    live.addEventListener("picture", ({ detail }) => pictures.push([detail.kind, detail.number, detail.url]));
    await goPolling();
    const picture = (number) => ({
      type: "preview", v: 1, topic: "tasks", epoch: "e1", offset: 4, at: "", data: { id: "t1", attempt: 1, kind: "mask", frame: 1, number, url: `/p?n=${number}` },
    });
    for (const number of [1, 1, 2]) {
      fetch.last.answer({ v: 1, cursor: "e1:4", topics: [missed()], previews: [picture(number)] });
      await turn();
      clock.pass(GATHER_MS);
      await turn();
    }
    assert.deepEqual(pictures, [["mask", 1, "/p?n=1"], ["mask", 2, "/p?n=2"]]);
    assert.equal(live.cursor(), "e1:4");
  });

  test("that are not answered end", async () => {
    await goPolling();
    clock.pass(WAIT_S * 1000 + ANSWER_MS);
    assert.equal(live.state, "waiting");
    assert.ok(fetch.last.signal.aborted);
  });

  for (const [status, body, headers, state] of [
    [401, { code: "unauthorized" }, {}, "closed"], [403, { code: "forbidden" }, {}, "closed"],
    [401, "a proxy's page", {}, "waiting"], [502, "", {}, "waiting"], [503, { code: "unavailable" }, { "Retry-After": "7" }, "waiting"],
  ]) {
    test(`an answer ${status} ${JSON.stringify(body)} means ${state}`, async () => {
      await goPolling();
      const { tries } = live;
      fetch.last.answer(body, status, headers);
      await turn();
      assert.equal(live.state, state);
      if (!headers["Retry-After"]) return;
      clock.pass(7000);
      assert.equal(live.state, "waiting");
      clock.pass(300);
      assert.deepEqual([live.state, live.tries], ["connecting", tries + 1]);
    });
  }

  test("a topic that is gone does not keep us from the others", async () => {
    live.follow("task:gone");
    await climb(true);
    fetch.last.answer({ code: "not_found" }, 404);
    await turn();
    assert.equal(live.state, "waiting");
    assert.equal(live.cursor("task:gone"), null);
    await passUntil("connecting");
    Sockets.last.open();
    Sockets.last.say({ type: "authed", id: 1, v: 1, user: "u" });
    assert.deepEqual(Sockets.last.sent.slice(1).map(({ topic }) => topic), ["tasks"]);
  });
});

describe("the way back to a websocket", () => {
  test("is looked for beside what there is, and taken when it has caught up (P10)", async () => {
    const stream = await goStreaming();
    clock.pass(SEARCH_MS);
    assert.equal(Sockets.all.length, 3);
    assert.equal(live.state, "polling");
    Sockets.last.open();
    Sockets.last.say({ type: "authed", id: 1, v: 1, user: "u" });
    assert.equal(Sockets.last.lastSent.after, "e1:4");
    stream.send(text(event(5)));
    await turn();
    Sockets.last.say({ ...missed(5, 6), id: 2 });
    assert.equal(live.state, "live");
    assert.ok(fetch.last.signal.aborted);
    Sockets.last.say(event(7));
    assert.deepEqual(heard, [{ snapshot: 0 }, 5, 6, 7]);
  });

  test("a websocket that is behind shows nothing twice and nothing older", async () => {
    const stream = await goStreaming();
    clock.pass(SEARCH_MS);
    stream.send(text(event(5)) + text(event(6)));
    await turn();
    await getThrough(subscribed({ offset: 5, snapshot: { items: [1, 2, 3] } }));
    assert.equal(live.state, "live");
    for (const offset of [6, 7]) Sockets.last.say(event(offset));
    assert.deepEqual(heard, [{ snapshot: 0 }, 5, 6, 7]);
  });

  test("a hub that is another one by now is believed", async () => {
    await goPolling();
    clock.pass(SEARCH_MS);
    await getThrough(subscribed({ epoch: "e2", offset: 1, snapshot: { items: [1] } }));
    Sockets.last.say(event(2, {}, "e2"));
    assert.deepEqual(heard, [{ snapshot: 0 }, { snapshot: 1 }, 2]);
  });

  test("is looked for later and later, at once where there is a hint, and never ends what works", async () => {
    await goPolling();
    const waits = [];
    for (let tries = 0; tries < 6; tries += 1) {
      const [before, count] = [clock.time, Sockets.all.length];
      while (Sockets.all.length === count) {
        clock.pass(500);
        fetch.last.answer({ v: 1, cursor: "e1:4", topics: [missed()], previews: [] });
        await turn();
      }
      waits.push(clock.time - before);
      Sockets.last.hangUp(4429);
      assert.equal(live.state, "polling");
    }
    assert.ok(waits.every((wait, index) => !index || wait >= waits[index - 1]) && waits.at(-1) <= LONGEST_SEARCH_MS + 500, String(waits));
    const count = Sockets.all.length;
    live.hurry();
    clock.pass(0);
    assert.equal(Sockets.all.length, count + 1);
  });

  test("stopping ends both", async () => {
    await goStreaming();
    clock.pass(SEARCH_MS);
    live.stop();
    assert.ok(fetch.last.signal.aborted && Sockets.last.closed);
    assert.equal(clock.waiting, 0);
  });

  test("where there is no such thing as a websocket, the page is live all the same", async () => {
    live = new Live({ url: "http://hub/api/live", token: () => "T", WebSocket: undefined, fetch, clock, random: () => 0 });
    live.start();
    await passUntil("connecting");
    fetch.last.stream().send(text(subscribed()));
    await passUntil("polling");
  });
});

test("the data of a stream does not depend on how it is cut", () => {
  const whole = ": hello\r\nid: 1\r\ndata: {\"a\":1}\r\n\r\nretry: 3\n\ndata:one\ndata: two\n\nevent: x\n\ndata: last, not whole";
  for (let size = 1; size <= whole.length; size += 1) {
    const events = new EventText();
    const found = [];
    for (let at = 0; at < whole.length; at += size) found.push(...events.read(whole.slice(at, at + size)));
    assert.deepEqual(found, ['{"a":1}', "one\ntwo"]);
  }
});
