import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { Api } from "../../static/js/api.js";
import { Limits } from "../../static/js/catalog.js";
import { Upload, typeOf, unfinished } from "../../static/js/upload.js";
import { FakeRequest, FakeStorage } from "./fakes.js";

const ADDRESS = "/api/uploads/u1";
const FILE = { name: "海滩 1&2.mp4", size: 1000, type: "video/mp4", lastModified: 7, slice: (from) => ({ from }) };
const VIDEO = { id: "u1", name: "a" };

let session, hub, upload, states, time, storage, pauses, watch;

/** The hub's answers to what is not a PATCH: a list for each method, the last one again and again. */
function fakeHub(answers) {
  const asked = [];
  const fetch = async (path, { method, headers }) => {
    asked.push({ method, path, headers });
    const key = path.startsWith("/api/videos") ? "MEDIA" : method;
    const list = answers[key] ?? [];
    const answer = list.length > 1 ? list.shift() : list[0];
    if (!answer) throw new TypeError("fetch failed");
    const [status, body = "", given = {}] = answer;
    return {
      ok: status < 300, status, text: async () => (typeof body === "string" ? body : JSON.stringify(body)),
      headers: { get: (name) => given[name] ?? null },
    };
  };
  return { asked, fetch, answers, methods: () => asked.map(({ method }) => method).join(" ") };
}

const created = [201, "", { Location: ADDRESS }];
const at = (offset) => [200, "", { "Upload-Offset": String(offset) }];
const problem = (status, code) => [status, { code, status, detail: "" }];

beforeEach(() => {
  session = { token: "TOKEN", user: { id: "ann" }, expired: [], expire(token) { this.expired.push(token); } };
  storage = new FakeStorage();
  FakeRequest.last = null;
  time = 0;
  states = [];
  pauses = [];
});

function start(answers = {}, file = FILE) {
  hub = fakeHub({ POST: [created], GET: [[200, { id: "u1", state: "ready" }]], MEDIA: [[200, VIDEO]], DELETE: [[204]], ...answers });
  const api = new Api({ session, language: { tag: "zh-CN" }, fetch: hub.fetch });
  const wait = async (ms) => { pauses.push(ms); };
  const every = (ms, run) => { watch = run; return () => { watch = null; }; };
  upload = new Upload("videos", file, {
    api, storage, wait, every, now: () => time, random: () => 1, XMLHttpRequest: FakeRequest,
  });
  upload.addEventListener("changed", () => states.push(`${upload.state} ${upload.sent}`));
  upload.start();
  return sent();
}

/** The next PATCH, once it is on its way. */
async function sent(after = FakeRequest.last) {
  for (let turn = 0; turn < 100 && FakeRequest.last === after; turn += 1) await Promise.resolve();
  assert.notEqual(FakeRequest.last, after, `no PATCH came: ${states} ${upload.problem}`);
  return FakeRequest.last;
}

function take(request, offset) {
  request.answerHeaders = { "Upload-Offset": String(offset) };
  request.answer(204, "");
}

test("an upload is begun with its name, type and purpose, and sent whole under the token", async () => {
  const request = await start();
  const [begun] = hub.asked;
  assert.equal(`${begun.method} ${begun.path}`, "POST /api/uploads");
  assert.equal(begun.headers["Upload-Length"], "1000");
  assert.equal(begun.headers["Upload-Metadata"], "filename 5rW35rupIDEmMi5tcDQ=,filetype dmlkZW8vbXA0,purpose dmlkZW8=");
  assert.equal(`${request.method} ${request.url}`, `PATCH ${ADDRESS}`);
  assert.equal(request.body, FILE);
  assert.deepEqual(request.headers, {
    "Accept-Language": "zh-CN", Authorization: "Bearer TOKEN", "Tus-Resumable": "1.0.0", "Upload-Offset": "0",
    "Content-Type": "application/offset+octet-stream",
  });
});

test("a type that the browser does not know is taken from the name", () => {
  assert.equal(typeOf({ name: "a.MKV", type: "" }), "video/x-matroska");
  assert.equal(typeOf({ name: "noextension", type: "" }), "application/octet-stream");
  assert.equal(typeOf({ name: "a.mkv", type: "video/webm" }), "video/webm");
});

