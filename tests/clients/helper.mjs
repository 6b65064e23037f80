// Runs clients/streamgate.ts for tests/it/client_files.rs. Prints a line of JSON for each thing that happens.
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const [file, task, url, stream, text] = process.argv.slice(2);
const { Gateway, Problem, Reject, Retry, Worker } = await import(file);
const more = JSON.parse(text);
const gateway = new Gateway(url, { timeout: 5_000 });
const tell = (what) => console.log(JSON.stringify(what));

async function publish() {
  for (let n = 0; n < more.count; n += 1) {
    tell({ n, id: await gateway.publish(stream, { n: String(n) }, { patience: 90_000 }) });
    await sleep(more.pause * 1_000);
  }
}

async function follow() {
  const position = more.store && existsSync(more.store) ? readFileSync(more.store, "utf8") : undefined;
  const query = more.end ? { end: more.end } : {};
  for await (const event of gateway.follow([stream], { after: "0", position, query })) {
    tell(event);
    if (more.store) {
      writeFileSync(`${more.store}.new`, event.position);
      renameSync(`${more.store}.new`, more.store);
    }
  }
  tell({ kind: "complete" });
}

async function handle({ fields: { n }, deliveries }) {
  tell({ begins: n, deliveries });
  await sleep(more.seconds * 1_000);
  if (n === "reject") throw new Reject("nonsense");
  if (n === "retry" && deliveries === 1) throw new Retry("later", "100ms");
  if (n === "fail" && deliveries === 1) throw new Error("broken");
  tell({ ends: n });
}

async function work() {
  const { concurrency, policy } = more;
  const options = { concurrency, policy, lease: more.lease * 1_000, grace: (more.grace ?? 25) * 1_000 };
  const worker = new Worker(gateway, stream, "g", more.consumer, handle, options);
  process.on("SIGTERM", () => worker.stop());
  await worker.run();
  tell({ stopped: true });
  process.exit(0); // a handler that did not finish in time does not hold up the exit
}

try {
  await { publish, follow, work }[task]();
} catch (error) {
  console.error(error instanceof Problem ? error.message : error);
  process.exit(1);
}
