// A table whose rows can be selected, with actions on the selected ones.

import { append, code, h } from "./dom.js";
import { fieldsOf } from "./entry.js";
import { fail } from "./notices.js";

// `heads` are the columns after the checkbox and the id. `cells(item)` are their contents; `open(item)`
// returns the entry to show below the row, or a promise of it.
export class SelectableTable {
  constructor(label, heads, { cells, open, onSelect }) {
    Object.assign(this, { cells, open, onSelect, selected: new Set(), columns: heads.length + 2 });
    this.all = h("input", { type: "checkbox", "aria-label": "Select all", onchange: () => this.selectAll(this.all.checked) });
    this.body = h("tbody");
    const head = h("tr", null, h("th", { class: "pick" }, this.all), h("th", { scope: "col" }, "Id"), heads.map((text) => h("th", { scope: "col" }, text)));
    this.node = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, h("table", null, h("thead", null, head), this.body));
  }

  clear() {
    this.body.replaceChildren();
    this.selected.clear();
    this.all.checked = false;
    this.onSelect();
  }

  add(item) {
    const pick = h("input", { type: "checkbox", "aria-label": `Select ${item.id}`, onchange: () => {
      if (pick.checked) this.selected.add(item.id);
      else this.selected.delete(item.id);
      this.onSelect();
    } });
    const view = h("button", { type: "button", class: "quiet mono", "aria-expanded": "false", title: "Show the fields", onclick: () => this.toggle(row, view, item) }, code(item.id));
    const row = h("tr", null, h("td", { class: "pick" }, pick), h("td", null, view), this.cells(item).map((cell) => h("td", null, cell)));
    append(this.body, row);
  }

  async toggle(row, view, item) {
    const isOpen = view.getAttribute("aria-expanded") === "true";
    view.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) {
      row.nextSibling?.remove();
      return;
    }
    const cell = h("td", { colspan: this.columns, class: "opened" }, "Loading…");
    row.after(h("tr", { class: "detail" }, cell));
    try {
      cell.replaceChildren(fieldsOf(await this.open(item)));
    } catch (error) {
      view.setAttribute("aria-expanded", "false");
      cell.parentNode.remove();
      fail(error);
    }
  }

  selectAll(isSelected) {
    for (const pick of this.body.querySelectorAll(".pick input")) {
      if (pick.checked === isSelected) continue;
      pick.checked = isSelected;
      pick.dispatchEvent(new Event("change"));
    }
  }

  ids() {
    return [...this.selected];
  }
}
