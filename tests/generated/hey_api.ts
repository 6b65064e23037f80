// A client by @hey-api/openapi-ts.
import assert from "node:assert/strict";
import { client } from "./out/hey-api/client.gen.ts";
import { ackEntries, appendEntries, createGroup, followEvents, readAsConsumer, readEntries } from "./out/hey-api/index.ts";

client.setConfig({ baseUrl: process.env.GATEWAY! });
const path = { stream: "hey-api" };
const group = { ...path, group: "workers" };

const appended = await appendEntries({ path, body: { fields: { user: "alice", total: 9.5 } } });
assert(appended.data && "id" in appended.data, JSON.stringify(appended.error));
const page = await readEntries({ path, query: { after: "0" } });
assert.equal(page.data?.entries[0].fields?.user, "alice");

await createGroup({ path: group });
const delivered = await readAsConsumer({ path: group, body: { consumer: "w1" } });
const ids = delivered.data!.entries.map((entry) => entry.id);
assert.equal((await ackEntries({ path: group, body: { ids } })).data?.acknowledged, 1);

const seen: unknown[] = [];
for await (const event of (await followEvents({ path, query: { after: "0" } })).stream) {
  if (!event) continue;
  if ("streams" in event) assert.deepEqual(event.streams, ["hey-api"]);
  if ("fields" in event) { seen.push(event.fields?.user); break; }
}
assert.deepEqual(seen, ["alice"]);
process.exit(0);