describe("on the way", () => {
  test("progress grows, then the hub checks, then the file is ready", async () => {
    const request = await start({ GET: [[200, { id: "u1", state: "checking" }], [200, { id: "u1", state: "ready" }]] });
    request.upload.onprogress({ loaded: 400 });
    request.upload.onprogress({ loaded: 300 });
    request.upload.onload();
    take(request, 1000);
    await upload.done;
    assert.deepEqual(states, ["sending 400", "sending 400", "checking 1000", "ready 1000"]);
    assert.equal(upload.media.id, "u1");
    assert.equal(upload.open, false);
    assert.equal(upload.begun, false);
    assert.deepEqual(pauses, [1000]);
  });

  test("more bytes than the file has are still the whole file", async () => {
    (await start()).upload.onprogress({ loaded: 1200 });
    assert.deepEqual(states, ["checking 1000"]);
  });

  test("the time left is a guess only after a while", async () => {
    const request = await start();
    time = 500;
    request.upload.onprogress({ loaded: 100 });
    assert.equal(upload.left, null);
    time = 2000;
    request.upload.onprogress({ loaded: 250 });
    assert.equal(upload.left, 6);
  });

  test("cancelling stops the request, tells the hub, and forgets the address", async () => {
    const request = await start();
    let aborted = false;
    request.abort = () => { aborted = true; request.onabort(); };
    upload.cancel();
    upload.cancel();
    await upload.done;
    assert.equal(aborted, true);
    assert.equal(upload.state, "cancelled");
    assert.equal(upload.begun, false);
    assert.equal(hub.methods(), "POST DELETE");
  });
});

test("leaving stops the request, and another time it goes on", async () => {
  const request = await start();
  request.upload.onprogress({ loaded: 600 });
  upload.leave();
  await upload.done;
  assert.equal(upload.state, "cancelled");
  assert.equal(hub.methods(), "POST");
  assert.equal((await start({ HEAD: [at(600)] })).headers["Upload-Offset"], "600");
});

describe("going on", () => {
  test("a lost line is waited for, asked about, and continued where it stopped", async () => {
    const first = await start({ HEAD: [undefined, problem(503, "unavailable"), at(600)] });
    first.upload.onprogress({ loaded: 700 });
    first.onerror();
    const second = await sent(first);
    assert.equal(second.headers["Upload-Offset"], "600");
    assert.deepEqual(second.body, { from: 600 });
    assert.deepEqual(pauses, [1000, 2000, 4000]);
    take(second, 1000);
    await upload.done;
    assert.deepEqual(states, ["sending 700", "waiting 700", "sending 600", "checking 1000", "ready 1000"]);
    assert.equal(hub.methods(), "POST HEAD HEAD HEAD GET GET");
  });

  test("pauses grow, but not for ever, and begin anew after progress", async () => {
    const first = await start({ HEAD: [...Array(9).fill(undefined), at(600)] });
    first.onerror();
    const second = await sent(first);
    assert.equal(Math.max(...pauses), 15000);
    take(second, 800);
    const third = await sent(second);
    third.onerror();
    await sent(third);
    assert.equal(pauses.at(-1), 1000);
  });

  test("a line that brings nothing forward counts as lost, but not while the hub checks", async () => {
    const first = await start({ HEAD: [at(600)] });
    time = 20_000;
    first.upload.onprogress({ loaded: 600 });
    time = 49_000;
    watch();
    assert.equal(upload.state, "sending");
    time = 51_000;
    watch();
    const second = await sent(first);
    second.upload.onload();
    time = 100_000;
    watch();
    take(second, 1000);
    await upload.done;
    assert.equal(watch, null);
    assert.deepEqual(states, ["sending 600", "waiting 600", "sending 600", "checking 1000", "ready 1000"]);
  });

  test("after a reload it is known which file is not all here, and what is gone is forgotten", async () => {
    const named = (name) => `vsh.upload:ann:videos:${name}:1000:7`;
    storage.setItem(named("gone.mp4"), "/api/uploads/gone");
    storage.setItem("vsh.upload:bob:videos:his.mp4:1:2", "/api/uploads/his");
    storage.setItem("vsh.upload:ann:backgrounds:beach.jpg:1:2", "/api/uploads/beach");
    storage.setItem(named("12:30 a:b.mp4"), ADDRESS);
    hub = fakeHub({ GET: [problem(404, "not_found"), [200, { id: "u1", state: "receiving" }]] });
    const api = new Api({ session, language: { tag: "en" }, fetch: hub.fetch });
    assert.equal(await unfinished("videos", { api, storage }), "12:30 a:b.mp4");
    assert.deepEqual(hub.asked.map(({ path }) => path), ["/api/uploads/gone", ADDRESS]);
    assert.equal(storage.getItem(named("gone.mp4")), null);
    assert.equal(storage.length, 3);
  });

  test("after a reload the same file of the same user goes on", async () => {
    (await start()).upload.onprogress({ loaded: 600 });
    const again = await start({ HEAD: [at(600)], POST: [] });
    assert.equal(again.headers["Upload-Offset"], "600");
    assert.equal(hub.methods(), "HEAD");
    time = 2000;
    again.upload.onprogress({ loaded: 200 });
    assert.equal(upload.left, 2); // only what came now says how fast it is
  });

  test("another user, another file and another kind begin anew", async () => {
    await start();
    for (const [user, file] of [["bob", FILE], ["ann", { ...FILE, size: 1001 }], ["ann", { ...FILE, lastModified: 8 }]]) {
      session.user = { id: user };
      await start({}, file);
      assert.equal(hub.methods(), "POST", `${user} ${file.size}`);
    }
  });

  test("one that is gone is begun anew", async () => {
    await start();
    for (const gone of [problem(404, "not_found"), problem(410, "upload_gone")]) {
      const again = await start({ HEAD: [gone] });
      assert.equal(again.headers["Upload-Offset"], "0");
      assert.equal(hub.methods(), "HEAD POST");
    }
  });

  test("an offset that has moved is asked for", async () => {
    const first = await start({ HEAD: [at(300)] });
    first.answer(409, { code: "offset_mismatch", status: 409 });
    assert.equal((await sent(first)).headers["Upload-Offset"], "300");
  });

  test("all bytes may be there already", async () => {
    storage.setItem("vsh.upload:ann:videos:海滩 1&2.mp4:1000:7", ADDRESS);
    const before = FakeRequest.last;
    start({ HEAD: [at(1000)] }).catch(() => {});
    await upload.done;
    assert.equal(FakeRequest.last, before);
    assert.deepEqual(states, ["checking 1000", "ready 1000"]);
  });
});

