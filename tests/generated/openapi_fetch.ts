// Types by openapi-typescript, used with openapi-fetch.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./out/openapi-typescript.ts";

const api = createClient<paths>({ baseUrl: process.env.GATEWAY! });
const params = { path: { stream: "openapi-fetch" } };
const group = { path: { ...params.path, group: "workers" } };

const appended = await api.POST("/v1/streams/{stream}/entries", { params, body: { fields: { user: "alice", total: 9.5 } } });
assert(appended.data && "id" in appended.data, JSON.stringify(appended.error));
const page = await api.GET("/v1/streams/{stream}/entries", { params: { ...params, query: { after: "0" } } });
assert.equal(page.data?.entries[0].fields?.user, "alice");

await api.PUT("/v1/streams/{stream}/groups/{group}", { params: group });
const delivered = await api.POST("/v1/streams/{stream}/groups/{group}/read", { params: group, body: { consumer: "w1" } });
const ids = delivered.data!.entries.map((entry) => entry.id);
const settled = await api.POST("/v1/streams/{stream}/groups/{group}/ack", { params: group, body: { ids } });
assert.equal(settled.data?.acknowledged, 1);

const events = await api.GET("/v1/streams/{stream}/events", { params: { ...params, query: { after: "0" } }, parseAs: "stream" });
const reader = events.data!.pipeThrough(new TextDecoderStream()).getReader();
let text = "";
while (!text.includes("alice")) text += (await reader.read()).value ?? assert.fail(text);
process.exit(0);
