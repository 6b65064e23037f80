// The live tail of a stream.

import { append, fill, h } from "./dom.js";
import { entryRow } from "./entry.js";
import { EventStream } from "./event_stream.js";
import { counted, number } from "./format.js";
import { problemBox } from "./notices.js";
import { note } from "./route.js";

// Rows in the document, and entries that wait to be shown. Older ones are left out.
const MOST_ROWS = 400;
// The fastest pace of drawing: more often would be no easier to read. Where drawing is slow, the pace
// leaves three quarters of the time to everything else.
const FRAME_MS = 150;

// Splits the filter of the user into FIELD:VALUE terms; quotes keep spaces in a term.
export function filterTerms(text) {
  const terms = [...text.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain);
  const wrong = terms.find((term) => !term.includes(":"));
  return wrong === undefined ? { terms } : { wrong };
}

export class LiveTail {
  constructor(stream, params) {
    Object.assign(this, { stream, waiting: [], skipped: 0, count: 0, isPaused: false, frame: 0, drawn: 0, pace: FRAME_MS, recent: [] });
    this.rows = h("ol", { class: "entries", id: "tail", "aria-label": `Live entries of ${stream}, newest first` });
    this.state = h("span", { class: "state", role: "status", id: "tail-state" });
    this.rate = h("span", { class: "faint", id: "tail-rate" });
    this.pause = h("button", { type: "button", id: "pause", "aria-pressed": "false", onclick: () => this.setPaused(!this.isPaused) }, "Pause");
    this.filter = h("input", { id: "tail-filter", class: "mono", value: params.filter ?? "", placeholder: "field:value", autocomplete: "off", spellcheck: "false",
      "aria-label": "Show only entries with these field values, such as type:paid" });
    const clear = h("button", { type: "button", onclick: () => { fill(this.rows); this.showEmpty(); } }, "Clear");
    const form = h("form", { class: "inline", role: "search", onsubmit: (event) => { event.preventDefault(); this.start(); } },
      this.filter, h("button", { type: "submit" }, "Filter"));
    this.trouble = h("div");
    this.node = h("div", null, h("div", { class: "tools" }, this.pause, clear, form, this.state, this.rate), this.trouble, this.rows);
    this.clock = setInterval(() => this.showRate(), 1000);
    this.start();
  }

  close() {
    this.source?.close();
    clearInterval(this.clock);
    cancelAnimationFrame(this.frame);
  }

  start() {
    this.source?.close();
    fill(this.trouble);
    fill(this.rows);
    this.waiting = [];
    const { terms, wrong } = filterTerms(this.filter.value);
    if (wrong !== undefined) {
      fill(this.trouble, problemBox({ problem: { title: "Invalid filter", detail: `“${wrong}” must be FIELD:VALUE, such as type:paid. Put quotes around a term with spaces.` } }));
      return;
    }
    note(["streams", this.stream, "live"], { filter: this.filter.value.trim() });
    this.showEmpty();
    this.source = new EventStream(this.stream, { last: 50, filter: terms }, (event) => this.onEvent(event), (...state) => this.onState(...state));
  }

  showEmpty() {
    if (!this.rows.hasChildNodes()) fill(this.rows, h("li", { class: "empty faint" }, "No entries yet. New ones appear here."));
  }

  onState(state, detail) {
    const text = { connecting: "connecting…", open: "live", ended: "ended", failed: "refused" }[state];
    this.state.dataset.state = state;
    this.state.textContent = text ?? `connection lost, trying again in ${Math.ceil(detail / 1000)} s`;
    if (state === "failed") fill(this.trouble, problemBox(detail));
    if (state === "waiting" && !this.wasLost) this.push({ marker: "Connection lost. The tail resumes after the last entry." });
    if (state === "open" && this.wasLost) this.push({ marker: "Connected again." });
    if (state === "waiting") this.wasLost = true;
    if (state === "open") this.wasLost = false;
  }

  onEvent({ event, data }) {
    if (event === "$open" || event === "$progress") return;
    const value = JSON.parse(data);
    if (event === "$gap") {
      const lost = value.lost === null ? "An unknown number of entries is" : `${counted(value.lost, "entry is", "entries are")}`;
      this.push({ marker: `Gap: ${lost} gone. The oldest entry is ${value.oldest ?? "unknown"}.`, isWarning: true });
    } else if (event === "$reset") {
      this.push({ marker: "Reset: the stream was deleted and recreated, or has another history.", isWarning: true });
    } else if (event === "$error") {
      this.push({ marker: `Error: ${value.title}. ${value.detail ?? ""}`, isWarning: true });
    } else if (event === "$end") {
      this.push({ marker: `The gateway ended the connection: ${value.reason}.` });
    } else {
      this.count += 1;
      this.push({ entry: value });
    }
  }

  // Holds the newest items until they are drawn. Nothing grows while the tail is paused or hidden.
  push(item) {
    // A gateway that stops says so to each attempt to reconnect.
    if (item.marker && item.marker === this.lastMarker) return;
    this.lastMarker = item.marker;
    this.waiting.push(item);
    if (this.waiting.length > 2 * MOST_ROWS) {
      this.skipped += this.waiting.length - MOST_ROWS;
      this.waiting = this.waiting.slice(-MOST_ROWS);
    }
    this.later();
  }

  later() {
    if (this.isPaused || this.frame) return;
    this.frame = requestAnimationFrame((now) => {
      this.frame = 0;
      if (now - this.drawn < this.pace) {
        this.later();
        return;
      }
      this.draw();
      // The next frame tells what layout and painting took, too.
      requestAnimationFrame((after) => { this.pace = Math.max(FRAME_MS, 4 * (after - now)); });
      this.drawn = now;
    });
  }

  draw() {
    // One row is for the line that says how many entries are left out.
    const items = this.waiting.slice(1 - MOST_ROWS);
    const skipped = this.skipped + this.waiting.length - items.length;
    this.waiting = [];
    this.skipped = 0;
    if (items.length === 0) return;
    this.rows.querySelector(".empty")?.remove();
    const fresh = document.createDocumentFragment();
    for (const item of items.reverse()) append(fresh, this.item(item));
    if (skipped) append(fresh, this.item({ marker: `${counted(skipped, "older entry is", "older entries are")} not shown here. History has all.` }));
    this.rows.prepend(fresh);
    while (this.rows.children.length > MOST_ROWS) this.rows.lastChild.remove();
  }

  item({ entry, marker, isWarning }) {
    if (entry) return entryRow(this.stream, entry, () => this.setPaused(true));
    return h("li", { class: isWarning ? "marker warning" : "marker" }, marker);
  }

  // A paused tail stays connected and keeps the newest entries. Opening an entry pauses, so that it
  // does not move away.
  setPaused(isPaused) {
    this.isPaused = isPaused;
    this.pause.setAttribute("aria-pressed", String(isPaused));
    this.pause.textContent = isPaused ? "Resume" : "Pause";
    this.showRate();
    this.later();
  }

  showRate() {
    this.recent.push(this.count);
    if (this.recent.length > 6) this.recent.shift();
    const perSecond = (this.count - this.recent[0]) / Math.max(1, this.recent.length - 1);
    const held = this.isPaused ? `paused, ${number(this.waiting.length + this.skipped)} waiting` : "";
    this.rate.textContent = [perSecond > 0 && `${number(Math.round(perSecond * 10) / 10)}/s`, held].filter(Boolean).join(" · ");
  }
}
