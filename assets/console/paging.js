// A table that is loaded page by page: its state, its status line and its button.

import { fill, h } from "./dom.js";
import { problemBox } from "./notices.js";

const PAGE = 100;

// `read` gets the query of a page and answers it, `items` gives the rows of a page, `text` the status
// for a page and the number of rows shown. `loaded` is called after each page.
export function paged(rows, id, { read, items, text, loaded = () => {} }) {
  const status = h("p", { class: "faint", role: "status", id });
  const trouble = h("div");
  const more = h("button", { type: "button", hidden: true, onclick: () => load() }, "Load more");
  let cursor = null;
  let shown = 0;

  async function load() {
    fill(trouble);
    try {
      const page = await read({ limit: PAGE, cursor });
      items(page).forEach((item) => rows.add(item));
      shown += items(page).length;
      cursor = page.next;
      status.textContent = text(page, shown);
      rows.node.hidden = shown === 0;
      loaded(shown);
    } catch (error) {
      fill(trouble, problemBox(error));
    }
    more.hidden = !cursor;
  }

  const reload = () => {
    rows.clear();
    cursor = null;
    shown = 0;
    return load();
  };
  return { load, reload, nodes: [trouble, rows.node, h("div", { class: "foot" }, status, more)] };
}
