// What admins see of the hub: numbers, interface services, models, tasks, users. Owns when it is asked for and what was answered.
// Fires "changed", and "refused" when the one who asks is no admin any more. Never draws.

const EVERY_MS = 2_000;
const SLOW_ROUNDS = 5; // models and users are asked for only once in so many rounds
const STEP = 50; // rows of a list at first, and more with each step
const LARGEST_PAGE = 200; // of what the hub answers at once
const LISTS = {
  waiting: "/api/tasks/admin/pending?",
  processing: "/api/admin/tasks?state=processing&",
  failed: "/api/admin/tasks?state=failed&",
  all: "/api/admin/tasks?",
};

export class Admin extends EventTarget {
  stats = null;
  services = null;
  models = null;
  tasks = null;
  users = null;
  /** Whether there are more than are shown. */
  more = { tasks: false, users: false };
  problem = null;
  list = "waiting";
  #wanted = { tasks: STEP, users: STEP };
  #timer = null;
  #round = 0;
  #asked = 0;
  #answered = 0;
  #underway = 0;

  /** `visible` says whether anybody looks; `timers` has set and clear, as of the page. */
  constructor(api, { visible = () => true, timers = { set: (...timer) => setTimeout(...timer), clear: (id) => clearTimeout(id) } } = {}) {
    super();
    Object.assign(this, { api, visible, timers });
  }

  /** Ask now, and every two seconds until `stop`. */
  start() {
    this.stop();
    this.#next(0);
  }

  stop() {
    this.#round += 1;
    this.timers.clear(this.#timer);
  }

  async #next(times) {
    const round = this.#round;
    const visible = this.visible();
    const all = times % SLOW_ROUNDS === 0;
    if (visible && (all || !this.#underway)) await this.refresh(all); // what was asked for with an act must not be overtaken
    if (round === this.#round) this.#timer = this.timers.set(() => this.#next(visible ? times + 1 : 0), EVERY_MS);
  }

  /**
   * Ask for what is shown, `all` of it or only what changes quickly; an answer that was overtaken by another one or by
   * another choice is dropped.
   */
  async refresh(all = true) {
    const { list } = this;
    const number = this.#asked += 1;
    this.#underway += 1;
    try {
      const [stats, services, models, tasks, users] = await Promise.all([
        this.api.request("GET", "/api/admin/stats"),
        this.#items("/api/admin/interfaces?"),
        all ? this.api.request("GET", "/api/admin/models") : { items: this.models },
        this.#items(LISTS[list], this.#wanted.tasks),
        all ? this.#items("/api/admin/users?", this.#wanted.users) : { items: this.users, more: this.more.users },
      ]);
      if (list !== this.list || number < this.#answered) return;
      this.#answered = number;
      this.more = { tasks: tasks.more, users: users.more };
      Object.assign(this, {
        stats, services: services.items, models: models.items, tasks: tasks.items, users: users.items, problem: null,
      });
    } catch (problem) {
      this.problem = problem;
      if (problem.status === 403) this.#refused();
    } finally {
      this.#underway -= 1;
    }
    this.dispatchEvent(new Event("changed"));
  }

  #refused() {
    this.stop();
    this.dispatchEvent(new Event("refused"));
  }

  /** The first `wanted` items of a list, and whether there are more. */
  async #items(path, wanted = Infinity) {
    const items = [];
    let cursor = null;
    do {
      const limit = Math.min(wanted - items.length, LARGEST_PAGE);
      const page = await this.api.request("GET", `${path}limit=${limit}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
      items.push(...page.items);
      cursor = page.next;
    } while (cursor && items.length < wanted);
    return { items, more: Boolean(cursor) };
  }

  /** Show more of "tasks" or "users". */
  showMore(what) {
    this.#wanted[what] += STEP;
    return this.refresh();
  }

  /** Show another list of tasks: one of "waiting", "processing", "failed", "all". */
  show(list) {
    this.list = list;
    this.tasks = null;
    this.more.tasks = false;
    this.#wanted.tasks = STEP;
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

  /** `fields` are a role, or whether the user is disabled. */
  changeUser(id, fields) {
    return this.#act("PATCH", `/api/admin/users/${encodeURIComponent(id)}`, fields);
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
