// The pending entries of a group: acknowledge, claim, give back, or give up on them.

import { action } from "./action.js";
import { groupRoute, ofStream } from "./api.js";
import { ask } from "./dialog.js";
import { field, fill, h } from "./dom.js";
import { counted, duration, nameOf, number } from "./format.js";
import { notice } from "./notices.js";
import { paged } from "./paging.js";
import { SelectableTable } from "./selection.js";

// Counts results by outcome: "2 acknowledged, 1 not-pending".
export function outcomes(results) {
  const counts = new Map();
  for (const { outcome } of results) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  return [...counts].map(([outcome, count]) => `${count} ${outcome}`).join(", ");
}

export function pendingView(stream, group, state, refresh) {
  const consumer = h("input", { class: "mono", placeholder: "any", autocomplete: "off" });
  const idle = h("input", { class: "mono", placeholder: "0ms", autocomplete: "off" });
  const rows = new SelectableTable("Pending entries", ["Consumer", "Idle", "Deliveries"], {
    cells: (entry) => [h("span", { class: "mono" }, entry.consumer === null ? "nobody" : nameOf(entry.consumer)), duration(entry.idle_ms), number(entry.deliveries)],
    open: (entry) => ofStream("GET", stream, `/entries/${entry.id}`),
    onSelect: () => showActions(),
  });
  const table = paged(rows, "pending-status", {
    read: (query) => ofStream("GET", stream, groupRoute(group, "/pending"), { query: { consumer: consumer.value.trim(), min_idle: idle.value.trim(), ...query } }),
    items: (page) => page.entries,
    text: (page, count) => page.summary.count === 0 ? "Nothing is pending." : `${number(count)} of ${counted(page.summary.count, "pending entry", "pending entries")} shown`,
  });

  const settle = async (route, json) => {
    const answer = await ofStream("POST", stream, groupRoute(group, route), { json: { ids: rows.ids(), ...json } });
    notice(answer.results ? outcomes(answer.results) : `${counted(answer.entries.length, "entry is", "entries are")} claimed`);
    await table.reload();
    refresh();
  };
  const claim = async () => {
    const to = h("input", { class: "mono", autocomplete: "off", required: true });
    await ask(`Claim ${counted(rows.selected.size, "entry", "entries")}`, field("For consumer", to, "The consumer holds the entries from now on; it must read its history to get them."),
      { submit: "Claim", work: async () => (await settle("/claim", { consumer: to.value }), true) });
  };
  const reject = async () => {
    const reason = h("input", { autocomplete: "off" });
    await ask(`Reject ${counted(rows.selected.size, "entry", "entries")} of ${group}`, [h("p", null, "Rejected entries become dead letters."), field("Reason", reason)],
      { submit: "Reject", danger: true, work: async () => (await settle("/reject", reason.value ? { reason: reason.value } : {}), true) });
  };
  const actions = h("div", { class: "tools", id: "pending-actions" });
  const showActions = () => fill(actions, rows.selected.size === 0
    ? h("span", { class: "faint" }, "Select entries to acknowledge or claim them.")
    : [h("span", null, `${number(rows.selected.size)} selected`),
      action("Acknowledge", { right: "consume", stream, kind: "primary" }, () => settle("/ack")),
      action("Claim…", { right: "consume", stream }, claim),
      state.policy && action("Give back", { right: "consume", stream, title: "Another worker gets the entries (nack)" }, () => settle("/nack")),
      state.policy && action("Reject…", { right: "consume", stream, kind: "danger" }, reject)]);
  showActions();
  table.load();
  return h("div", null,
    h("form", { class: "inline", role: "search", onsubmit: (event) => { event.preventDefault(); table.reload(); } },
      field("Consumer", consumer), field("Idle for at least", idle), h("button", { type: "submit" }, "Filter")),
    actions, table.nodes);
}
