// A list of any length of which only the visible rows are in the document. One row is a stop of the
// Tab key; the arrow keys move from there.

import { h } from "./dom.js";

const BEYOND = 6;

// Creates a list of rows of one height. `row` makes the element of an item; `onShown` gets the items
// that became visible.
export class VirtualList {
  constructor(label, height, row, onShown) {
    Object.assign(this, { height, row, onShown, items: [], rows: new Map(), frame: 0, active: null });
    this.list = h("ul", { class: "rows", "aria-label": label });
    this.node = h("div", { class: "virtual" }, this.list);
    this.node.addEventListener("scroll", () => this.later());
    this.node.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.later()).observe(this.node);
  }

  later() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.render();
    });
  }

  // Replaces the items. Rows of items that are still there are kept.
  set(items) {
    this.items = items;
    this.list.style.height = `${items.length * this.height}px`;
    this.render();
  }

  // Makes all rows again, or that of one item.
  refresh(item) {
    const stale = item === undefined ? [...this.rows.keys()] : [item];
    for (const of of stale) {
      const row = this.rows.get(of);
      if (!row) continue;
      const had = row.contains(document.activeElement);
      this.rows.delete(of);
      const fresh = this.row(of);
      row.replaceWith(fresh);
      this.rows.set(of, fresh);
      if (had) fresh.querySelector("a").focus({ preventScroll: true });
    }
    this.render();
  }

  range() {
    const first = Math.max(0, Math.floor(this.node.scrollTop / this.height) - BEYOND);
    const count = Math.ceil(this.node.clientHeight / this.height) + 2 * BEYOND;
    return [first, Math.min(this.items.length, first + count)];
  }

  render() {
    const [first, end] = this.range();
    const wanted = new Map();
    for (let at = first; at < end; at += 1) wanted.set(this.items[at], at);
    for (const [item, row] of this.rows) {
      if (wanted.has(item)) continue;
      row.remove();
      this.rows.delete(item);
    }
    let next = this.list.firstChild;
    for (const [item, at] of wanted) {
      let row = this.rows.get(item);
      if (!row) {
        row = this.row(item);
        this.rows.set(item, row);
      }
      row.style.top = `${at * this.height}px`;
      row.setAttribute("aria-posinset", at + 1);
      row.setAttribute("aria-setsize", this.items.length);
      // Rows stand in the document in their order, so that Tab goes down the list.
      if (row === next) next = next.nextSibling;
      else this.list.insertBefore(row, next);
    }
    this.setStop([...wanted.keys()]);
    this.onShown([...wanted.keys()]);
  }

  setStop(shown) {
    const stop = shown.includes(this.active) ? this.active : shown[0];
    for (const [item, row] of this.rows) row.querySelector("a").tabIndex = item === stop ? 0 : -1;
  }

  // Moves the focus with the arrow keys, Home and End.
  onKey(event) {
    const focused = [...this.rows].find(([, row]) => row.contains(document.activeElement));
    if (!focused) return;
    const at = this.items.indexOf(focused[0]);
    const page = Math.max(1, Math.floor(this.node.clientHeight / this.height) - 1);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: this.items.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.reveal(Math.min(this.items.length - 1, Math.max(0, to)), true);
  }

  // Scrolls to a row, and focuses it if asked to.
  reveal(at, focus = false) {
    if (at < 0) return;
    const [top, bottom] = [at * this.height, (at + 1) * this.height];
    if (top < this.node.scrollTop) this.node.scrollTop = top;
    else if (bottom > this.node.scrollTop + this.node.clientHeight) this.node.scrollTop = bottom - this.node.clientHeight;
    this.active = this.items[at];
    this.render();
    if (focus) this.rows.get(this.items[at])?.querySelector("a")?.focus({ preventScroll: true });
  }
}
