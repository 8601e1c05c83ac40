// Wires the page together: the only file that knows every other one.

import { Api } from "./api.js";
import { Library, Limits, Models } from "./catalog.js";
import { Feed } from "./feed.js";
import { Language } from "./i18n.js";
import { Live } from "./live.js";
import { Session } from "./session.js";
import { Tasks } from "./tasks.js";
import { AdminPage } from "./views/admin.js";
import { Frame } from "./views/frame.js";
import { SignIn } from "./views/sign-in.js";
import { Workspace } from "./views/workspace.js";

const REFRESH_MS = 15_000; // for what no event tells: places in line and who is ready
const COME_BACK_MS = 5_000; // after the live connection was told to sign in although the token still counts

const language = new Language(localStorage, navigator.languages ?? [navigator.language]);
const session = new Session(localStorage);
const api = new Api({ session, language });
const frame = new Frame(document, { language, session, api });

/** Everything that belongs to one signed-in user; closing it leaves nothing behind. */
function open() {
  const closing = new AbortController();
  const { signal } = closing;
  const { token } = session;
  const tasks = new Tasks();
  const feed = new Feed(api, tasks);
  const models = new Models(api);
  const library = { videos: new Library("videos", api), backgrounds: new Library("backgrounds", api) };
  const limits = new Limits(api);
  for (const list of Object.values(library)) list.addEventListener("changed", () => limits.refresh());
  const live = new Live({ url: new URL("/api/live", location.href).href, token: () => token });

  const refresh = () => {
    if (document.hidden) return;
    models.refresh();
    if (live.up) feed.refresh().catch(ignore);
  };

  live.addEventListener("snapshot", ({ detail }) => { if (detail.topic === live.topic) feed.begin(detail.snapshot.items).catch(ignore); });
  live.addEventListener("event", ({ detail }) => { if (detail.topic === live.topic) tasks.apply(detail); });
  // Whether the token is to blame, the API knows: its 401 ends the session; a token that still counts is shown again.
  live.addEventListener("ended", async ({ detail }) => {
    if (detail.code !== 4401) return;
    await recognise();
    setTimeout(() => { if (!signal.aborted) live.start(); }, COME_BACK_MS);
  });
  live.addEventListener("state", () => {
    if (!live.up) return;
    models.refresh();
    for (const list of Object.values(library)) if (!list.known) list.refresh();
  });
  // Hints, not truths: a hub on this machine is there without any network.
  for (const hint of ["online", "offline", "pageshow"]) globalThis.addEventListener(hint, () => live.hurry(), { signal });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    live.hurry();
    refresh();
    for (const list of Object.values(library)) list.refresh();
  }, { signal });
  const timer = setInterval(refresh, REFRESH_MS);
  signal.addEventListener("abort", () => {
    clearInterval(timer);
    live.stop();
  });

  const view = new Workspace({ language, session, api, tasks, feed, models, library, limits, live, frame, signal });
  models.refresh();
  library.videos.refresh();
  library.backgrounds.refresh();
  recognise();
  live.start();
  return { view, live, close: () => closing.abort() };
}

/** Ask who is signed in: the role may be another by now, and a token that is not known any more ends the session here. */
async function recognise() {
  const { token } = session;
  await api.me().then(({ user }) => session.know(user, token), ignore);
}

function ignore() {
  // A refused background refresh is tried again by the next one, and a 401 has ended the session already.
}

let desk = null;
let admin = null;

function show() {
  desk?.close();
  desk = session.token ? open() : null;
  turn();
}

/** Put the page in the middle that the address names, unless it is there already. */
function turn() {
  const wanted = Boolean(desk) && session.user?.role === "admin" && location.hash === "#admin";
  if (frame.view && frame.desk === desk && wanted === Boolean(admin)) return;
  admin?.close();
  admin = wanted ? new AdminPage({ language, api, refused: recognise }) : null;
  frame.show(admin ?? desk?.view ?? new SignIn({ language, session, api }), desk);
}

globalThis.addEventListener("hashchange", turn);
session.addEventListener("changed", show);
session.addEventListener("user", () => {
  frame.update();
  turn();
});
globalThis.addEventListener("storage", ({ storageArea }) => { if (storageArea === localStorage) session.reread(); });
show();
