// One stream: its numbers, and the tabs.

import { action, missingRight } from "./action.js";
import { ofStream } from "./api.js";
import { code, facts, fill, h } from "./dom.js";
import { entryView } from "./entry_view.js";
import { age, number, retention } from "./format.js";
import { groupView } from "./group_view.js";
import { groupsView } from "./groups.js";
import { historyView } from "./history.js";
import { LiveTail } from "./live.js";
import { notice, problemBox } from "./notices.js";
import { publishView } from "./publish.js";
import { go, link } from "./route.js";
import { may, refusal } from "./session.js";
import { changeRetention, deleteStream } from "./stream_forms.js";
import { tabs } from "./tabs.js";

const EVERY_MS = 5000;
const TABS = [["live", "Live"], ["history", "History"], ["publish", "Publish"], ["groups", "Groups"]];
const NEEDS = { live: "subscribe", history: "subscribe", entries: "subscribe", publish: "publish", groups: "consume" };

export class StreamView {
  constructor(stream, [tab = "live", ...rest], params, list) {
    Object.assign(this, { stream, list, detail: null });
    this.head = h("div", { class: "numbers" });
    const shown = tab === "entries" ? "history" : tab;
    const items = TABS.map(([name, text]) => [name, text, link(["streams", stream, name])]);
    this.node = h("div", null, h("h1", { tabindex: -1, class: "mono name" }, stream), this.head, tabs(`Stream ${stream}`, items, shown), this.content(tab, rest, params));
    if (may("subscribe", stream)) this.refresh();
    this.timer = setInterval(() => this.isIdle() && this.refresh(), EVERY_MS);
  }

  // Numbers that the user selects or a button that has the focus must not be replaced.
  isIdle() {
    const isUsed = this.head.contains(document.activeElement) || this.head.contains(getSelection().anchorNode);
    return this.detail && !document.hidden && !isUsed;
  }

  close() {
    clearInterval(this.timer);
    this.tail?.close();
  }

  content(tab, rest, params) {
    const right = NEEDS[tab];
    if (right && refusal(right, this.stream)) return missingRight(right, this.stream);
    switch (tab) {
      case "live":
        this.tail = new LiveTail(this.stream, params);
        return this.tail.node;
      case "history": return historyView(this.stream, params);
      case "entries": return entryView(this.stream, rest[0] ?? "");
      case "publish": return publishView(this.stream);
      case "groups": return rest.length ? groupView(this.stream, rest[0], rest[1] ?? "pending") : groupsView(this.stream);
      default: return h("p", null, "There is no such page.");
    }
  }

  // Reads the numbers of the stream, and shows them.
  async refresh() {
    try {
      this.detail = await ofStream("GET", this.stream, "");
      fill(this.head, this.numbers(this.detail));
    } catch (error) {
      const isMissing = error.problem?.code === "stream-not-found";
      fill(this.head, isMissing ? h("p", { class: "faint" }, "The stream does not exist yet. Publishing an entry creates it.") : problemBox(error));
    }
  }

  numbers(detail) {
    const { stream } = this;
    const id = (of) => of && of !== "0-0" && h("span", null, code(of), h("span", { class: "faint" }, ` ${age(of) ?? ""}`));
    const blocked = detail.retention?.blocked_by;
    return [
      facts(["Length", number(detail.length)], ["Ever added", detail.entries_added !== null && number(detail.entries_added)], ["First", id(detail.oldest_id)], ["Last", id(detail.last_id)],
        ["Groups", number(detail.groups)], ["Retention", retention(detail.retention) ?? "keeps everything"], ["Retention waits for", blocked && `${blocked.group} (${blocked.id})`]),
      h("div", { class: "tools" },
        action("Retention…", { right: "manage", stream }, async () => { if (await changeRetention(stream, detail.retention)) this.refresh(); }),
        action("Delete stream…", { right: "manage", stream, kind: "danger" }, () => this.remove(detail))),
    ];
  }

  async remove(detail) {
    if (!(await deleteStream(this.stream, number(detail.length)))) return;
    this.list.remove(this.stream);
    notice(`The stream ${this.stream} is deleted.`);
    go([]);
  }
}
