import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { Api, Problem, uuid } from "../../static/js/api.js";
import { Session } from "../../static/js/session.js";
import { FakeStorage } from "./fakes.js";

let session, api, requests, answers;

beforeEach(() => {
  session = new Session(new FakeStorage());
  session.begin({ user: { email: "ada@example.org" }, token: "TOKEN" });
  requests = [];
  answers = [];
  api = new Api({
    session,
    language: { tag: "en" },
    fetch: async (path, request) => {
      requests.push({ path, ...request });
      const answer = answers.shift();
      if (answer instanceof Error) throw answer;
      return new Response(...answer);
    },
  });
});

const problem = (status, body) => [JSON.stringify(body), { status }];

describe("requests", () => {
  test("carry token and language, and a body only where there is one", async () => {
    answers.push(['{"items":[],"next":null}']);
    assert.deepEqual(await api.tasks(), { items: [], next: null });
    assert.deepEqual(requests[0], {
      path: "/api/tasks?limit=50", method: "GET", body: undefined,
      headers: { "Accept-Language": "en", Authorization: "Bearer TOKEN" },
    });
  });

  test("creating a task sends its idempotency key", async () => {
    answers.push(['{"id":"t"}', { status: 201 }]);
    await api.createTask({ video_id: "v", model: "m" }, "KEY");
    assert.equal(requests[0].headers["Idempotency-Key"], "KEY");
    assert.deepEqual(JSON.parse(requests[0].body), { video_id: "v", model: "m" });
  });

  test("no content is null", async () => {
    answers.push([null, { status: 204 }]);
    assert.equal(await api.deleteTask("a/b"), null);
    assert.equal(requests[0].path, "/api/tasks/a%2Fb");
  });

  test("cursors are passed on as they are", async () => {
    answers.push(['{"items":[],"next":null}']);
    await api.media("videos", "x&y");
    assert.equal(requests[0].path, "/api/videos?limit=50&cursor=x%26y");
  });
});

describe("problems", () => {
  test("keep what the hub said", async () => {
    answers.push(problem(422, { code: "invalid", title: "t", detail: "d", status: 422, errors: [{ pointer: "/model", code: "x" }], request_id: "r" }));
    await assert.rejects(api.models(), (error) => {
      assert.ok(error instanceof Problem);
      assert.equal(error.code, "invalid");
      assert.equal(error.detail, "d");
      assert.equal(error.errors[0].pointer, "/model");
      assert.equal(error.requestId, "r");
      return true;
    });
  });

  test("a token that the hub does not know ends the session, once", async () => {
    let ended = 0;
    session.addEventListener("changed", () => { ended += 1; });
    answers.push(problem(401, { code: "unauthorized" }), problem(401, { code: "unauthorized" }));
    await Promise.allSettled([api.tasks(), api.models()]);
    assert.equal(session.token, null);
    assert.equal(session.reason, "expired");
    assert.equal(ended, 1);
  });

  test("a late refusal of an old token leaves the new session alone", async () => {
    answers.push(problem(401, { code: "unauthorized" }));
    const late = api.tasks();
    session.begin({ user: {}, token: "NEWER" });
    await assert.rejects(late);
    assert.equal(session.token, "NEWER");
  });

  test("wrong credentials are not an ended session", async () => {
    session.end("out_done");
    answers.push(problem(401, { code: "bad_credentials" }));
    await assert.rejects(api.login("a", "b"), { code: "bad_credentials" });
    assert.equal(session.reason, "out_done");
  });

  test("no answer is a network problem, a broken one is unreadable", async () => {
    answers.push(new TypeError("failed to fetch"), ["<html>", { status: 502 }], ["{half", { status: 200 }], ["[1]", { status: 500 }]);
    await assert.rejects(api.tasks(), { code: "network" });
    await assert.rejects(api.tasks(), { code: "unreadable", status: 502 });
    await assert.rejects(api.tasks(), { code: "unreadable", status: 200 });
    await assert.rejects(api.tasks(), { code: "unreadable", status: 500 });
  });
});

describe("session", () => {
  test("the old token ends nothing while a new one is on its way", async () => {
    let answer;
    const renewed = session.renew(() => new Promise((resolve) => { answer = resolve; }));
    session.expire("TOKEN");
    assert.equal(session.token, "TOKEN");
    answer({ user: { email: "ada@example.org" }, token: "NEWER" });
    await renewed;
    assert.equal(session.token, "NEWER");
    session.expire("NEWER");
    assert.equal(session.token, null);
  });

  test("a refused change of the password leaves everything as it was", async () => {
    answers.push(problem(401, { code: "bad_credentials" }));
    await assert.rejects(session.renew(() => api.changePassword("wrong", "another sentence")), { code: "bad_credentials" });
    assert.deepEqual(JSON.parse(requests[0].body), { password: "wrong", new_password: "another sentence" });
    assert.equal(session.token, "TOKEN");
  });

  test("the refusal of a token that another tab has replaced already ends nothing", () => {
    session.storage.setItem("vsh.session", '{"token":"NEWER","user":{}}');
    session.expire("TOKEN");
    assert.equal(session.token, "NEWER");
    assert.ok(session.storage.getItem("vsh.session"));
  });

  test("whose session has expired is known until the next one begins", () => {
    session.expire("TOKEN");
    assert.equal(session.email, "ada@example.org");
    session.begin({ user: {}, token: "NEWER" });
    assert.equal(session.email, "");
  });

  test("is there again after a reload, and rubbish in the storage is nobody", () => {
    const { storage } = session;
    assert.equal(new Session(storage).token, "TOKEN");
    for (const rubbish of ["{half", "null", "7", '{"token":7}']) {
      storage.setItem("vsh.session", rubbish);
      assert.equal(new Session(storage).token, null, rubbish);
    }
  });

  test("another tab's sign-out is noticed, and nothing is told when nothing changed", () => {
    let told = 0;
    session.addEventListener("changed", () => { told += 1; });
    session.reread();
    assert.equal(told, 0);
    session.storage.removeItem("vsh.session");
    session.reread();
    assert.equal(told, 1);
    assert.equal(session.reason, "out_done");
  });

  test("another role is remembered and told, once, and only to whom it belongs", () => {
    let told = 0;
    session.addEventListener("user", () => { told += 1; });
    const user = { ...session.user, role: "admin" };
    session.know(user, "OLD");
    assert.notEqual(session.user?.role, "admin");
    session.know(user, "TOKEN");
    session.know({ ...user }, "TOKEN");
    assert.equal(told, 1);
    assert.equal(new Session(session.storage).user.role, "admin");
    assert.equal(session.token, "TOKEN");
  });
});

test("ids are random UUIDs of version 4, also without crypto.randomUUID", () => {
  assert.match(uuid(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(uuid((bytes) => bytes.fill(0)), "00000000-0000-4000-8000-000000000000");
  assert.notEqual(uuid(), uuid());
});
