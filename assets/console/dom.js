// Elements and text nodes. The console shows names and payloads of others, so all data becomes text
// nodes and attributes here; nothing is ever parsed as HTML.

// Creates an element. Properties that begin with "on" are listeners; others are attributes, left out
// if they are null, undefined or false.
export function h(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

// Appends nodes and texts; null, undefined and false are left out.
export function append(node, ...children) {
  const kept = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  node.append(...kept.map((child) => (child instanceof Node ? child : String(child))));
}

// Replaces the children of an element.
export function fill(node, ...children) {
  node.replaceChildren();
  append(node, children);
}

let count = 0;

// Returns an id that no other element has.
export const uniqueId = (name) => `${name}-${(count += 1)}`;

// Returns a labelled control. The label is above it; the hint explains it.
export function field(label, control, hint) {
  control.id ||= uniqueId("field");
  const note = hint && h("small", { id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, note);
}

// Returns a select with options: pairs of value and text.
export function select(options, value, props) {
  const made = options.map(([of, text]) => h("option", { value: of, selected: of === value }, text));
  return h("select", props, made);
}

// Returns a checkbox with its label.
export function checkbox(label, props) {
  return h("label", { class: "check" }, h("input", { type: "checkbox", ...props }), label);
}

// Returns a table in a region that scrolls by itself on narrow screens.
export function table(label, heads, rows) {
  const head = h("tr", null, heads.map((text) => h("th", { scope: "col" }, text)));
  const cells = (row) => row.map((cell, column) => h("td", { "data-label": typeof heads[column] === "string" ? heads[column] : null }, cell));
  const body = rows.map((row) => (row instanceof Node ? row : h("tr", null, cells(row))));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h("table", null, h("thead", null, head), h("tbody", null, body)));
}

// Returns a list of terms and values; a pair without a value is left out.
export function facts(...pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, shown.map(([term, value]) => h("div", null, h("dt", null, term), h("dd", null, value))));
}

export const code = (text, props) => h("code", props, text);
