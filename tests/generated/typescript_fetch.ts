// A client by openapi-generator, `typescript-fetch`.
import assert from "node:assert/strict";
import { Configuration, EntriesApi, EventsApi, GroupsApi, WorkApi } from "./out/typescript-fetch/index.ts";

const configuration = new Configuration({ basePath: process.env.GATEWAY! });
const [entries, work] = [new EntriesApi(configuration), new WorkApi(configuration)];
const stream = "typescript-fetch";

const appended = await entries.appendEntries({ stream, entriesInput: { fields: { user: "alice", total: 9.5 } } });
assert("id" in appended);
const page = await entries.readEntries({ stream, after: "0" });
assert.equal(page.entries[0].fields?.user, "alice");

await new GroupsApi(configuration).createGroup({ stream, group: "workers" });
const delivered = await work.readAsConsumer({ stream, group: "workers", readCall: { consumer: "w1" } });
const ids = delivered.entries.map((entry) => entry.id);
const settled = await work.ackEntries({ stream, group: "workers", ackCall: { ids } });
assert.equal(settled.acknowledged, 1);

const events = await new EventsApi(configuration).followEventsRaw({ stream, after: "0" });
const reader = events.raw.body!.pipeThrough(new TextDecoderStream()).getReader();
let text = "";
while (!text.includes("alice")) text += (await reader.read()).value ?? assert.fail(text);
process.exit(0);
