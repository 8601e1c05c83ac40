import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Admin } from "../../static/js/admin.js";
import { FakeClock } from "./fakes.js";

const ROUND = 5; // requests for everything that is shown
const QUICK = 3; // and for what changes quickly

/** An API whose answers a test gives by path; what was asked is in `asked`. */
function fakeApi(answers = {}) {
  const asked = [];
  return {
    asked,
    answers: { "/api/admin/stats": { tasks: {} }, ...answers },
    async request(method, path, body) {
      asked.push([method, path, body]);
      const answer = this.answers[path.split("?")[0]] ?? { items: [], next: null };
      if (answer instanceof Error) throw answer;
      return typeof answer === "function" ? answer(path) : answer;
    },
  };
}

const settled = () => new Promise((resolve) => { setImmediate(resolve); });

describe("what an admin sees", () => {
  test("is asked for again and again, until somebody goes", async () => {
    const clock = new FakeClock();
    const api = fakeApi();
    const admin = new Admin(api, { timers: clock });
    admin.start();
    await settled();
    assert.equal(api.asked.length, ROUND);
    clock.pass(2000);
    await settled();
    assert.equal(api.asked.length, ROUND + QUICK);
    for (let round = 0; round < 4; round += 1) {
      clock.pass(2000);
      await settled();
    }
    assert.equal(api.asked.length, 2 * ROUND + 4 * QUICK);
    admin.stop();
    clock.pass(10_000);
    await settled();
    assert.equal(api.asked.length, 2 * ROUND + 4 * QUICK);
    assert.equal(clock.waiting, 0);
  });

  test("is not asked for while nobody looks, and again when somebody does", async () => {
    const clock = new FakeClock();
    const api = fakeApi();
    let visible = false;
    const admin = new Admin(api, { timers: clock, visible: () => visible });
    admin.start();
    await settled();
    assert.equal(api.asked.length, 0);
    visible = true;
    clock.pass(2000);
    await settled();
    assert.equal(api.asked.length, ROUND);
    admin.stop();
  });

  test("stays as it was when the hub does not answer, with the problem beside it", async () => {
    const api = fakeApi({ "/api/admin/interfaces": { items: [{ name: "a" }], next: null } });
    const admin = new Admin(api);
    await admin.refresh();
    assert.deepEqual(admin.services, [{ name: "a" }]);
    api.answers["/api/admin/stats"] = new Error("away");
    await admin.refresh();
    assert.equal(admin.problem.message, "away");
    assert.deepEqual(admin.services, [{ name: "a" }]);
    api.answers["/api/admin/stats"] = { tasks: {} };
    await admin.refresh();
    assert.equal(admin.problem, null);
  });

  test("is not asked for any more by one who is no admin, and that is told", async () => {
    const clock = new FakeClock();
    const api = fakeApi({ "/api/admin/stats": Object.assign(new Error("no"), { status: 403 }) });
    const admin = new Admin(api, { timers: clock });
    let told = 0;
    admin.addEventListener("refused", () => { told += 1; });
    admin.start();
    await settled();
    assert.equal(told, 1);
    assert.equal(clock.waiting, 0);
  });

  test("all pages of services are read", async () => {
    const pages = (path) => (path.includes("cursor=a%20b") ? { items: [2], next: null } : { items: [1], next: "a b" });
    const admin = new Admin(fakeApi({ "/api/admin/interfaces": pages }));
    await admin.refresh();
    assert.deepEqual(admin.services, [1, 2]);
  });

  test("a list is shown a step at a time, and says whether there is more", async () => {
    const all = Array.from({ length: 260 }, (_, number) => number);
    const pages = (path) => {
      const asked = new URLSearchParams(path.split("?")[1]);
      const [from, limit] = [Number(asked.get("cursor") ?? 0), Number(asked.get("limit"))];
      return { items: all.slice(from, from + limit), next: from + limit < all.length ? String(from + limit) : null };
    };
    const admin = new Admin(fakeApi({ "/api/tasks/admin/pending": pages, "/api/admin/tasks": pages }));
    await admin.refresh();
    assert.deepEqual([admin.tasks.length, admin.more.tasks], [50, true]);
    for (const shown of [100, 150, 200, 250]) {
      await admin.showMore("tasks");
      assert.deepEqual([admin.tasks.length, admin.more.tasks], [shown, true]);
    }
    await admin.showMore("tasks");
    assert.deepEqual([admin.tasks, admin.more.tasks], [all, false]);
    await admin.show("all");
    assert.deepEqual([admin.tasks.length, admin.more.tasks], [50, true]);
  });

  test("an answer that a newer one overtook is dropped", async () => {
    let answerLate;
    const late = new Promise((resolve) => { answerLate = resolve; });
    const answers = [late, { items: ["new"], next: null }];
    const admin = new Admin(fakeApi({ "/api/tasks/admin/pending": () => answers.shift() }));
    const first = admin.refresh();
    await admin.refresh();
    answerLate({ items: ["old"], next: null });
    await first;
    assert.deepEqual(admin.tasks, ["new"]);
  });

  test("what was asked for with an act is not overtaken by a round", async () => {
    const clock = new FakeClock();
    const api = fakeApi();
    const admin = new Admin(api, { timers: clock });
    admin.start();
    await settled();
    let answerLate;
    api.answers["/api/admin/users"] = () => new Promise((resolve) => { answerLate = resolve; });
    const acted = admin.changeUser("8", { role: "admin" });
    await settled();
    clock.pass(2000);
    await settled();
    answerLate({ items: [{ id: "8", role: "admin" }], next: null });
    await acted;
    assert.deepEqual(admin.users, [{ id: "8", role: "admin" }]);
    admin.stop();
  });

  test("another list is shown, and an answer to the one before is dropped", async () => {
    let answerLate;
    const late = new Promise((resolve) => { answerLate = resolve; });
    const api = fakeApi({
      "/api/tasks/admin/pending": () => late,
      "/api/admin/tasks": (path) => ({ items: [path], next: null }),
    });
    const admin = new Admin(api);
    const first = admin.refresh();
    await admin.show("failed");
    answerLate({ items: ["late"], next: null });
    await first;
    assert.deepEqual(admin.tasks, ["/api/admin/tasks?state=failed&limit=50"]);
  });
});

test("what an admin does is sent, and shown at once", async () => {
  const api = fakeApi();
  const admin = new Admin(api);
  await admin.change("box 1", { paused: true });
  await admin.rotate("box 1");
  await admin.remove("box 1");
  await admin.move("7", "requeue");
  await admin.add({ name: "new" });
  await admin.changeUser("8", { disabled: true });
  const done = api.asked.filter(([method]) => method !== "GET");
  assert.deepEqual(done, [
    ["PATCH", "/api/admin/interfaces/box%201", { paused: true }],
    ["POST", "/api/admin/interfaces/box%201/rotate", undefined],
    ["DELETE", "/api/admin/interfaces/box%201", undefined],
    ["POST", "/api/admin/tasks/7/requeue", undefined],
    ["POST", "/api/admin/interfaces", { name: "new" }],
    ["PATCH", "/api/admin/users/8", { disabled: true }],
  ]);
  assert.equal(api.asked.length - done.length, done.length * ROUND);
});
