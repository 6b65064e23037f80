// A worker. It creates its group, with a policy, if there is none:
//     node worker.mjs http://127.0.0.1:8080/v1/streams/jobs/groups/mailers w1
//     curl http://127.0.0.1:8080/v1/streams/jobs/entries -d to=alice
const [group, consumer] = process.argv.slice(2);

async function call(verb, body) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`${group}/${verb}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

async function work(fields) {
  if (!fields.to) throw new Error("nobody to mail to");
  console.log("mail to", fields.to);
}

// Mails to one address keep their order. A `lease` is refused for a group without a policy.
const policy = { max_deliveries: 5, order_by: "to", on_failure: "skip" };
const read = { consumer, count: 10, wait: "20s", lease: "30s", create: true, policy };
for (;;) {
  try {
    const { entries } = await call("read", read);
    for (const { fields, receipt } of entries) {
      try {
        await work(fields);
      } catch (error) { // the entry is delivered again, according to the policy of the group
        await call("nack", { receipts: [receipt], reason: String(error) });
        continue;
      }
      await call("ack", { receipts: [receipt] });
    }
  } catch (error) { // unacknowledged entries are delivered again when their leases end
    console.error(error.message);
    if (error.message.includes('"retryable":false')) process.exit(1);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
