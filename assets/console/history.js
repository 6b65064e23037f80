// The history of a stream by time.

import { ofStream } from "./api.js";
import { append, field, fill, h, select } from "./dom.js";
import { entryRow } from "./entry.js";
import { counted } from "./format.js";
import { problemBox } from "./notices.js";
import { go, note } from "./route.js";

const PAGE = 100;

// Returns the view of the history. The range is part of the address.
export function historyView(stream, params) {
  const since = h("input", { id: "since", value: params.since ?? "", placeholder: "1h", class: "mono", autocomplete: "off", list: "spans" });
  const until = h("input", { id: "until", value: params.until ?? "", placeholder: "now", class: "mono", autocomplete: "off", list: "spans" });
  const order = select([["desc", "newest first"], ["asc", "oldest first"]], params.order ?? "desc", { id: "order" });
  const spans = h("datalist", { id: "spans" }, ["5m", "1h", "24h", "7d"].map((span) => h("option", { value: span })));
  const id = h("input", { id: "go-id", class: "mono", placeholder: "1795232709004-0", autocomplete: "off", required: true });
  const rows = h("ol", { class: "entries", id: "history", "aria-label": `Entries of ${stream}` });
  const trouble = h("div");
  const status = h("p", { class: "faint", role: "status", id: "history-status" });
  const more = h("button", { type: "button", onclick: () => load() }, "Load more");
  let cursor = null;
  let shown = 0;

  async function load() {
    more.disabled = true;
    fill(trouble);
    try {
      const range = { since: since.value.trim(), until: until.value.trim() };
      const query = cursor ? { cursor, order: order.value, limit: PAGE } : { ...range, order: order.value, limit: PAGE };
      const page = await ofStream("GET", stream, "/entries", { query });
      append(rows, page.entries.map((entry) => entryRow(stream, entry)));
      shown += page.entries.length;
      // The end of a range that grows has a cursor, too; there is nothing behind it yet.
      cursor = page.entries.length > 0 && !(order.value === "asc" && page.at_tail) ? page.next : null;
      status.textContent = shown ? `${counted(shown, "entry", "entries")}${cursor ? ", there may be more" : ", that is all"}` : "No entries in this range.";
    } catch (error) {
      fill(trouble, problemBox(error));
    }
    more.hidden = !cursor;
    more.disabled = false;
  }

  const search = (event) => {
    event?.preventDefault();
    note(["streams", stream, "history"], { since: since.value.trim(), until: until.value.trim(), order: order.value === "desc" ? "" : order.value });
    fill(rows);
    cursor = null;
    shown = 0;
    load();
  };
  const open = (event) => {
    event.preventDefault();
    go(["streams", stream, "entries", id.value.trim()]);
  };
  order.addEventListener("change", () => search());
  search();
  return h("div", null,
    h("div", { class: "tools bottom" },
      h("form", { class: "inline", role: "search", onsubmit: search }, field("Since", since), field("Until", until), field("Order", order), h("button", { type: "submit" }, "Show")),
      h("form", { class: "inline", onsubmit: open }, field("Entry id", id), h("button", { type: "submit" }, "Open")), spans),
    h("p", { class: "faint" }, "A time is a duration ago (", h("code", null, "90s"), ", ", h("code", null, "2h"), ") or RFC 3339 (", h("code", null, "2026-09-20T08:30:00Z"), ")."),
    trouble, rows, h("div", { class: "foot" }, status, more));
}
