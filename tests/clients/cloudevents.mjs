// Sends events of every data type in every mode with the official SDK, and reads each back in every
// form that a gateway returns. Must run in the directory of node_modules.
// Usage: node cloudevents.mjs http://HOST:PORT STREAM
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { CloudEvent, HTTP } = createRequire(process.cwd() + "/")("cloudevents");
const [base, prefix] = process.argv.slice(2);
const EVENT = "application/cloudevents+json";
const EVENTS = "application/cloudevents-batch+json";

const json = (data) => ({ data, datacontenttype: "application/json" });
const cases = {
  none: {},
  object: { data: { total: 9.5, lines: [null, { sku: "ä\u2028" }] } },
  array: json([1, "2", null]),
  null: json(null),
  number: json(-1.5),
  boolean: json(true),
  string: json("plain"),
  vendor: { data: { a: 1 }, datacontenttype: "application/vnd.example+json" },
  text: { data: 'é\r\n"x"', datacontenttype: "text/plain" },
  xml: { data: "<a/>", datacontenttype: "application/xml" },
  binary: { data: Uint8Array.from({ length: 256 }, (_, n) => n), datacontenttype: "application/octet-stream" },
  attributes: { data: {}, subject: "order/4711", dataschema: "http://schemas.example/o", zone: "eu", count: -5, urgent: true },
};
// Events that the SDK cannot send in binary mode: it rejects numbers and booleans, and it does not
// write strings as JSON.
const notBinary = ["number", "boolean", "string"];

const events = Object.entries(cases).map(
  ([id, more]) => new CloudEvent({ id, source: "/sdk/js", type: "com.example.round", ...more }),
);

// Headers and fields carry only text, and data without a type is JSON.
const plain = (event) => {
  const { data, datacontenttype, data_base64, ...rest } = event.toJSON();
  const bytes = ArrayBuffer.isView(event.data);
  const seen = { data: bytes ? Array.from(event.data) : (event.data ?? null) };
  if (event.data !== undefined && event.data !== null) {
    seen.type = (datacontenttype ?? "application/json").split(";")[0];
  }
  for (const [name, value] of Object.entries(rest)) seen[name] = String(value);
  return seen;
};

const call = async (path, options) => {
  const response = await fetch(base + path, options);
  const body = await response.text();
  assert.ok(response.ok, `${path}: ${response.status} ${body}`);
  return { headers: Object.fromEntries(response.headers), body, json: () => JSON.parse(body) };
};

const append = (stream, { headers, body }) => {
  headers = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
  return call(`/v1/streams/${stream}/entries`, { method: "POST", headers, body });
};

const followed = async (path, count) => {
  const abort = new AbortController();
  const response = await fetch(base + path, { signal: abort.signal, headers: { accept: "text/event-stream" } });
  const [events, decoder] = [[], new TextDecoder()];
  let text = "";
  for await (const part of response.body) {
    text += decoder.decode(part, { stream: true });
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const body = block.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
      if (body && !block.startsWith("event: $")) events.push(HTTP.toEvent({ headers: { "content-type": EVENT }, body }));
    }
    if (events.length >= count) break;
  }
  abort.abort();
  return events;
};

const modes = {
  binary: { of: events.filter(({ id }) => !notBinary.includes(id)), send: async (stream, events) => {
    for (const event of events) await append(stream, HTTP.binary(event));
  } },
  structured: { of: events, send: async (stream, events) => {
    for (const event of events) await append(stream, HTTP.structured(event));
  } },
  batched: { of: events, send: (stream, events) =>
    append(stream, { headers: { "content-type": EVENTS }, body: JSON.stringify(events) }) },
};

for (const [mode, { of, send }] of Object.entries(modes)) {
  const stream = `${prefix}-${mode}`;
  await send(stream, of);
  const expected = of.map(plain);
  const compare = (events, how) => assert.deepEqual(events.map(plain), expected, `${mode}, ${how}`);

  const entries = `/v1/streams/${stream}/entries`;
  compare(HTTP.toEvent(await call(`${entries}?after=0`, { headers: { accept: EVENTS } })), "a range");
  const ids = (await call(`${entries}?after=0`)).json().entries.map(({ id }) => id);
  const single = ids.map(async (id) => HTTP.toEvent(await call(`${entries}/${id}`, { headers: { accept: EVENT } })));
  compare(await Promise.all(single), "one by one");
  compare(await followed(`/v1/streams/${stream}/events?after=0&as=cloudevents`, of.length), "followed");

  const group = `/v1/streams/${stream}/groups/g`;
  const put = { method: "PUT", headers: { "content-type": "application/json" }, body: '{"policy":{"lease":"30s"}}' };
  await call(group, put);
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const read = { method: "POST", headers: { ...form, accept: EVENTS }, body: "consumer=w&count=100" };
  const delivered = HTTP.toEvent(await call(`${group}/read`, read));
  const settle = delivered.map((event) => ["receipts", event.streamgatereceipt]);
  const nack = { method: "POST", headers: form, body: new URLSearchParams(settle).toString() };
  const outcomes = (await call(`${group}/nack`, nack)).json().results.map(({ outcome }) => outcome);
  assert.deepEqual(outcomes, of.map(() => "released"));
  const pushed = await followed(`${group}/events?consumer=w&prefetch=100&as=cloudevents`, of.length);
  // Entries nacked in one request arrive in any order.
  pushed.sort((a, b) => ids.indexOf(a.streamgateentry) - ids.indexOf(b.streamgateentry));
  for (const [events, how] of [[delivered, "read in a group"], [pushed, "pushed"]]) {
    assert.deepEqual(events.map(({ streamgateentry }) => streamgateentry), ids);
    const own = ["streamgateentry", "streamgatedeliveries", "streamgateleaseuntil", "streamgatereceipt"];
    const without = (event) => Object.fromEntries(Object.entries(plain(event)).filter(([name]) => !own.includes(name)));
    assert.deepEqual(events.map(without), expected, `${mode}, ${how}`);
  }
}
