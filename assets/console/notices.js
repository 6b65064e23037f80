// Problems and notices.

import { append, code, fill, h } from "./dom.js";

// Shows a problem of a call: its title, its detail with the remedy, its invalid parts, and the request
// id, which finds it in the log of the gateway.
export function problemBox(error) {
  const problem = error?.problem ?? { title: "The console failed", detail: String(error?.message ?? error) };
  const parts = (problem.errors ?? []).map((part) => h("li", null, code(part.pointer), " ", part.detail));
  const facts = [problem.status ? `${problem.status} ${problem.code ?? ""}`.trim() : null, problem.request_id && `request ${problem.request_id}`];
  return h("div", { class: "problem", role: "alert" },
    h("strong", null, problem.title ?? "Error"),
    problem.detail && h("p", null, problem.detail),
    parts.length > 0 && h("ul", null, parts),
    problem.side_effects === "unknown" && h("p", null, "The call may have taken effect: look before you repeat it."),
    h("p", { class: "mono faint" }, facts.filter(Boolean).join(" · ")));
}

const place = () => document.getElementById("notices");

// Shows a notice for some seconds. An error stays until it is closed.
export function notice(content, isError = false) {
  const close = h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => box.remove() }, "✕");
  const box = h("div", { class: isError ? "notice failed" : "notice" }, h("div", null, content), close);
  append(place(), box);
  if (place().children.length > 4) place().firstChild.remove();
  if (!isError) setTimeout(() => box.remove(), 6000);
}

export const fail = (error) => notice(problemBox(error), true);

// Runs a call of a button: disables the button meanwhile, and shows the problem if it fails.
export async function attempt(button, work) {
  button?.setAttribute("aria-busy", "true");
  if (button) button.disabled = true;
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
    return undefined;
  } finally {
    button?.removeAttribute("aria-busy");
    if (button) button.disabled = false;
  }
}

// Fills an element with what a call returns; meanwhile with "Loading…", or with its problem.
export async function load(node, work, show) {
  if (!node.hasChildNodes()) fill(node, h("p", { class: "faint" }, "Loading…"));
  try {
    const found = await work();
    fill(node, show(found));
  } catch (error) {
    if (error.name !== "AbortError") fill(node, problemBox(error));
  }
}
