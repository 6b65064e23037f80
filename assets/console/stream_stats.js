// Length, rate and retention of the streams that are visible in the list, asked for every few seconds.

import { ofStream } from "./api.js";
import { may } from "./session.js";

const EVERY_MS = 5000;
const AT_ONCE = 4;

// Keeps what is known of streams: `get(name)` is {detail, rate, at}, or undefined.
export class StreamStats {
  constructor(onChange) {
    Object.assign(this, { onChange, known: new Map(), visible: [], busy: 0, pausedUntil: 0 });
    this.timer = setInterval(() => this.work(), 500);
  }

  get(name) {
    return this.known.get(name);
  }

  // Sets the streams to ask for.
  watch(names) {
    this.visible = names;
    this.work();
  }

  forget() {
    this.known.clear();
  }

  work() {
    if (document.hidden) return;
    const now = performance.now();
    if (now < this.pausedUntil) return;
    for (const name of this.visible) {
      if (this.busy >= AT_ONCE) return;
      const known = this.known.get(name);
      if (known && (known.isAsked || now < known.due)) continue;
      if (may("subscribe", name)) this.ask(name, known);
    }
  }

  async ask(name, before) {
    this.busy += 1;
    const known = { ...before, isAsked: true };
    this.known.set(name, known);
    try {
      const detail = await ofStream("GET", name, "");
      const at = performance.now();
      const added = detail.entries_added;
      const counted = before?.detail && added !== null && before.detail.entries_added !== null;
      const rate = counted ? Math.max(0, (added - before.detail.entries_added) / ((at - before.at) / 1000)) : null;
      // Details include two entries. Large ones are asked for less often: at most about 20 KB/s each.
      const size = JSON.stringify(detail.first_entry).length + JSON.stringify(detail.last_entry).length;
      const due = at + Math.max(EVERY_MS, size / 20);
      this.known.set(name, { detail: { ...detail, first_entry: null, last_entry: null }, rate, at, due });
    } catch (error) {
      if (error.problem?.status === 429 || !error.problem?.status) this.pausedUntil = performance.now() + 10_000;
      this.known.set(name, { ...before, isGone: error.problem?.status === 404, due: performance.now() + 3 * EVERY_MS });
    }
    this.busy -= 1;
    this.onChange(name);
    this.work();
  }
}
