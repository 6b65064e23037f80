// The list of streams on the left: filter, pages, and the numbers of each stream.

import { action } from "./action.js";
import { call } from "./api.js";
import { append, fill, h } from "./dom.js";
import { age, counted, number, rate, retention } from "./format.js";
import { createStream } from "./stream_forms.js";
import { problemBox } from "./notices.js";
import { link } from "./route.js";
import { StreamStats } from "./stream_stats.js";
import { VirtualList } from "./virtual_list.js";

// The ages of the first and the last entry: "7 d – 3 s ago".
function spanOf({ length, oldest_id: first, last_id: last }) {
  if (length === 0) return "empty";
  const [from, to] = [age(first), age(last)];
  return from === to || from === null ? to : `${from.replace(" ago", "")} – ${to}`;
}

const PAGE = 1000;
const ROW_HEIGHT = 48;

export class StreamList {
  constructor(node) {
    this.names = new Set();
    this.cursor = null;
    this.chosen = null;
    this.stats = new StreamStats((name) => this.list.refresh(name));
    this.list = new VirtualList("Streams", ROW_HEIGHT, (name) => this.row(name), (names) => this.stats.watch(names));
    this.filter = h("input", { type: "search", id: "filter", placeholder: "Filter streams", autocomplete: "off", spellcheck: "false",
      "aria-label": "Filter streams by name", oninput: () => this.onFilter(), onkeydown: (event) => this.onKey(event) });
    this.status = h("p", { class: "faint", id: "stream-count", role: "status" });
    this.more = h("button", { type: "button", id: "more", hidden: true, onclick: () => this.load() }, "Load more");
    this.trouble = h("div");
    const reload = h("button", { type: "button", class: "quiet", onclick: () => this.reload(), "aria-label": "Reload the list", title: "Reload the list" }, "⟳");
    this.create = h("span");
    append(node, h("div", { class: "list-head" }, this.filter, reload, this.create), this.trouble, this.list.node,
      h("div", { class: "list-foot" }, this.status, this.more));
  }

  row(name) {
    const stats = this.stats.get(name);
    const detail = stats?.detail;
    const notes = detail && [rate(stats.rate), spanOf(detail), retention(detail.retention)];
    const ids = detail && `first ${detail.oldest_id ?? "–"}, last ${detail.last_id}`;
    const isCurrent = name === this.chosen;
    return h("li", null, h("a", { href: link(["streams", name]), "aria-current": isCurrent ? "page" : null, title: ids ? `${name}\n${ids}` : name },
      h("span", { class: "name mono" }, name),
      h("span", { class: "length" }, detail ? number(detail.length) : stats?.isGone ? "gone" : ""),
      h("span", { class: "notes" }, notes ? notes.filter(Boolean).join(" · ") : " ")));
  }

  // Begins the list anew.
  async reload() {
    fill(this.create, action("New stream", { right: "manage" }, () => createStream((name) => this.add(name))));
    this.names.clear();
    this.stats.forget();
    this.cursor = null;
    await this.load();
    this.list.refresh();
  }

  async page(query) {
    const page = await call("GET", "v1/streams", { query });
    // A stream whose name is not UTF-8 can only be listed: there is nothing to show of it.
    for (const { stream } of page.streams) if (typeof stream === "string") this.names.add(stream);
    return page.next;
  }

  // Loads the next page. A page can be short: continues until it brought something.
  async load() {
    this.more.disabled = true;
    try {
      const before = this.names.size;
      do this.cursor = await this.page({ limit: PAGE, cursor: this.cursor });
      while (this.cursor && this.names.size < before + PAGE / 2);
      fill(this.trouble);
    } catch (error) {
      fill(this.trouble, problemBox(error));
    }
    this.more.disabled = false;
    this.show();
  }

  show() {
    const text = this.filter.value.trim().toLowerCase();
    const all = [...this.names].filter((name) => !text || name.toLowerCase().includes(text));
    this.list.set(all.sort((a, b) => (a < b ? -1 : 1)));
    this.more.hidden = !this.cursor;
    const loaded = `${counted(all.length, "stream")}${text ? ` of ${number(this.names.size)}` : ""}`;
    this.status.textContent = this.cursor ? `${loaded} loaded, there are more` : loaded;
    this.choose(this.chosen, false);
  }

  // Filters what is loaded, and asks the gateway for names that begin with the text.
  onFilter() {
    this.show();
    clearTimeout(this.asking);
    const prefix = this.filter.value.trim();
    if (!prefix || !this.cursor) return;
    this.asking = setTimeout(async () => {
      try {
        let cursor = null;
        for (let pages = 0; pages < 20 && (pages === 0 || cursor); pages += 1) {
          cursor = await this.page({ limit: PAGE, cursor, match: `${prefix}*` });
          if (this.filter.value.trim() !== prefix) return;
        }
        this.show();
      } catch (error) {
        fill(this.trouble, problemBox(error));
      }
    }, 300);
  }

  // Enter opens the first stream; the arrow key goes into the list.
  onKey(event) {
    if (event.key === "ArrowDown") this.list.reveal(0, true);
    else if (event.key === "Enter" && this.list.items.length) location.hash = link(["streams", this.list.items[0]]);
    else return;
    event.preventDefault();
  }

  add(name) {
    this.names.add(name);
    this.show();
  }

  remove(name) {
    this.names.delete(name);
    this.show();
  }

  // Marks the stream that is shown on the right.
  choose(name, reveal = true) {
    const before = this.chosen;
    this.chosen = name;
    if (name !== null && !this.names.has(name) && reveal) {
      this.names.add(name);
      this.show();
    }
    for (const of of [before, name]) if (of !== null) this.list.refresh(of);
    if (reveal && name !== null && !this.list.node.contains(document.activeElement)) this.list.reveal(this.list.items.indexOf(name));
  }
}
