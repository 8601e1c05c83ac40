import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { Problem } from "../../static/js/api.js";
import { Feed } from "../../static/js/feed.js";
import { Tasks } from "../../static/js/tasks.js";

/** The hub's tasks, and the part of the API that tells of them. */
class Hub {
  tasks = [];
  asked = [];
  away = false;

  add(count, state = "completed") {
    for (let n = 0; n < count; n += 1) {
      const id = String(this.tasks.length).padStart(4, "0");
      this.tasks.unshift({ id, state, version: 1, attempt: 1, progress: 0, created_at: `2026-01-01T00:00:00.${id}Z` });
    }
    return this;
  }

  change(id, facts) {
    const at = this.tasks.findIndex((task) => task.id === id);
    this.tasks[at] = { ...this.tasks[at], ...facts, version: this.tasks[at].version + 1 };
  }

  delete(id) {
    this.tasks = this.tasks.filter((task) => task.id !== id);
  }

  snapshot() {
    return this.tasks.slice(0, 50);
  }

  api = {
    tasks: async ({ cursor = null, state = null, limit = 50 }) => {
      this.asked.push(state ?? cursor ?? "first");
      if (this.away) throw new Problem({ code: "network" });
      const found = this.tasks.filter((task) => (!state || task.state === state) && (!cursor || task.id < cursor));
      const items = found.slice(0, limit);
      return { items, next: found.length > limit ? items.at(-1).id : null };
    },
    task: async (id) => {
      this.asked.push(`one ${id}`);
      const found = this.tasks.find((task) => task.id === id);
      if (!found) throw new Problem({ status: 404, code: "not_found" });
      return found;
    },
  };
}

let hub, tasks, feed;

beforeEach(() => {
  hub = new Hub();
  tasks = new Tasks();
  feed = new Feed(hub.api, tasks);
});

const shown = () => tasks.list().map(({ id }) => id);
const all = () => hub.tasks.map(({ id }) => id);

describe("open tasks", () => {
  test("are all there, however many newer ones there are", async () => {
    hub.add(1, "processing").add(70, "waiting").add(50);
    await feed.begin(hub.snapshot());
    assert.equal(tasks.open.length, 71);
    assert.equal(feed.crowded, false);
  });

  test("are not asked for where the snapshot is the whole list", async () => {
    hub.add(49, "waiting");
    await feed.begin(hub.snapshot());
    assert.deepEqual(hub.asked, []);
    assert.equal(feed.done, true);
  });

  test("whoever hears of the snapshot finds it said already that there is nothing earlier", async () => {
    let done;
    tasks.addEventListener("changed", () => { done = feed.done; });
    await feed.begin(hub.add(3).snapshot());
    assert.equal(done, true);
  });

  test("have a bound, and it is said that there are more", async () => {
    hub.add(300, "waiting");
    await feed.begin(hub.snapshot());
    assert.equal(tasks.open.length, 200);
    assert.equal(feed.crowded, true);
  });

  test("learn their place in line although they are old", async () => {
    hub.add(1, "waiting").add(60);
    await feed.begin(hub.snapshot());
    hub.tasks.at(-1).position = 3;
    await feed.refresh();
    assert.equal(tasks.get("0000").position, 3);
  });

  test("are not asked for again and again where there are none", async () => {
    hub.add(60);
    await feed.begin(hub.snapshot());
    hub.asked.length = 0;
    await feed.refresh();
    assert.deepEqual(hub.asked, []);
  });
});

describe("earlier tasks", () => {
  beforeEach(async () => {
    hub.add(120);
    await feed.begin(hub.snapshot());
  });

  test("come page by page, until there are no more", async () => {
    await feed.more();
    assert.equal(tasks.size, 100);
    assert.equal(feed.done, false);
    await feed.more();
    assert.deepEqual(shown(), all());
    assert.equal(feed.done, true);
  });

  test("stay when a new snapshot comes, and are as the hub says then", async () => {
    await feed.more();
    await feed.more();
    hub.change("0003", { state: "cancelled" });
    hub.delete("0005");
    hub.delete("0100");
    await feed.begin(hub.snapshot());
    assert.deepEqual(shown(), all());
    assert.equal(tasks.get("0003").state, "cancelled");
  });

  test("that ended unseen behind many others are asked for one by one", async () => {
    tasks.put({ ...hub.tasks.at(-1), state: "processing" });
    hub.asked.length = 0;
    hub.change("0000", { state: "failed" });
    await feed.begin(hub.snapshot());
    assert.equal(tasks.get("0000").state, "failed");
    assert.equal(tasks.size, 101);
    assert.deepEqual(hub.asked, ["processing", "waiting", "first", "0070", "one 0000"]);
  });

  test("are asked for again later where the hub was away", async () => {
    await feed.more();
    hub.away = true;
    hub.change("0080", { state: "cancelled" });
    hub.change("0030", { state: "cancelled" });
    await assert.rejects(feed.begin(hub.snapshot()), { code: "network" });
    assert.equal(tasks.size, 100);
    hub.away = false;
    await feed.refresh();
    assert.equal(tasks.get("0030").state, "cancelled");
    hub.asked.length = 0;
    await feed.refresh();
    assert.deepEqual(hub.asked, []);
  });
});
