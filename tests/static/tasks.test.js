import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { Tasks } from "../../static/js/tasks.js";

let tasks, changes;

beforeEach(() => {
  tasks = new Tasks();
  changes = [];
  tasks.addEventListener("changed", ({ detail }) => changes.push(detail.id ? `${detail.what} ${detail.id}` : detail.what));
});

const task = (id, version, more = {}) => ({
  id, version, state: "processing", phase: "segment", attempt: 1, progress: 10, message: "",
  created_at: `2026-01-01T00:00:0${id.length}.000Z`, video: { name: `${id}.mp4` }, ...more,
});

test("the newest task comes first, and equal times are told apart by id", () => {
  tasks.replace([task("a", 1), task("bb", 1), task("cc", 1)]);
  assert.deepEqual(tasks.list().map(({ id }) => id), ["cc", "bb", "a"]);
  assert.equal(tasks.known, true);
});

describe("which news is newer", () => {
  test("an older version changes nothing and tells nobody", () => {
    tasks.put(task("a", 5, { state: "completed" }));
    changes.length = 0;
    assert.equal(tasks.put(task("a", 4)), false);
    assert.equal(tasks.get("a").state, "completed");
    assert.deepEqual(changes, []);
  });

  test("the same version again may bring what has none, such as the place in line", () => {
    tasks.put(task("a", 1, { state: "waiting", position: 3 }));
    assert.equal(tasks.put(task("a", 1, { state: "waiting", position: 2 })), true);
    assert.equal(tasks.get("a").position, 2);
  });

  test("a created event after the answer to the request is harmless, and the other way round", () => {
    tasks.put(task("a", 1, { state: "waiting" }));
    tasks.apply({ type: "assigned", data: task("a", 2) });
    tasks.apply({ type: "created", data: task("a", 1, { state: "waiting" }) });
    assert.equal(tasks.get("a").state, "processing");
    assert.equal(tasks.size, 1);
  });

  test("a deleted task does not come back with a late answer", () => {
    tasks.put(task("a", 1));
    assert.equal(tasks.apply({ type: "deleted", data: { id: "a" } }), true);
    assert.equal(tasks.put(task("a", 9)), false);
    assert.equal(tasks.size, 0);
    assert.equal(tasks.remove("a"), false);
    assert.deepEqual(changes, ["put a", "removed a"]);
  });

  test("earlier pages are added without disturbing what is known better", () => {
    tasks.replace([task("bb", 7)]);
    tasks.merge([task("bb", 3), task("a", 1)]);
    assert.equal(tasks.get("bb").version, 7);
    assert.equal(tasks.size, 2);
  });
});

describe("progress (P9)", () => {
  const step = (version, progress, more = {}) => ({
    type: "progressed", data: { id: "a", attempt: 1, version, phase: "encode", progress, message: "half", ...more },
  });

  test("moves only what moves", () => {
    tasks.put(task("a", 2));
    tasks.apply(step(3, 50));
    assert.deepEqual(tasks.get("a"), task("a", 3, { phase: "encode", progress: 50, message: "half" }));
  });

  test("never goes back within an attempt", () => {
    tasks.put(task("a", 2, { progress: 60 }));
    tasks.apply(step(3, 50));
    assert.equal(tasks.get("a").progress, 60);
    assert.equal(tasks.get("a").version, 3);
  });

  test("starts again with another attempt", () => {
    tasks.put(task("a", 2, { progress: 60 }));
    tasks.apply({ type: "released", data: task("a", 3, { state: "waiting", phase: null, progress: 0 }) });
    assert.equal(tasks.get("a").progress, 0);
    tasks.apply({ type: "assigned", data: task("a", 4, { attempt: 2, progress: 0 }) });
    assert.equal(tasks.get("a").progress, 0);
    assert.equal(tasks.apply(step(3, 70)), false);
    assert.equal(tasks.get("a").progress, 0);
  });

  test("of an unknown task is nothing", () => {
    assert.equal(tasks.apply(step(3, 50)), false);
    assert.deepEqual(changes, []);
  });

  test("does not go back on the screen when the hub, after a crash, knows less than was shown", () => {
    tasks.put(task("a", 9, { progress: 62 }));
    tasks.replace([task("a", 7, { progress: 58 })]);
    assert.equal(tasks.get("a").progress, 62);
    assert.equal(tasks.apply(step(8, 64)), true);
    assert.equal(tasks.get("a").progress, 64);
  });
});

describe("the whole list", () => {
  test("replaces what was known, with what is not there any more", () => {
    tasks.put(task("a", 9));
    tasks.put(task("bb", 1));
    tasks.replace([task("bb", 1, { state: "completed", progress: 100 })]);
    assert.equal(tasks.get("a"), undefined);
    assert.equal(tasks.get("bb").state, "completed");
    assert.equal(changes.at(-1), "replaced");
  });

  test("keeps older ones where it is only the newest part, and says which", () => {
    tasks.merge([task("a", 1), task("bb", 1), task("ccc", 1)]);
    assert.deepEqual(tasks.replace([task("dddd", 1), task("bb", 2)], false), ["a"]);
    assert.deepEqual(tasks.list().map(({ id }) => id), ["dddd", "bb", "a"]);
  });

  test("tells of many that are added at once", () => {
    tasks.put(task("a", 1));
    changes.length = 0;
    tasks.merge([task("a", 2), task("bb", 1), task("ccc", 1)]);
    assert.deepEqual(changes, ["put a", "merged"]);
  });

  test("knows which tasks are open", () => {
    tasks.replace(["waiting", "processing", "completed", "failed", "cancelled"].map((state, index) => task("x".repeat(index + 1), 1, { state })));
    assert.deepEqual(tasks.open.map(({ state }) => state), ["processing", "waiting"]);
  });

  test("unknown event types are ignored", () => {
    assert.equal(tasks.apply({ type: "weather", data: task("a", 1) }), false);
    assert.equal(tasks.size, 0);
  });

  test("a listener learns what the task was before", () => {
    tasks.put(task("a", 1, { state: "waiting" }));
    let before;
    tasks.addEventListener("changed", ({ detail }) => { before = detail.before; }, { once: true });
    tasks.put(task("a", 2));
    assert.equal(before.state, "waiting");
  });
});
