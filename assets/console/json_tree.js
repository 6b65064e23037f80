// A JSON value as a tree that opens level by level.

import { append, h } from "./dom.js";
import { shortened } from "./format.js";

const MOST_CHARACTERS = 4000;
const MOST_CHILDREN = 100;

// The JSON object or array in a text, or undefined. Other JSON is shown as the text it is.
export function structured(text) {
  if (!/^\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// Returns a text in full length; a long one after a click.
export function longText(text, kind = "text") {
  if (text.length <= MOST_CHARACTERS) return h("span", { class: kind }, text);
  const shown = h("span", { class: kind }, shortened(text, MOST_CHARACTERS));
  const more = h("button", { type: "button", class: "quiet", onclick: () => { shown.textContent = text; more.remove(); } },
    `Show all ${text.length.toLocaleString("en-US")} characters`);
  return h("span", null, shown, " ", more);
}

function leaf(value) {
  if (typeof value === "string") return longText(JSON.stringify(value), "json-string");
  return h("span", { class: value === null ? "json-null" : `json-${typeof value}` }, String(value));
}

function children(value) {
  const all = Array.isArray(value) ? value.map((item, at) => [at, item]) : Object.entries(value);
  const list = h("ul", { class: "tree" });
  let shown = 0;
  const more = h("button", { type: "button", class: "quiet", onclick: () => show() });
  const show = () => {
    more.remove();
    for (const [name, item] of all.slice(shown, shown + MOST_CHILDREN)) {
      append(list, h("li", null, h("span", { class: "json-name" }, name), ": ", jsonTree(item, false)));
    }
    shown = Math.min(all.length, shown + MOST_CHILDREN);
    if (shown < all.length) {
      more.textContent = `Show more (${all.length - shown})`;
      append(list, h("li", null, more));
    }
  };
  show();
  return list;
}

// Returns a value as a tree. Branches are created when they are opened.
export function jsonTree(value, isOpen = true) {
  if (value === null || typeof value !== "object") return leaf(value);
  const size = Object.keys(value).length;
  const text = Array.isArray(value) ? `[${size}]` : `{${size}}`;
  if (size === 0) return h("span", { class: "faint" }, Array.isArray(value) ? "[]" : "{}");
  const branch = h("details", { class: "branch", open: isOpen }, h("summary", null, text));
  const grow = () => { if (branch.open && branch.children.length === 1) append(branch, children(value)); };
  branch.addEventListener("toggle", grow);
  grow();
  return branch;
}
