// Lists that the hub keeps and that the page shows to choose from: earlier media, and models.
// Owns what was loaded so far; fires "changed". Never draws.

class Listing extends EventTarget {
  items = [];
  known = false;
  problem = null;

  /** Run one request; its problem is kept to be shown, and the next success clears it. */
  async load(request, take) {
    try {
      await take(await request());
      this.known = true;
      this.problem = null;
    } catch (problem) {
      this.problem = problem;
    }
    this.dispatchEvent(new Event("changed"));
  }
}

/** The user's uploaded files of one kind, newest first. */
export class Library extends Listing {
  next = null;
  #changes = 0;

  constructor(kind, api) {
    super();
    this.kind = kind;
    this.api = api;
  }

  /** The newest ones; asked for again where a file came or went here meanwhile. */
  refresh() {
    const changes = this.#changes;
    return this.load(() => this.api.media(this.kind), ({ items, next }) => {
      if (changes !== this.#changes) return this.refresh();
      this.items = items.filter(usable);
      this.next = next;
    });
  }

  more() {
    return this.load(() => this.api.media(this.kind, this.next), ({ items, next }) => {
      const known = new Set(this.items.map((item) => item.id));
      this.items = [...this.items, ...items.filter((item) => usable(item) && !known.has(item.id))];
      this.next = next;
    });
  }

  add(media) {
    this.#changes += 1;
    this.items = [media, ...this.items.filter((item) => item.id !== media.id)];
    this.dispatchEvent(new Event("changed"));
  }

  async remove(id) {
    try {
      await this.api.deleteMedia(this.kind, id);
    } catch (problem) {
      if (problem.code !== "not_found") throw problem;
    }
    this.#changes += 1;
    this.items = this.items.filter((item) => item.id !== id);
    this.dispatchEvent(new Event("changed"));
  }
}

/** What the user may still upload, as the hub says it (see Api.limits). */
export class Limits extends Listing {
  now = null;

  constructor(api) {
    super();
    this.api = api;
  }

  refresh() {
    return this.load(() => this.api.limits(), (limits) => { this.now = limits; });
  }

  /** Bytes that there is still room for. */
  get left() {
    const { limit, used, reserved } = this.now.size;
    return Math.max(0, limit - used - reserved);
  }

  /** Why a file of this size cannot be uploaded, as {key, value}, or null where it can or nothing is known. */
  refuse(size) {
    if (!this.now) return null;
    const { file_size, files } = this.now;
    if (size > file_size) return { key: "upload.too_large", value: file_size };
    if (files.used >= files.limit) return { key: "upload.too_many_files", value: files.limit };
    return size > this.left ? { key: "upload.no_room", value: this.left } : null;
  }
}

/** What the workers offer, with how many are ready. */
export class Models extends Listing {
  constructor(api) {
    super();
    this.api = api;
  }

  refresh() {
    return this.load(() => this.api.models(), ({ items }) => { this.items = items; });
  }

  get(name) {
    return this.items.find((model) => model.name === name);
  }
}

function usable(media) {
  return !media.state || media.state === "ready";
}
