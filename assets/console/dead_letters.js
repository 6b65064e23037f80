// The dead letters of a group: view, redrive and delete.

import { action } from "./action.js";
import { groupRoute, ofStream } from "./api.js";
import { confirmed } from "./dialog.js";
import { fill, h } from "./dom.js";
import { age, counted, number } from "./format.js";
import { notice } from "./notices.js";
import { paged } from "./paging.js";
import { outcomes } from "./pending.js";
import { link } from "./route.js";
import { SelectableTable } from "./selection.js";

// Calls of one redrive or purge; each handles up to 1000 dead letters.
const MOST_CALLS = 100;

export function deadLettersView(stream, group, refresh) {
  const route = (rest = "") => groupRoute(group, `/dead-letters${rest}`);
  const rows = new SelectableTable("Dead letters", ["Reason", "Entry", "Consumer", "Deliveries", "Time"], {
    cells: (letter) => [letter.reason ?? "–", letter.entry ? h("a", { class: "mono", href: link(["streams", stream, "entries", letter.entry]) }, letter.entry) : "–", h("span", { class: "mono" }, letter.consumer ?? "–"), number(letter.deliveries),
      h("span", { title: letter.time ?? "" }, age(letter.id) ?? letter.time ?? "–")],
    open: (letter) => letter,
    onSelect: () => showActions(),
  });
  let shown = 0;
  const table = paged(rows, "dead-status", {
    read: (query) => ofStream("GET", stream, route(), { query }),
    items: (page) => page.dead_letters,
    text: (page, count) => count ? `${counted(count, "dead letter")} shown${page.next ? ", there are more" : ""}` : "No dead letters.",
    loaded: (count) => { shown = count; showActions(); },
  });

  const reload = async () => {
    await table.reload();
    refresh();
  };
  const redrive = async (json) => {
    const results = [];
    let start = null;
    let calls = 0;
    do {
      const answer = await ofStream("POST", stream, route("/redrive"), { json: { ...json, ...(start ? { start } : {}) } });
      results.push(...answer.results);
      start = answer.next;
      calls += 1;
    } while (json.all && start && calls < MOST_CALLS);
    notice(results.length ? outcomes(results) : "Nothing to redrive.");
    await reload();
  };
  const remove = async () => {
    const ids = rows.ids();
    const done = await confirmed(`Delete ${counted(ids.length, "dead letter")}?`, `${group} of ${stream}`, "The entries are not processed again.", "Delete",
      async () => { for (const id of ids) await ofStream("DELETE", stream, route(`/${id}`)); });
    if (done) await reload();
  };
  const purge = async () => {
    let deleted = 0;
    const done = await confirmed("Delete all dead letters?", `${group} of ${stream}`, "The entries are not processed again. This cannot be undone.", "Delete all", async () => {
      for (let calls = 0; calls < MOST_CALLS; calls += 1) {
        const answer = await ofStream("DELETE", stream, route());
        deleted += answer.deleted;
        if (answer.deleted === 0 || answer.remaining === 0) break;
      }
    });
    if (!done) return;
    notice(`${counted(deleted, "dead letter is", "dead letters are")} deleted.`);
    await reload();
  };
  const actions = h("div", { class: "tools", id: "dead-actions" });
  const showActions = () => {
    const count = rows.selected.size;
    fill(actions, count > 0
      ? [h("span", null, `${number(count)} selected`), action("Redrive", { right: "manage", stream, kind: "primary" }, () => redrive({ ids: rows.ids() })),
        action("Delete…", { right: "manage", stream, kind: "danger" }, remove)]
      : [action("Redrive all", { right: "manage", stream, title: "Give the entries back to the group, as if never delivered" }, () => redrive({ all: true })),
        action("Delete all…", { right: "manage", stream, kind: "danger" }, purge)]);
    actions.hidden = shown === 0;
  };
  showActions();
  table.load();
  return h("div", null, actions, table.nodes);
}
