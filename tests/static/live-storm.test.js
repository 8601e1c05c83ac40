// Any sequence of events, cuts, blocked ways, restarts, sleeps and hints: the page ends with exactly the hub's state,
// having seen no event twice, out of order, or beyond a snapshot (P9, P10).

import assert from "node:assert/strict";
import { test } from "node:test";

import { Live } from "../../static/js/live.js";
import { FakeHub } from "./fake-hub.js";
import { FakeClock, turn } from "./fakes.js";

const DAYS = Number(process.env.DAYS ?? 60);
const STEPS = 500;
const KINDS = ["socket", "stream", "poll"];

/** Mulberry32: small, and the same everywhere. */
function dice(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** What the page shows, told by `live`; throws where that could not be. */
class Screen {
  value = null;
  epoch = null;
  states = new Set();
  snapshots = 0;
  events = 0;

  constructor(live) {
    live.addEventListener("state", () => this.states.add(live.state));
    live.addEventListener("snapshot", ({ detail }) => {
      this.snapshots += 1;
      this.epoch = null;
      this.value = detail.snapshot.value;
    });
    live.addEventListener("event", ({ detail }) => {
      this.events += 1;
      if (this.epoch !== null) assert.equal(detail.epoch, this.epoch, "a new epoch comes with a snapshot");
      this.epoch = detail.epoch;
      assert.equal(detail.data.value, this.value + 1, "the very next event");
      this.value = detail.data.value;
    });
  }
}

async function day(seed) {
  const random = dice(seed);
  const clock = new FakeClock();
  const hub = new FakeHub(random);
  const live = new Live({ url: "http://hub/api/live", token: () => "T", WebSocket: hub.WebSocket, fetch: hub.fetch, clock, random });
  const screen = new Screen(live);
  const happen = [
    [60, () => hub.deliver()], [12, () => hub.publish()], [6, () => clock.pass(random() * 2000)],
    [2, () => hub.cutOne()], [0.5, () => hub.restart()], [0.5, () => clock.sleep(random() * 120_000)], [2, () => live.hurry()],
    [2, () => hub.blocked.add(KINDS[hub.below(3)])], [2, () => hub.blocked.delete(KINDS[hub.below(3)])], [0.3, () => clock.pass(30_000)],
    [1, () => { for (let count = 0; count < 15; count += 1) hub.publish(); }],
  ];
  const total = happen.reduce((sum, [weight]) => sum + weight, 0);
  live.start();
  for (let step = 0; step < STEPS; step += 1) {
    let at = random() * total;
    await happen.find(([weight]) => (at -= weight) < 0)[1]();
    await turn();
  }
  hub.blocked.clear();
  hub.publish(false);
  for (let steps = 0; live.state !== "live" || screen.value !== hub.offset; steps += 1) {
    assert.ok(steps < 5000, `${live.state}: shows ${screen.value}, the hub is at ${hub.offset}`);
    if (!await hub.deliver()) clock.pass(200);
    await turn();
  }
  live.stop();
  return screen;
}

test(`on each of ${DAYS} bad days the page ends with what is true`, async () => {
  const seen = { states: new Set(), snapshots: 0, events: 0 };
  const first = Number(process.env.SEED ?? 1);
  for (let seed = first; seed < first + DAYS; seed += 1) {
    const screen = await day(seed).catch((error) => { throw new Error(`SEED=${seed} DAYS=1`, { cause: error }); });
    screen.states.forEach((state) => seen.states.add(state));
    seen.snapshots += screen.snapshots;
    seen.events += screen.events;
  }
  if (DAYS < 50) return;
  assert.deepEqual([...seen.states].sort(), ["closed", "connecting", "live", "polling", "waiting"]);
  assert.ok(seen.events > 5 * seen.snapshots, JSON.stringify(seen));
});
