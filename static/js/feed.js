// Where the list of tasks comes from: the hub's snapshot of the newest, all that are open however old they are, and
// earlier ones when somebody asks. Owns what is asked for and when. Never decides which news is newer, and never draws.

const PAGE = 50; // tasks in a snapshot, and in an answer; fewer are all that there are
const MOST = 200; // open tasks that are fetched of each state
const OPEN = ["processing", "waiting"];

export class Feed {
  /** Whether all earlier tasks are here. */
  done = false;
  /** Whether there are more open tasks than were fetched. */
  crowded = false;
  #cursor = null;
  #stale = new Set(); // shown, but older than the last snapshot reached

  constructor(api, tasks) {
    Object.assign(this, { api, tasks });
  }

  /** The hub's snapshot of the newest tasks; what is shown beyond it stays, and is asked for again. */
  begin(items) {
    const whole = items.length < PAGE;
    Object.assign(this, { done: whole, crowded: false });
    this.#cursor = null;
    this.#stale = new Set(this.tasks.replace(items, whole));
    return this.#catchUp(whole ? [] : OPEN);
  }

  /** For what no event tells, such as places in line; and for what could not be asked for before. */
  refresh() {
    const { open } = this.tasks;
    return this.#catchUp(OPEN.filter((state) => open.some((task) => task.state === state)));
  }

  /** Earlier tasks, until there are some that were not here: the first page for its cursor, then one after the other. */
  async more() {
    const before = this.tasks.size;
    do this.#cursor = await this.#page(this.#cursor);
    while (this.#cursor && this.tasks.size === before);
    this.done = this.#cursor === null;
  }

  async #catchUp(states) {
    for (const state of states) {
      const { items, next } = await this.api.tasks({ state, limit: MOST });
      this.crowded ||= next !== null;
      this.#take(items);
    }
    let cursor = null;
    for (let pages = Math.ceil(this.#stale.size / PAGE) + 1; this.#stale.size && pages > 0; pages -= 1) {
      cursor = await this.#page(cursor);
      if (!cursor) break;
    }
    for (const id of this.#stale) await this.#one(id);
  }

  async #page(cursor) {
    const { items, next } = await this.api.tasks({ cursor });
    this.#take(items);
    return next;
  }

  #take(items) {
    for (const { id } of items) this.#stale.delete(id);
    this.tasks.merge(items);
  }

  async #one(id) {
    try {
      this.#take([await this.api.task(id)]);
    } catch (problem) {
      if (problem.code !== "not_found") throw problem;
      this.#stale.delete(id);
      this.tasks.remove(id);
    }
  }
}
