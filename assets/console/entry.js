// One entry of a stream: as a row of a list, and in full.

import { append, code, h } from "./dom.js";
import { bytes, clock, nameOf, shortened } from "./format.js";
import { jsonTree, longText, structured } from "./json_tree.js";
import { notice } from "./notices.js";
import { link } from "./route.js";

// The fields of an entry as pairs, in stored order.
export const pairsOf = (entry) => entry.pairs ?? Object.entries(entry.fields ?? {});

const isBytes = (value) => value !== null && typeof value === "object" && typeof value.base64 === "string";

function valueNode(value) {
  if (isBytes(value)) {
    const size = Math.floor((value.base64.replace(/=+$/, "").length * 3) / 4);
    return h("span", null, h("span", { class: "faint" }, `${bytes(size)}, base64: `), longText(value.base64));
  }
  const json = structured(String(value));
  return json === undefined ? longText(String(value)) : jsonTree(json);
}

// All fields of an entry.
export function fieldsOf(entry) {
  const pairs = pairsOf(entry);
  if (pairs.length === 0) return h("p", { class: "faint" }, "The entry is gone: only its id is left.");
  return h("dl", { class: "fields" },
    pairs.map(([name, value]) => h("div", null, h("dt", null, nameOf(name)), h("dd", null, valueNode(value)))));
}

// The fields of an entry in one line.
export function preview(entry) {
  const line = h("span", { class: "preview" });
  for (const [name, value] of pairsOf(entry).slice(0, 12)) {
    const text = isBytes(value) ? `base64:${value.base64}` : String(value);
    append(line, h("span", { class: "key" }, shortened(nameOf(name), 60)), shortened(text, 200));
  }
  return line;
}

// Copies the address of an entry, so that it can be sent to a colleague.
async function copyLink(stream, id) {
  await navigator.clipboard.writeText(new URL(link(["streams", stream, "entries", id]), location.href).href);
  notice("The link is copied.");
}

// Returns a button that copies the link to an entry. Browsers allow this on https and loopback only.
export const copyButton = (stream, id) =>
  navigator.clipboard && h("button", { type: "button", onclick: () => copyLink(stream, id) }, "Copy link");

// Returns an entry as a list item: one line that opens to all fields. `onOpen` runs when it opens.
export function entryRow(stream, entry, onOpen) {
  const item = h("li", { class: "entry" });
  const open = () => {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) {
      item.lastChild.remove();
      return;
    }
    const at = link(["streams", stream, "entries", entry.id]);
    append(item, h("div", { class: "opened" }, fieldsOf(entry),
      h("div", { class: "buttons" }, h("a", { class: "button", href: at }, "Open entry"), copyButton(stream, entry.id))));
    onOpen?.();
  };
  const button = h("button", { type: "button", class: "line", "aria-expanded": "false", onclick: open },
    code(entry.id), h("time", null, clock(entry.id)), preview(entry));
  append(item, button);
  return item;
}
