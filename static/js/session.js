// Who is signed in, and with which token. Owns what is remembered between reloads.
// Fires "changed" when somebody signs in or out, here or in another tab; "user" when the hub says another name or role.

const REMEMBERED = "vsh.session";

export class Session extends EventTarget {
  constructor(storage) {
    super();
    this.storage = storage;
    this.reason = null;
    this.renewing = false;
    this.email = ""; // whose session has expired here: they will want to sign in again
    this.read();
  }

  get token() {
    return this.saved?.token ?? null;
  }

  get user() {
    return this.saved?.user ?? null;
  }

  /** Take what the storage holds; anything unreadable counts as signed out. */
  read() {
    try {
      this.saved = JSON.parse(this.storage.getItem(REMEMBERED));
    } catch {
      this.saved = null;
    }
    if (typeof this.saved?.token !== "string") this.saved = null;
  }

  /** `answer` is what the hub said to a sign-in: {user, token}. */
  begin({ user, token }) {
    this.saved = { user, token };
    this.reason = null;
    this.email = "";
    this.storage.setItem(REMEMBERED, JSON.stringify(this.saved));
    this.dispatchEvent(new Event("changed"));
  }

  /** What the hub says by now of the user whose token is `token`. */
  know(user, token) {
    if (token !== this.token || JSON.stringify(user) === JSON.stringify(this.user)) return;
    this.saved = { user, token };
    this.storage.setItem(REMEMBERED, JSON.stringify(this.saved));
    this.dispatchEvent(new Event("user"));
  }

  /** `reason` is what to tell at the sign-in page: "expired" or "out_done". */
  end(reason) {
    if (!this.saved) return;
    this.email = reason === "expired" ? this.user?.email ?? "" : "";
    this.saved = null;
    this.reason = reason;
    this.storage.removeItem(REMEMBERED);
    this.dispatchEvent(new Event("changed"));
  }

  /** Take the token that `request` brings. Until then the old one ends nothing, although it may be void already. */
  async renew(request) {
    this.renewing = true;
    try {
      this.begin(await request());
    } finally {
      this.renewing = false;
    }
  }

  /** The hub does not know `token` any more; a newer one, perhaps from another tab, is left alone. */
  expire(token) {
    this.reread();
    if (token === this.token && !this.renewing) this.end("expired");
  }

  /** Another tab has signed in or out. */
  reread() {
    const before = this.token;
    this.read();
    if (this.token === before) return;
    this.reason = this.token ? null : "out_done";
    this.dispatchEvent(new Event("changed"));
  }
}
