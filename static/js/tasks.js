// What the page knows of the user's tasks. Owns which news is newer; fires "changed" with what is different.
// Never asks the hub and never draws.

export const ENDED = new Set(["completed", "failed", "cancelled"]);

export class Tasks extends EventTarget {
  #tasks = new Map();
  #deleted = new Set();
  /** False until the hub has told the list for the first time. */
  known = false;

  get(id) {
    return this.#tasks.get(id);
  }

  get size() {
    return this.#tasks.size;
  }

  /** All tasks, newest first. */
  list() {
    return [...this.#tasks.values()].sort(newestFirst);
  }

  get open() {
    return this.list().filter((task) => !ENDED.has(task.state));
  }

  /**
   * The hub's newest tasks: they are the truth, also where it knows less than was shown before a crash. Where they are
   * not the `whole` list, older ones stay; their ids.
   */
  replace(items, whole = true) {
    const before = this.#tasks;
    const older = whole ? [] : [...before.values()].filter((task) => newestFirst(task, items.at(-1)) > 0);
    this.#tasks = new Map([...items.map((task) => neverBack(task, before.get(task.id))), ...older].map((task) => [task.id, task]));
    this.#deleted.clear();
    this.known = true;
    this.#tell("replaced");
    return older.map(({ id }) => id);
  }

  /** Older entries of the list, or any other answers: what is known better stays; new ones are told at once. */
  merge(items) {
    let added = false;
    for (const task of items) {
      if (this.#tasks.has(task.id)) this.put(task);
      else added = this.#take(task) || added;
    }
    if (added) this.#tell("merged");
  }

  /** One whole task; false if that was old news. */
  put(task) {
    const known = this.#tasks.get(task.id);
    if (!this.#take(task)) return false;
    this.#tell("put", task.id, known);
    return true;
  }

  /** How far a task is: only its moving parts; false if that was old news or the task is not known. */
  progress({ id, attempt, version, phase, progress, message }) {
    const known = this.#tasks.get(id);
    if (!known || version < known.version || attempt < known.attempt) return false;
    return this.put({ ...known, attempt, version, phase, progress, message });
  }

  remove(id) {
    const known = this.#tasks.get(id);
    this.#deleted.add(id);
    if (!this.#tasks.delete(id)) return false;
    this.#tell("removed", id, known);
    return true;
  }

  /** A live event; unknown types are ignored. */
  apply({ type, data }) {
    if (type === "progressed") return this.progress(data);
    if (type === "deleted") return this.remove(data.id);
    return WHOLE.has(type) && this.put(data);
  }

  #take(task) {
    const known = this.#tasks.get(task.id);
    if (this.#deleted.has(task.id) || (known && task.version < known.version)) return false;
    this.#tasks.set(task.id, neverBack(task, known));
    return true;
  }

  #tell(what, id = null, before = undefined) {
    this.dispatchEvent(new CustomEvent("changed", { detail: { what, id, before } }));
  }
}

const WHOLE = new Set(["created", "assigned", "released", "completed", "failed", "cancelled", "updated"]);

/** Within one attempt that still runs, progress is never shown going back. */
function neverBack(task, before) {
  const same = before && before.state === "processing" && task.state === "processing" && before.attempt === task.attempt;
  return same && before.progress > task.progress ? { ...task, progress: before.progress } : task;
}

function newestFirst(a, b) {
  if (a.created_at !== b.created_at) return a.created_at < b.created_at ? 1 : -1;
  return a.id < b.id ? 1 : -1;
}
