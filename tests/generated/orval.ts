// A client by orval.
import assert from "node:assert/strict";
import * as api from "./out/orval.ts";

const fetchAt = globalThis.fetch;
globalThis.fetch = (path, init) => fetchAt(new URL(path as string, process.env.GATEWAY), init);
const stream = "orval";

const appended = await api.appendEntries(stream, { fields: { user: "alice", total: 9.5 } });
assert.equal(appended.status, 201);
const page = await api.readEntries(stream, { after: "0" });
assert(page.status === 200);
assert.equal(page.data.entries[0].fields?.user, "alice");

await api.createGroup(stream, "workers", { start: "0" });
const delivered = await api.readAsConsumer(stream, "workers", { consumer: "w1" });
assert(delivered.status === 200);
const ids = delivered.data.entries.map((entry) => entry.id);
const settled = await api.ackEntries(stream, "workers", { ids });
assert(settled.status === 200);
assert.equal(settled.data.acknowledged, 1);
assert.equal(api.getFollowEventsUrl(stream, { after: "0" }), "/v1/streams/orval/events?after=0");
process.exit(0);
