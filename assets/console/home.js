// The first page: what to do next.

import { h } from "./dom.js";
import { root } from "./api.js";
import { access } from "./session.js";

export function homeView() {
  const base = root.href.replace(/\/$/, "");
  const key = access().authentication ? ' -H "X-API-Key: $KEY"' : "";
  const commands = [
    ["Publish an entry", `curl${key} ${base}/v1/streams/orders/entries -d user=alice -d total=9.50`],
    ["Follow the stream", `curl${key} -N '${base}/v1/streams/orders/events?after=0'`],
    ["Create a group", `curl${key} -X PUT ${base}/v1/streams/orders/groups/billing`],
    ["Process entries in it", `curl${key} ${base}/v1/streams/orders/groups/billing/read -d consumer=w1 -d wait=20s`],
  ];
  return h("div", { class: "home" }, h("h1", { tabindex: -1 }, "Streams"),
    h("p", null, "Choose a stream, or create one. To try the gateway from a terminal:"),
    commands.map(([title, command]) => h("div", null, h("h2", null, title), h("pre", { tabindex: 0 }, command))));
}
