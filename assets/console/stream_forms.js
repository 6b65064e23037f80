// Forms to create a stream or a group, and to change retention and policy.

import { groupRoute, ofStream } from "./api.js";
import { ask, confirmed } from "./dialog.js";
import { field, h, select } from "./dom.js";
import { notice } from "./notices.js";
import { go } from "./route.js";

const input = (value, props) => h("input", { class: "mono", autocomplete: "off", spellcheck: "false", value: value ?? "", ...props });
// A number as JSON has it; other text goes to the gateway as it is, which says what is wrong with it.
const numeric = (text) => (/^\d+$/.test(text) ? Number(text) : text);

function retentionFields(rule) {
  const maxlen = input(rule?.maxlen, { inputmode: "numeric", placeholder: "no limit" });
  const age = input(rule?.max_age, { placeholder: "no limit" });
  const mode = select([["approximate", "approximate: whole nodes, cheapest"], ["exact", "exact"], ["acked", "acked: only what every group has acknowledged"]], rule?.mode ?? "approximate");
  const node = h("fieldset", null, h("legend", null, "Retention"), field("Keep at most", maxlen, "Number of entries."), field("Keep for", age, "A duration, such as 7d."), field("Mode", mode));
  const value = () => {
    const [most, oldest] = [maxlen.value.trim(), age.value.trim()];
    if (!most && !oldest) return null;
    return { maxlen: most ? numeric(most) : null, max_age: oldest || null, mode: mode.value };
  };
  return { node, value };
}

export async function createStream(onCreated) {
  const name = input("", { required: true });
  const retention = retentionFields(null);
  const stream = await ask("New stream", [field("Name", name), retention.node], {
    submit: "Create stream",
    work: async () => {
      const rule = retention.value();
      await ofStream("PUT", name.value, "", rule ? { json: { retention: rule } } : {});
      return name.value;
    },
  });
  if (stream === undefined) return;
  onCreated(stream);
  notice(`The stream ${stream} exists.`);
  go(["streams", stream]);
}

export async function changeRetention(stream, rule) {
  const retention = retentionFields(rule);
  const done = await ask(`Retention of ${stream}`, retention.node, {
    submit: "Save",
    work: async () => (await ofStream("PATCH", stream, "", { json: { retention: retention.value() } }), true),
  });
  if (done) notice("The retention is saved. It applies within seconds.");
  return done;
}

export const deleteStream = (stream, length) => confirmed("Delete this stream?", stream,
  `All ${length} entries, its groups and its settings are deleted. This cannot be undone.`, "Delete stream", () => ofStream("DELETE", stream, ""));

function policyFields(policy) {
  const lease = input(policy?.lease ?? "30s", { required: true });
  const most = input(policy?.max_deliveries ?? 5, { inputmode: "numeric", required: true });
  const backoff = input((policy?.backoff ?? []).join(", "), { placeholder: "1s, 10s, 1m" });
  const dead = input(policy?.dead_letter, { placeholder: "beside the stream" });
  const node = h("fieldset", null, h("legend", null, "Policy"), field("Lease", lease, "How long a worker has for an entry."),
    field("Deliveries at most", most, "Then the entry is a dead letter; 0 is no limit."), field("Backoff", backoff, "Delays after nack, separated by commas."), field("Dead letter stream", dead));
  const value = () => ({
    lease: lease.value.trim(),
    max_deliveries: numeric(most.value.trim()),
    backoff: backoff.value.split(",").map((step) => step.trim()).filter(Boolean),
    ...(dead.value.trim() ? { dead_letter: dead.value.trim() } : {}),
  });
  return { node, value };
}

export async function createGroup(stream) {
  const name = input("", { required: true });
  const start = select([["0", "oldest entry"], ["$", "new entries only"]], "0");
  const kind = select([["plain", "plain: exactly a Redis group"], ["policy", "work queue: leases, retries, dead letters"]], "plain");
  const policy = policyFields(null);
  policy.node.hidden = true;
  policy.node.disabled = true;
  kind.addEventListener("change", () => { policy.node.hidden = policy.node.disabled = kind.value === "plain"; });
  const group = await ask(`New group of ${stream}`, [field("Name", name), field("Start at", start), field("Kind", kind), policy.node], {
    submit: "Create group",
    work: async () => {
      const json = { start: start.value, ...(kind.value === "policy" ? { policy: policy.value() } : {}) };
      await ofStream("PUT", stream, groupRoute(name.value), { json });
      return name.value;
    },
  });
  if (group === undefined) return;
  notice(`The group ${group} exists.`);
  go(["streams", stream, "groups", group]);
}

export async function changePolicy(stream, group, old) {
  const policy = policyFields(old);
  const done = await ask(`Policy of ${group}`, policy.node, {
    submit: "Save",
    work: async () => (await ofStream("PATCH", stream, groupRoute(group), { json: { policy: policy.value() } }), true),
  });
  if (done) notice("The policy is saved. It applies at once.");
  return done;
}

export const deleteGroup = (stream, group, pending) => confirmed("Delete this group?", `${group} of ${stream}`,
  `Its position and its ${pending} pending records are deleted. The entries of the stream stay.`, "Delete group", () => ofStream("DELETE", stream, groupRoute(group)));
