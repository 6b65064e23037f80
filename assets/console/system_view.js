// The gateway: health, capabilities, and the rights of the caller.

import { call } from "./api.js";
import { code, facts, h, table } from "./dom.js";
import { load } from "./notices.js";
import { access } from "./session.js";

const kinds = { key: "the API key", token: "the token of", ticket: "a ticket" };

const grantRows = (grants) => grants.map((grant) => [code(grant.streams), grant.rights.join(", ")]);

function rightsOf(access) {
  if (!access.authentication) return h("p", null, "Authentication is off: every caller may do everything.");
  return [
    h("p", null, `Signed in by ${kinds[access.credential] ?? "a credential"} `, h("strong", { class: "mono" }, access.name)),
    table("Your grants", ["Streams", "Rights"], grantRows(access.grants)),
    access.ceiling && [h("p", null, "At most:"), table("The limit of your grants", ["Streams", "Rights"], grantRows(access.ceiling))],
  ];
}

export function systemView() {
  const health = h("div");
  const capabilities = h("div");
  load(health, () => call("GET", "readyz"), (ready) => facts(["Gateway", "ready"], ["Redis", ready.redis], ["Cause", ready.cause]));
  load(capabilities, () => call("GET", "v1/capabilities"), (found) => [
    facts(["Server", found.server.name ?? "unknown"], ["Version", found.server.version ?? "unknown"]),
    table("Capabilities", ["Capability", "Command", "Server has it", "Gateway uses"], found.capabilities.map((one) => [
      h("span", { title: one.name }, one.what), code(one.command), one.native === null ? "unknown" : one.native ? "yes" : "no", one.used])),
  ]);
  return h("div", { class: "system" }, h("h1", { tabindex: -1 }, "System"), h("h2", null, "Health"), health, h("h2", null, "Your rights"), h("div", null, rightsOf(access())),
    h("h2", null, "Capabilities"), h("p", { class: "faint" }, "Routes behave the same on every server. Where a server lacks a command, the gateway does its work by a script."), capabilities,
    h("p", null, h("a", { href: "../metrics" }, "Metrics"), " · ", h("a", { href: "../docs/" }, "All calls"), " · ", h("a", { href: "../openapi.json" }, "OpenAPI document")));
}
