// One group: its numbers, its policy, its consumers, and what is pending or dead.

import { action } from "./action.js";
import { groupRoute, ofStream } from "./api.js";
import { ask } from "./dialog.js";
import { code, facts, field, h, select, table } from "./dom.js";
import { deadLettersView } from "./dead_letters.js";
import { age, counted, duration, nameOf, number } from "./format.js";
import { furtherNumbers } from "./groups.js";
import { load, notice } from "./notices.js";
import { pendingView } from "./pending.js";
import { go, link } from "./route.js";
import { changePolicy, deleteGroup } from "./stream_forms.js";
import { tabs } from "./tabs.js";

const policyText = (policy) => (policy
  ? [`lease ${policy.lease}`, policy.max_deliveries ? `${counted(policy.max_deliveries, "delivery", "deliveries")} at most` : "no limit of deliveries",
    policy.paused ? "paused" : null, policy.order_by ? `in order by ${policy.order_by}` : null,
    policy.max_in_flight ? `${number(policy.max_in_flight)} in flight at most` : null, policy.rate ? `${policy.rate} at most` : null,
    policy.backoff?.length ? `backoff ${policy.backoff.join(", ")}` : null, `dead letters in ${policy.dead_letter}`].filter(Boolean).join(" · ")
  : "none: a plain Redis group");

export function groupView(stream, group, tab) {
  const top = h("div");
  const content = h("div");
  let state = null;
  const show = () => {
    const shown = { consumers: () => consumersView(stream, group, state, refresh), "dead-letters": () => deadLettersView(stream, group, refresh) }[tab];
    content.replaceChildren(shown ? shown() : pendingView(stream, group, state, refresh));
  };
  const refresh = () => load(top, async () => {
    const [detail, pending] = await Promise.all([
      ofStream("GET", stream, groupRoute(group)),
      ofStream("GET", stream, groupRoute(group, "/pending"), { query: { limit: 1 } })]);
    const isFirst = state === null;
    state = detail;
    if (isFirst || tab === "consumers") show();
    return { detail, oldest: pending.summary.min_id };
  }, ({ detail, oldest }) => [
    facts(["Lag", number(detail.lag)], ["Pending", number(detail.pending)], ["Oldest pending", oldest && h("span", { title: oldest }, age(oldest) ?? oldest)],
      ["Consumers", number(detail.consumer_count)], ["Last delivered", code(detail.last_delivered_id)], ...keyFacts(detail.keys), ...furtherNumbers(detail)),
    h("p", { class: "faint" }, "Policy: ", policyText(detail.policy)),
    h("div", { class: "tools" },
      action(detail.policy ? "Change policy" : "Add policy", { right: "manage", stream }, async () => { if (await changePolicy(stream, group, detail.policy)) refresh(); }),
      h("button", { type: "button", onclick: () => { refresh(); show(); } }, "Refresh"),
      action("Delete group…", { right: "manage", stream, kind: "danger" }, async () => {
        if (!(await deleteGroup(stream, group, number(detail.pending)))) return;
        notice(`The group ${group} is deleted.`);
        go(["streams", stream, "groups"]);
      })),
  ]);
  refresh();
  const at = (name) => link(["streams", stream, "groups", group, name]);
  return h("section", { class: "group", "aria-label": `Group ${group}` },
    h("h2", null, h("a", { href: link(["streams", stream, "groups"]) }, "Groups"), " / ", h("span", { class: "mono name" }, group)), top,
    tabs(`Group ${group}`, [["pending", "Pending", at("pending")], ["consumers", "Consumers", at("consumers")], ["dead-letters", "Dead letters", at("dead-letters")]], tab), content);
}

function consumersView(stream, group, state, refresh) {
  if (state.consumers.length === 0) return h("p", { class: "faint" }, "No consumers yet. A consumer is created when it first reads.");
  const rows = state.consumers.map((consumer) => [
    h("span", { class: "mono" }, nameOf(consumer.consumer)), number(consumer.pending), duration(consumer.idle_ms), consumer.inactive_ms === null ? "–" : duration(consumer.inactive_ms),
    typeof consumer.consumer === "string" && action("Delete…", { right: "manage", stream, kind: "quiet" }, () => removeConsumer(stream, group, state, consumer, refresh))]);
  return table("Consumers", ["Consumer", "Pending", "Idle", "Inactive", ""], rows);
}

async function removeConsumer(stream, group, state, consumer, refresh) {
  const others = state.consumers.filter((other) => other !== consumer && typeof other.consumer === "string");
  const choices = [["drop", "forget them: nobody gets them again"], ...others.map(({ consumer: name }) => [`transfer:${name}`, `give them to ${name}`])];
  const pending = select(choices, choices.at(-1)[0]);
  const content = [h("p", null, h("strong", { class: "mono name" }, `${consumer.consumer} of ${group}`)),
    consumer.pending > 0 ? field(`Its ${number(consumer.pending)} pending entries`, pending) : h("p", null, "The consumer has nothing pending.")];
  const query = consumer.pending > 0 ? () => ({ pending: pending.value }) : () => ({});
  const done = await ask("Delete this consumer?", content, { submit: "Delete consumer", danger: true,
    work: async () => (await ofStream("DELETE", stream, groupRoute(group, `/consumers/${encodeURIComponent(consumer.consumer)}`), { query: query() }), true) });
  if (!done) return;
  notice(`The consumer ${consumer.consumer} is deleted.`);
  refresh();
}

// The keys of a group with an order by key.
function keyFacts(keys) {
  if (!keys) return [];
  const oldest = keys.oldest_blocked;
  return [["Keys in flight", number(keys.in_flight)],
    ["Keys blocked", h("span", { title: oldest ?? "" }, oldest ? `${number(keys.blocked)}, oldest ${age(oldest) ?? oldest}` : number(keys.blocked))],
    ["Waiting for a key", `${number(keys.waiting)}${keys.read_ahead_full ? ", nothing new is read" : ""}`]];
}
