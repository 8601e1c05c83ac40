// What admins see of the hub: numbers, interface services, tasks. Owns when it is asked for and what was answered.
// Fires "changed", and "refused" when the one who asks is no admin any more. Never draws.

const EVERY_MS = 2_000;
const LISTS = {
  waiting: "/api/tasks/admin/pending?limit=50",
  processing: "/api/admin/tasks?limit=50&state=processing",
  failed: "/api/admin/tasks?limit=50&state=failed",
  all: "/api/admin/tasks?limit=50",
};

export class Admin extends EventTarget {
  stats = null;
  services = null;
  tasks = null;
  problem = null;
  list = "waiting";
  #timer = null;
  #round = 0;

  /** `visible` says whether anybody looks; `timers` has set and clear, as of the page. */
  constructor(api, { visible = () => true, timers = { set: (...timer) => setTimeout(...timer), clear: (id) => clearTimeout(id) } } = {}) {
    super();
    Object.assign(this, { api, visible, timers });
  }

  /** Ask now, and every two seconds until `stop`. */
  start() {
    this.stop();
    this.#next();
  }

  stop() {
    this.#round += 1;
    this.timers.clear(this.#timer);
  }

  async #next() {
    const round = this.#round;
    if (this.visible()) await this.refresh();
    if (round === this.#round) this.#timer = this.timers.set(() => this.#next(), EVERY_MS);
  }

  /** Ask for everything that is shown; an answer that was overtaken by another choice is dropped. */
  async refresh() {
    const { list } = this;
    try {
      const [stats, services, tasks] = await Promise.all([
        this.api.request("GET", "/api/admin/stats"),
        this.#all("/api/admin/interfaces?limit=200"),
        this.api.request("GET", LISTS[list]),
      ]);
      if (list !== this.list) return;
      Object.assign(this, { stats, services, tasks: tasks.items, problem: null });
    } catch (problem) {
      this.problem = problem;
      if (problem.status === 403) this.#refused();
    }
    this.dispatchEvent(new Event("changed"));
  }

  #refused() {
    this.stop();
    this.dispatchEvent(new Event("refused"));
  }

  async #all(path) {
    const items = [];
    let cursor = null;
    do {
      const page = await this.api.request("GET", cursor ? `${path}&cursor=${encodeURIComponent(cursor)}` : path);
      items.push(...page.items);
      cursor = page.next;
    } while (cursor);
    return items;
  }

  /** Show another list of tasks: one of "waiting", "processing", "failed", "all". */
  show(list) {
    this.list = list;
    this.tasks = null;
    this.dispatchEvent(new Event("changed"));
    return this.refresh();
  }

  /** `fields` as for POST /api/admin/interfaces; resolves to the service with its token, which is told only now. */
  add(fields) {
    return this.#act("POST", "/api/admin/interfaces", fields);
  }

  change(name, fields) {
    return this.#act("PATCH", service(name), fields);
  }

  rotate(name) {
    return this.#act("POST", `${service(name)}/rotate`);
  }

  remove(name) {
    return this.#act("DELETE", service(name));
  }

  /** `move` is "cancel" or "requeue". */
  move(id, move) {
    return this.#act("POST", `/api/admin/tasks/${encodeURIComponent(id)}/${move}`);
  }

  async #act(method, path, body) {
    const answer = await this.api.request(method, path, body);
    await this.refresh();
    return answer;
  }
}

function service(name) {
  return `/api/admin/interfaces/${encodeURIComponent(name)}`;
}
