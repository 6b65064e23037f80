// Tabs that are links: each has an address of its own.

import { h } from "./dom.js";

// `items` are pairs of name, text and address.
export const tabs = (label, items, current) => h("nav", { class: "tabs", "aria-label": label },
  items.map(([name, text, href]) => h("a", { href, "aria-current": name === current ? "page" : null }, text)));
