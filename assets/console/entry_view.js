// One entry, at an address of its own.

import { action } from "./action.js";
import { ofStream } from "./api.js";
import { confirmed } from "./dialog.js";
import { code, h } from "./dom.js";
import { copyButton, fieldsOf } from "./entry.js";
import { age, bytes, clock } from "./format.js";
import { load, notice } from "./notices.js";
import { go, link } from "./route.js";

const around = (stream, id, query) => ofStream("GET", stream, "/entries", { query: { ...query, limit: 1 } })
  .then((page) => page.entries[0]?.id, () => undefined);

export function entryView(stream, id) {
  const node = h("article", { class: "card", "aria-labelledby": "entry-id" });
  const route = `/entries/${encodeURIComponent(id)}`;
  load(node, () => Promise.all([
    ofStream("GET", stream, route),
    around(stream, id, { before: id, order: "desc" }),
    around(stream, id, { after: id }),
  ]), ([entry, before, after]) => {
    const size = new TextEncoder().encode(JSON.stringify(entry)).length;
    const neighbour = (of, text) => of && h("a", { class: "button", href: link(["streams", stream, "entries", of]) }, text);
    return [
      h("h2", { id: "entry-id" }, code(entry.id)),
      h("p", { class: "faint" }, [clock(entry.id), age(entry.id), `${bytes(size)} as JSON`].filter(Boolean).join(" · ")),
      fieldsOf(entry),
      h("div", { class: "buttons" }, neighbour(before, "← Older"), neighbour(after, "Newer →"), copyButton(stream, entry.id),
        action("Delete entry…", { right: "manage", stream, kind: "danger" }, () => remove(stream, entry.id, route))),
    ];
  });
  return node;
}

async function remove(stream, id, route) {
  const done = await confirmed("Delete this entry?", `${id} of ${stream}`, "Readers that have not read the entry yet will not get it.", "Delete entry",
    () => ofStream("DELETE", stream, route));
  if (!done) return;
  notice(`Entry ${id} is deleted.`);
  go(["streams", stream, "history"]);
}
