// The hub's HTTP interface, one method per route. Owns headers, the shape of errors and what a 401 means.
// Never touches the page and never remembers an answer.

/** A refusal by the hub (RFC 9457), or code "network" / "unreadable" where there was no proper answer. */
export class Problem extends Error {
  constructor({ status = 0, code = "unknown", detail = "", title = "", errors = [], request_id = "" } = {}) {
    super(detail || title || code);
    Object.assign(this, { status, code, detail: detail || title, errors, requestId: request_id });
  }

  /** Read an answer's text as a problem, however broken it is. */
  static from(status, text) {
    try {
      const body = JSON.parse(text);
      if (body && typeof body.code === "string") return new Problem({ ...body, status });
    } catch {
      // falls through: a proxy's page, an empty body, half an answer
    }
    return new Problem({ status, code: "unreadable" });
  }
}

export const TUS = { "Tus-Resumable": "1.0.0" };

/** Text as base64 of its UTF-8. */
function base64(text) {
  return btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join(""));
}

/** A random UUID, also where the page was not loaded over https and crypto.randomUUID is missing. */
export function uuid(random = (bytes) => crypto.getRandomValues(bytes)) {
  const bytes = random(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return text.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export class Api {
  /**
   * `session` has `token` (text or null) and `expire(token)`, called when the hub does not know that token any more;
   * `language` has `tag`.
   */
  constructor({ session, language, fetch = (...request) => globalThis.fetch(...request) }) {
    this.session = session;
    this.language = language;
    this.fetch = fetch;
  }

  headers() {
    const headers = { "Accept-Language": this.language.tag };
    if (this.session.token) headers.Authorization = `Bearer ${this.session.token}`;
    return headers;
  }

  /** Send one request; resolves to the answer and its text, rejects with a Problem. */
  async exchange(method, path, body, more = {}) {
    const token = this.session.token;
    let response, text;
    try {
      response = await this.fetch(path, { method, headers: { ...this.headers(), ...more }, body });
      text = await response.text();
    } catch {
      throw new Problem({ code: "network" });
    }
    if (!response.ok) throw this.refused(Problem.from(response.status, text), token);
    return { response, text };
  }

  /** Send one request in JSON; resolves to the JSON answer (null for 204), rejects with a Problem. */
  async request(method, path, body, more = {}) {
    const headers = body === undefined ? more : { ...more, "Content-Type": "application/json" };
    const { response, text } = await this.exchange(method, path, body === undefined ? undefined : JSON.stringify(body), headers);
    if (!text) return null;
    try {
      return JSON.parse(text);
    } catch {
      throw new Problem({ status: response.status, code: "unreadable" });
    }
  }

  /** A problem on its way to the caller; if the hub does not know the token any more, the session ends too. */
  refused(problem, token) {
    if (problem.status === 401 && problem.code === "unauthorized" && token) this.session.expire(token);
    return problem;
  }

  register(email, password, name) {
    return this.request("POST", "/api/auth/register", name ? { email, password, name } : { email, password });
  }

  login(email, password) {
    return this.request("POST", "/api/auth/login", { email, password });
  }

  logout() {
    return this.request("POST", "/api/auth/logout");
  }

  /** Every token issued before is void then; the answer brings a new one. */
  changePassword(password, fresh) {
    return this.request("POST", "/api/auth/password", { password, new_password: fresh });
  }

  me() {
    return this.request("GET", "/api/auth/me");
  }

  /** `kind` is "videos" or "backgrounds". */
  media(kind, cursor = null) {
    return this.request("GET", `/api/${kind}?limit=50${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  }

  /** One video, with what each model would make of it. */
  video(id) {
    return this.request("GET", `/api/videos/${encodeURIComponent(id)}`);
  }

  deleteMedia(kind, id) {
    return this.request("DELETE", `/api/${kind}/${encodeURIComponent(id)}`);
  }

  oneMedia(kind, id) {
    return this.request("GET", `/api/${kind}/${encodeURIComponent(id)}`);
  }

  /** What may still be uploaded: {file_size, size: {limit, used, reserved}, files, uploads}. */
  limits() {
    return this.request("GET", "/api/uploads/limits");
  }

  /** Begin an upload (tus 1.0.0, creation) of `length` bytes; resolves to its address. */
  async beginUpload(length, metadata) {
    const said = Object.entries(metadata).map(([name, value]) => `${name} ${base64(value)}`).join(",");
    const { response } = await this.exchange("POST", "/api/uploads", undefined, {
      ...TUS, "Upload-Length": String(length), "Upload-Metadata": said,
    });
    return response.headers.get("Location");
  }

  /** How many bytes of an upload the hub has; -1 where the upload is gone. */
  async uploadOffset(address) {
    try {
      const { response } = await this.exchange("HEAD", address, undefined, TUS);
      return Number(response.headers.get("Upload-Offset"));
    } catch (problem) {
      if (problem.status === 404 || problem.status === 410) return -1;
      throw problem;
    }
  }

  /** {id, state, problem?} of an upload. */
  upload(address) {
    return this.request("GET", address);
  }

  endUpload(address) {
    return this.request("DELETE", address, undefined, TUS);
  }

  models() {
    return this.request("GET", "/api/models");
  }

  /** Newest first; `state` asks for those in one state. */
  tasks({ cursor = null, state = null, limit = 50 } = {}) {
    const asked = Object.entries({ limit, state, cursor }).filter(([, value]) => value !== null);
    return this.request("GET", `/api/tasks?${new URLSearchParams(asked)}`);
  }

  task(id) {
    return this.request("GET", `/api/tasks/${encodeURIComponent(id)}`);
  }

  /** The same `key` with the same order gives the same task, also when the first answer was lost. */
  createTask(order, key) {
    return this.request("POST", "/api/tasks", order, { "Idempotency-Key": key });
  }

  cancelTask(id) {
    return this.request("POST", `/api/tasks/${encodeURIComponent(id)}/cancel`);
  }

  retryTask(id) {
    return this.request("POST", `/api/tasks/${encodeURIComponent(id)}/retry`);
  }

  deleteTask(id) {
    return this.request("DELETE", `/api/tasks/${encodeURIComponent(id)}`);
  }
}
