// The groups of a stream.

import { action } from "./action.js";
import { groupRoute, ofStream } from "./api.js";
import { h, table } from "./dom.js";
import { age, nameOf, number } from "./format.js";
import { load } from "./notices.js";
import { link } from "./route.js";
import { createGroup } from "./stream_forms.js";

// Details and pending summaries are asked for so many groups; beyond, a group has them on its page.
const MOST_DETAILS = 50;

const known = new Set(["stream", "group", "last_delivered_id", "entries_read", "lag", "pending", "consumer_count", "policy", "consumers", "keys"]);

// Numbers that this version of the console does not know: shown under the name they have in the API.
export const furtherNumbers = (group) => Object.entries(group)
  .filter(([name, value]) => !known.has(name) && typeof value === "number")
  .map(([name, value]) => [name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase()), number(value)]);

async function details(stream) {
  const { groups } = await ofStream("GET", stream, "/groups");
  return Promise.all(groups.map(async (group, at) => {
    if (typeof group.group !== "string" || at >= MOST_DETAILS) return { group };
    const [detail, pending] = await Promise.all([
      ofStream("GET", stream, groupRoute(group.group)),
      group.pending ? ofStream("GET", stream, groupRoute(group.group, "/pending"), { query: { limit: 1 } }) : null,
    ]).catch(() => [group, null]);
    return { group: detail, oldest: pending?.summary.min_id ?? null };
  }));
}

export function groupsView(stream) {
  const node = h("div");
  const refresh = () => load(node, () => details(stream), (groups) => (groups.length === 0
    ? h("p", { class: "faint" }, "The stream has no groups. A group lets several workers share the entries of a stream.")
    : table("Groups", ["Group", "Kind", "Lag", "Pending", "Oldest pending", "Consumers"], groups.map(({ group, oldest }) => [
      typeof group.group === "string" ? h("a", { class: "mono", href: link(["streams", stream, "groups", group.group]) }, group.group) : nameOf(group.group),
      [group.policy ? "work queue" : "plain", furtherNumbers(group).map(([name, value]) => h("span", { class: "faint" }, ` · ${name} ${value}`))],
      number(group.lag), number(group.pending),
      oldest ? h("span", { title: oldest }, age(oldest) ?? oldest) : "–", number(group.consumer_count)]))));
  refresh();
  return h("div", null, h("div", { class: "tools" },
    action("New group", { right: "manage", stream, id: "new-group" }, () => createGroup(stream)),
    h("button", { type: "button", onclick: refresh }, "Refresh")), node);
}
