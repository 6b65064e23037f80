// Server-sent events by fetch. EventSource cannot send an Authorization header, so it would need a
// ticket in the address of each connection, and it hides the problem of a refused one. This client
// sends the credential of the session, shows problems, and resumes by Last-Event-ID as EventSource does.

import { CallError, open, streamPath } from "./api.js";

const LONGEST_WAIT_MS = 15_000;

// Whether a retry cannot fix a refusal. The gateway itself has an error status only for these; a
// proxy in front of it also has others. A lost connection has no status.
const isFinal = (status) => status >= 400 && status < 500 && status !== 408 && status !== 429;

// Splits the text of an event stream into events. `onEvent` gets {event, data, id}.
export class EventParser {
  constructor(onEvent) {
    Object.assign(this, { onEvent, rest: "", event: "", data: [], id: null, retry: null });
  }

  push(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    for (const line of lines) this.line(line.endsWith("\r") ? line.slice(0, -1) : line);
  }

  line(line) {
    if (line === "") {
      if (this.data.length) this.onEvent({ event: this.event || "message", data: this.data.join("\n"), id: this.id });
      this.event = "";
      this.data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") this.data.push(value);
    else if (name === "event") this.event = value;
    else if (name === "id") this.id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
  }
}

// Follows a stream until `close`. `onState` gets "connecting", "open", "waiting" (with the delay in
// milliseconds), "failed" (with the error) and "ended"; `onEvent` gets each event.
export class EventStream {
  constructor(stream, query, onEvent, onState) {
    Object.assign(this, { stream, query, onEvent, onState, lastId: null, retry: 2000, failures: 0 });
    this.controller = new AbortController();
    this.run();
  }

  close() {
    this.controller.abort();
    clearTimeout(this.timer);
    this.wake?.();
  }

  async run() {
    const { signal } = this.controller;
    while (!signal.aborted) {
      try {
        this.onState("connecting");
        if (!(await this.connect(signal))) return;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof CallError && isFinal(error.problem.status)) {
          this.onState("failed", error);
          return;
        }
        this.failures += 1;
      }
      if (signal.aborted) return;
      const delay = Math.min(LONGEST_WAIT_MS, this.retry * 2 ** Math.min(4, Math.max(0, this.failures - 1)));
      this.onState("waiting", delay);
      await new Promise((resolve) => {
        this.wake = resolve;
        this.timer = setTimeout(resolve, delay);
      });
    }
  }

  // Reads one connection to its end. Returns false if the subscription is over.
  async connect(signal) {
    const { path, query } = streamPath(this.stream, "/events");
    // After the first event the id says where to go on, and no start may be given.
    const start = this.lastId === null ? this.query : { ...this.query, last: null, after: null };
    const headers = { accept: "text/event-stream", ...(this.lastId === null ? {} : { "last-event-id": this.lastId }) };
    const response = await open("GET", path, { query: { ...start, ...query }, headers, signal });
    if (response.status === 204) {
      this.onState("ended");
      return false;
    }
    let isOver = false;
    const parser = new EventParser((event) => {
      if (event.id !== null) this.lastId = event.id;
      if (event.event === "$error" || (event.event === "$end" && event.data.includes('"expired"'))) isOver = true;
      if (event.event === "$open") {
        this.failures = 0;
        this.onState("open");
      }
      this.onEvent(event);
    });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      parser.push(value);
      if (parser.retry !== null) this.retry = parser.retry;
    }
    if (isOver) this.onState("ended");
    return !isOver;
  }
}
