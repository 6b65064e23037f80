// The form that publishes an entry: as fields, as JSON, or as a raw body.

import { action, missingRight } from "./action.js";
import { ofStream } from "./api.js";
import { append, code, field, fill, h, select } from "./dom.js";
import { counted } from "./format.js";
import { notice, problemBox } from "./notices.js";
import { link } from "./route.js";
import { refusal } from "./session.js";

const MODES = { fields: fieldsForm, json: jsonForm, raw: rawForm };

// A row for each field of the entry.
function fieldsForm() {
  const rows = h("div", { class: "pairs" });
  const add = (focus) => {
    const name = h("input", { class: "mono", "aria-label": "Field name", placeholder: "name", autocomplete: "off" });
    const value = h("textarea", { class: "mono", rows: 1, "aria-label": "Field value", placeholder: "value" });
    const remove = h("button", { type: "button", class: "quiet", "aria-label": "Remove this field", onclick: () => row.remove() }, "✕");
    const row = h("div", { class: "pair" }, name, value, remove);
    append(rows, row);
    if (focus) name.focus();
  };
  add();
  const more = h("button", { type: "button", onclick: () => add(true) }, "Add field");
  const request = () => {
    const pairs = [...rows.children].map((row) => [row.children[0].value, row.children[1].value]);
    return { json: { pairs: pairs.filter(([name, value]) => name !== "" || value !== "") } };
  };
  return { node: h("div", null, rows, more), request };
}

function jsonForm() {
  const text = h("textarea", { id: "publish-json", class: "mono", rows: 8, spellcheck: "false", value: '{"fields": {"user": "alice", "total": 9.50}}' });
  const how = select([["", "An entry {\"fields\": …}, or a list of entries"], ["fields", "An object whose members are the fields"], ["payload", "Any JSON, stored in one field"]], "", { id: "publish-as" });
  const examples = { "": '{"fields": {"user": "alice", "total": 9.50}}', fields: '{"user": "alice", "total": 9.50}', payload: '{"nested": {"as": ["you", "like"]}}' };
  how.addEventListener("change", () => { if (Object.values(examples).includes(text.value)) text.value = examples[how.value]; });
  const query = () => ({ as: how.value === "fields" ? "fields" : "", payload: how.value === "payload" ? "data" : "" });
  return {
    node: h("div", null, field("JSON is", how), field("JSON", text)),
    // Sent as it was typed, so that numbers keep their text.
    request: () => ({ body: text.value, query: query(), headers: { "content-type": "application/json" } }),
  };
}

function rawForm() {
  const text = h("textarea", { class: "mono", rows: 8, spellcheck: "false" });
  const file = h("input", { type: "file" });
  const type = h("input", { class: "mono", value: "text/plain", autocomplete: "off", required: true });
  const name = h("input", { class: "mono", value: "data", autocomplete: "off", required: true });
  return {
    node: h("div", null, field("Body", text), field("Or a file", file),
      h("div", { class: "inline" }, field("Media type", type), field("Field", name, "The whole body becomes this field."))),
    request: () => ({ body: file.files[0] ?? text.value, query: { payload: name.value }, headers: { "content-type": type.value } }),
  };
}

export function publishView(stream) {
  if (refusal("publish", stream)) return missingRight("publish", stream);
  const body = h("div");
  const result = h("div", { role: "status", id: "published" });
  const delay = h("input", { class: "mono", placeholder: "none", autocomplete: "off" });
  const key = h("input", { class: "mono", placeholder: "none", autocomplete: "off" });
  const maxlen = h("input", { class: "mono", placeholder: "none", inputmode: "numeric", autocomplete: "off" });
  let form;
  const choose = (mode) => {
    form = MODES[mode]();
    fill(body, form.node);
  };
  const modes = [["fields", "Fields"], ["json", "JSON"], ["raw", "Raw body"]].map(([mode, text]) =>
    h("label", null, h("input", { type: "radio", name: "mode", value: mode, checked: mode === "fields", onchange: () => choose(mode) }), text));
  choose("fields");
  const publish = async () => {
    const { query, headers, ...rest } = form.request();
    const options = { delay: delay.value.trim(), maxlen: maxlen.value.trim() };
    const idempotency = key.value.trim() ? { "idempotency-key": key.value.trim() } : {};
    try {
      const answer = await ofStream("POST", stream, "/entries", { ...rest, query: { ...query, ...options }, headers: { ...headers, ...idempotency } });
      fill(result, published(stream, answer));
    } catch (error) {
      fill(result, problemBox(error));
    }
  };
  const send = action("Publish", { right: "publish", stream, kind: "primary", id: "publish" }, publish);
  send.type = "submit";
  return h("form", { class: "card", onsubmit: (event) => event.preventDefault() },
    h("fieldset", { class: "modes" }, h("legend", null, "Publish as"), modes), body,
    h("details", null, h("summary", null, "Options"), h("div", { class: "inline" },
      field("Delay", delay, "Appends later: 30s, 1h, at most 7d."),
      field("Idempotency key", key, "A repeated call appends once."),
      field("Trim to about", maxlen, "Number of entries to keep."))),
    h("div", { class: "buttons" }, send), result);
}

function published(stream, answer) {
  if (answer.scheduled) return h("p", { class: "done" }, "Scheduled as ", code(answer.scheduled), ".");
  if (answer.results) {
    const failed = answer.results.filter((item) => item.error).length;
    notice(`${counted(answer.appended, "entry is", "entries are")} published.`);
    return h("p", { class: "done" }, `${counted(answer.appended, "entry", "entries")} published${failed ? `, ${failed} refused` : ""}.`);
  }
  return h("p", { class: "done" }, "Published ", h("a", { class: "mono", href: link(["streams", stream, "entries", answer.id]) }, answer.id), ".");
}
