import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { Api } from "../../static/js/api.js";
import { Upload, typeOf } from "../../static/js/upload.js";
import { FakeRequest } from "./fakes.js";

let session, api, upload, states, time;

beforeEach(() => {
  session = { token: "TOKEN", expired: [], expire(token) { this.expired.push(token); } };
  api = new Api({ session, language: { tag: "zh-CN" } });
  time = 0;
  states = [];
});

function start(file = { name: "海滩 1&2.mp4", size: 1000, type: "video/mp4" }) {
  upload = new Upload("videos", file, { api, XMLHttpRequest: FakeRequest, now: () => time });
  upload.addEventListener("changed", () => states.push(`${upload.state} ${upload.sent}`));
  upload.start();
  return FakeRequest.last;
}

test("the file goes out as it is, with its name, its type, the token and the language", () => {
  const file = { name: "海滩 1&2.mp4", size: 1000, type: "video/mp4" };
  const request = start(file);
  assert.equal(request.method, "POST");
  assert.equal(request.url, "/api/videos?name=%E6%B5%B7%E6%BB%A9%201%262.mp4");
  assert.equal(request.body, file);
  assert.deepEqual(request.headers, {
    "Accept-Language": "zh-CN", Authorization: "Bearer TOKEN", "Content-Type": "video/mp4",
  });
});

test("a type that the browser does not know is taken from the name", () => {
  assert.equal(typeOf({ name: "a.MKV", type: "" }), "video/x-matroska");
  assert.equal(typeOf({ name: "noextension", type: "" }), "application/octet-stream");
  assert.equal(typeOf({ name: "a.mkv", type: "video/webm" }), "video/webm");
});

describe("on the way", () => {
  test("progress grows, then the hub checks, then the file is ready", () => {
    const request = start();
    request.upload.onprogress({ loaded: 400 });
    request.upload.onprogress({ loaded: 300 });
    request.upload.onload();
    request.answer(201, { id: "v1", name: "a" });
    assert.deepEqual(states, ["sending 400", "sending 400", "checking 1000", "ready 1000"]);
    assert.equal(upload.media.id, "v1");
    assert.equal(upload.open, false);
  });

  test("more bytes than the file has are still the whole file", () => {
    start().upload.onprogress({ loaded: 1200 });
    assert.deepEqual(states, ["checking 1000"]);
  });

  test("the time left is a guess only after a while", () => {
    const request = start();
    time = 500;
    request.upload.onprogress({ loaded: 100 });
    assert.equal(upload.left, null);
    time = 2000;
    request.upload.onprogress({ loaded: 250 });
    assert.equal(upload.left, 6);
  });

  test("it can be cancelled while it is sent and while it is checked, but not twice", () => {
    for (const before of [(request) => request, (request) => request.upload.onload()]) {
      before(start());
      upload.cancel();
      assert.equal(upload.state, "cancelled");
      upload.cancel();
      assert.equal(upload.state, "cancelled");
    }
  });
});

describe("refusals", () => {
  test("before the last byte: the hub's reason is kept", () => {
    const request = start();
    request.upload.onprogress({ loaded: 100 });
    request.answer(413, { code: "too_large", detail: "at most 100 MB", status: 413, errors: [] });
    assert.equal(upload.state, "refused");
    assert.equal(upload.problem.code, "too_large");
    assert.equal(upload.problem.detail, "at most 100 MB");
    assert.deepEqual(session.expired, []);
  });

  test("of the token end the session that sent it", () => {
    const request = start();
    session.token = "NEWER";
    request.answer(401, { code: "unauthorized", detail: "" });
    assert.deepEqual(session.expired, ["TOKEN"]);
  });

  test("a lost connection has a code of its own", () => {
    start().onerror();
    assert.equal(upload.problem.code, "network");
  });

  test("an answer that cannot be read is no success", () => {
    for (const [status, body] of [[201, "<html>"], [201, "null"], [201, "{}"], [502, "<html>bad gateway"], [200, ""]]) {
      start().answer(status, body);
      assert.equal(upload.state, "refused", `${status} ${body}`);
      assert.equal(upload.problem.code, "unreadable");
      assert.equal(upload.problem.status, status);
    }
  });

  test("an upload that has ended does not move again", () => {
    const request = start();
    request.answer(201, { id: "v1" });
    assert.throws(() => request.answer(201, { id: "v2" }), /cannot be ready/);
    assert.equal(upload.media.id, "v1");
  });
});
