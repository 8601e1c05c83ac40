import assert from "node:assert/strict";
import { test } from "node:test";

import { Problem } from "../../static/js/api.js";
import { Library, Models } from "../../static/js/catalog.js";

/** An Api that answers from a list, in order; a Problem is thrown. */
function answering(...answers) {
  const asked = [];
  const next = async (...request) => {
    asked.push(request);
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { asked, media: next, deleteMedia: next, models: next };
}

const ids = (list) => list.items.map(({ id }) => id);

test("a library holds what can be used, page after page, nothing twice", async () => {
  const api = answering(
    { items: [{ id: "c", state: "ready" }, { id: "x", state: "checking" }], next: "c" },
    { items: [{ id: "c", state: "ready" }, { id: "b", state: "ready" }], next: null },
  );
  const library = new Library("videos", api);
  assert.equal(library.known, false);
  await library.refresh();
  assert.deepEqual(ids(library), ["c"]);
  await library.more();
  assert.deepEqual(ids(library), ["c", "b"]);
  assert.deepEqual(api.asked, [["videos"], ["videos", "c"]]);
  assert.equal(library.next, null);
});

test("an answer that does not know of a file that came meanwhile is not believed", async () => {
  const api = answering({ items: [], next: null }, { items: [{ id: "a" }], next: null });
  const library = new Library("videos", api);
  const refreshed = library.refresh();
  library.add({ id: "a" });
  await refreshed;
  assert.deepEqual(ids(library), ["a"]);
  assert.equal(api.asked.length, 2);
});

test("an uploaded file comes first, also when it was there before", () => {
  const library = new Library("videos", answering());
  let told = 0;
  library.addEventListener("changed", () => { told += 1; });
  for (const id of ["a", "b", "a"]) library.add({ id });
  assert.deepEqual(ids(library), ["a", "b"]);
  assert.equal(told, 3);
});

test("deleting what is gone already is fine, a refusal leaves it in the list", async () => {
  const library = new Library("videos", answering(
    new Problem({ code: "not_found", status: 404 }), new Problem({ code: "in_use", status: 409 }),
  ));
  library.add({ id: "a" });
  library.add({ id: "b" });
  await library.remove("a");
  await assert.rejects(library.remove("b"), { code: "in_use" });
  assert.deepEqual(ids(library), ["b"]);
});

test("a failed refresh keeps what was known and says why, until the next one", async () => {
  const models = new Models(answering({ items: [{ name: "m" }] }, new Problem({ code: "network" }), { items: [] }));
  await models.refresh();
  await models.refresh();
  assert.equal(models.get("m").name, "m");
  assert.equal(models.problem.code, "network");
  await models.refresh();
  assert.equal(models.problem, null);
  assert.equal(models.get("m"), undefined);
});
