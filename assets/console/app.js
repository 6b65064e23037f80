// The console: starts the session, and shows what the address names.

import { call } from "./api.js";
import { fill, h } from "./dom.js";
import { homeView } from "./home.js";
import { readAccess, signIn, signOut } from "./login.js";
import { fail } from "./notices.js";
import { current } from "./route.js";
import { access, takeTicket } from "./session.js";
import { StreamList } from "./stream_list.js";
import { StreamView } from "./stream_view.js";
import { systemView } from "./system_view.js";

const HEALTH_EVERY_MS = 10_000;

const main = document.getElementById("main");
const panes = document.getElementById("panes");
const sessionButton = document.getElementById("session");
const health = document.getElementById("health");

let list = null;
let view = null;

// Shows what the address names. On a phone that is either the list or the chosen thing.
function show() {
  view?.close?.();
  const { segments, params } = current();
  const [kind, name, ...rest] = segments;
  panes.dataset.shows = kind ? "main" : "list";
  view = null;
  if (kind === "streams" && name !== undefined) {
    view = new StreamView(name, rest, params, list);
    fill(main, h("a", { class: "back", href: "#/" }, "← Streams"), view.node);
    document.title = `${name} – streamgate`;
  } else {
    fill(main, kind && h("a", { class: "back", href: "#/" }, "← Streams"), kind === "system" ? systemView() : homeView());
    document.title = "streamgate console";
  }
  list.choose(kind === "streams" ? name : null);
  document.getElementById("to-system").toggleAttribute("aria-current", kind === "system");
}

// Moves the focus to the heading of a new page, unless the user is in the list or in the tabs.
function onAddress() {
  if (takeTicket()) {
    location.reload();
    return;
  }
  const tab = document.activeElement?.closest(".tabs") ? document.activeElement.textContent : null;
  show();
  if (tab) [...main.querySelectorAll(".tabs a")].find((link) => link.textContent === tab)?.focus();
  else if (!document.activeElement?.closest("#list") || panes.clientWidth < 720) main.querySelector("h1")?.focus();
}

function showSession() {
  const { authentication, name, credential } = access();
  sessionButton.hidden = !authentication;
  sessionButton.textContent = credential ? "Sign out" : "Sign in";
  sessionButton.title = credential ? `Signed in as ${name}` : "";
}

async function showHealth() {
  if (document.hidden) return;
  const [state, text] = await call("GET", "readyz").then(
    (ready) => (ready.redis === "up" ? ["up", "healthy"] : ["down", `Redis is ${ready.redis}`]),
    (error) => ["down", error.problem?.title ?? "unknown"]);
  health.dataset.state = state;
  health.textContent = text;
}

async function begin() {
  takeTicket();
  list = new StreamList(document.getElementById("list"));
  try {
    await readAccess();
  } catch (error) {
    if (error.problem?.status !== 401) fail(error);
    // Until the user signs in, by the dialog that the refusal opens, there is nothing to show.
    if (error.problem?.status === 401) return;
  }
  start();
}

function start() {
  showSession();
  show();
  list.reload();
}

document.addEventListener("credential-needed", async ({ detail }) => {
  if (await signIn(detail)) start();
  else if (!access().credential) {
    sessionButton.hidden = false;
    sessionButton.textContent = "Sign in";
  }
});
sessionButton.addEventListener("click", async () => {
  signOut();
  location.reload();
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener("keydown", (event) => {
  // "/" goes to the filter, as on other pages with a list.
  if (event.key !== "/" || event.target.closest("input, textarea, select, dialog")) return;
  event.preventDefault();
  document.getElementById("filter").focus();
});
window.addEventListener("hashchange", onAddress);
begin();
showHealth();
setInterval(showHealth, HEALTH_EVERY_MS);