describe("refusals", () => {
  test("before a byte was sent: the hub's reason is kept", async () => {
    start({ POST: [problem(413, "quota")] }).catch(() => {});
    await upload.done;
    assert.deepEqual(states, ["refused 0"]);
    assert.equal(upload.problem.code, "quota");
    assert.deepEqual([pauses, session.expired], [[], []]);
  });

  test("a full disk and too many uploads are told, not waited for", async () => {
    for (const refusal of [problem(507, "disk_full"), problem(429, "too_many_uploads")]) {
      start({ POST: [refusal] }).catch(() => {});
      await upload.done;
      assert.equal(upload.problem.code, refusal[1].code);
    }
  });

  test("of the file itself, after the last byte", async () => {
    const rejected = [200, { id: "u1", state: "rejected", problem: { code: "not_video", detail: "no frames" } }];
    take(await start({ GET: [rejected] }), 1000);
    await upload.done;
    assert.equal(upload.state, "refused");
    assert.deepEqual([upload.problem.code, upload.problem.detail], ["not_video", "no frames"]);
    assert.equal(upload.begun, false);
  });

  test("of the token end the session that sent it, and the next session goes on", async () => {
    const request = await start();
    session.token = "NEWER";
    request.answer(401, { code: "unauthorized", detail: "" });
    await upload.done;
    assert.deepEqual(session.expired, ["TOKEN"]);
    assert.equal(upload.state, "refused");
    assert.equal(upload.begun, true);
  });

  test("an answer that cannot be read is no success", async () => {
    for (const [status, body] of [[200, "<html>"], [404, "<html>"], [413, ""], [204, ""]]) {
      const request = await start();
      request.answer(status, body);
      await upload.done;
      assert.equal(upload.state, "refused", `${status} ${body}`);
      assert.equal(upload.problem.code, "unreadable");
      storage = new FakeStorage();
    }
  });

  test("a file that cannot be read any more is told", async () => {
    const first = await start({ HEAD: [at(600)] }, { ...FILE, slice: () => { throw new Error("NotReadableError"); } });
    first.onerror();
    await upload.done;
    assert.deepEqual([upload.state, upload.problem.code, upload.problem.detail], ["refused", "unknown", "Error: NotReadableError"]);
  });

  test("a storage that takes nothing does no harm", async () => {
    storage.setItem = () => { throw new Error("full"); };
    take(await start(), 1000);
    await upload.done;
    assert.equal(upload.state, "ready");
  });
});

test("what is too much is said before anything is sent", async () => {
  const said = {
    file_size: 500, size: { limit: 1000, used: 300, reserved: 400 }, files: { limit: 3, used: 2 }, uploads: { limit: 9, used: 1 },
  };
  const limits = new Limits({ limits: async () => said });
  assert.equal(limits.refuse(10 ** 12), null); // nothing is known yet
  await limits.refresh();
  assert.equal(limits.left, 300);
  assert.equal(limits.refuse(300), null);
  assert.deepEqual(limits.refuse(301), { key: "upload.no_room", value: 300 });
  assert.deepEqual(limits.refuse(501), { key: "upload.too_large", value: 500 });
  said.files.used = 3;
  assert.deepEqual(limits.refuse(1), { key: "upload.too_many_files", value: 3 });
});
