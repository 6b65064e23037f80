// A client of streamgate: publisher, follower and worker. Copy this file into your project.
//
// It needs nothing but `fetch`: Node.js 18.17 or newer, Deno, Bun, browsers. Node.js 22.18 or newer runs
// it as it is; otherwise compile it with `tsc` or any bundler.
//
//     const gateway = new Gateway("http://127.0.0.1:8080", { token: "sgk_..." });
//     await gateway.publish("orders", { user: "alice" });          // repeated safely, appended once
//     for await (const event of gateway.follow(["orders"], { after: "0" })) console.log(event.data);
//     const worker = new Worker(gateway, "jobs", "mailers", "w1", sendMail);
//     process.on("SIGTERM", () => worker.stop());
//     await worker.run();

export type Fields = Record<string, string | number | boolean | { base64: string }>;
type Token = string | (() => string | Promise<string>);

/** An error of the gateway, or of a proxy before it (then `code` is undefined). */
export class Problem extends Error {
  readonly status: number;
  readonly code?: string;
  readonly retryable: boolean;
  readonly sideEffects: "none" | "unknown";
  /** Milliseconds. */
  readonly retryAfter: number;

  constructor(status: number, body: string, retryAfter: string | null = null) {
    let problem: any = {};
    try {
      problem = JSON.parse(body) ?? {};
    } catch { /* not of the gateway */ }
    super(`${status} ${problem.code ?? ""}: ${problem.detail ?? body.slice(0, 200)}`);
    this.status = status;
    this.code = problem.code;
    // A proxy cannot say whether the gateway got the request.
    this.retryable = problem.retryable ?? [408, 429, 502, 503, 504].includes(status);
    this.sideEffects = problem.side_effects ?? "unknown";
    this.retryAfter = 1000 * (Number(retryAfter) || 0);
  }
}

/** Delays between attempts: exponential with full jitter, between 0.1 s and 30 s. */
class Backoff {
  attempt = 0;

  next(atLeast = 0): number {
    this.attempt += 1;
    return Math.max(atLeast, 100 + Math.random() * Math.min(30_000, 200 * 2 ** Math.min(this.attempt, 10)));
  }
}

/** Waits, at most until the signal is aborted. */
function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
    signal?.addEventListener("abort", done);
    if (signal?.aborted) done();
  });
}

export interface PublishOptions {
  /** Identifies the entry; random by default. */
  key?: string;
  /** How long failed appends are repeated, in ms. Less than the idempotency window of the gateway (10 minutes). */
  patience?: number;
  /** Further parameters, such as `{ maxlen: "1000" }`. */
  query?: Record<string, string>;
}

export interface FollowOptions {
  /** Where to start: a position, `0` for the oldest entry, or `$` (the default) for the next one. */
  after?: string;
  /** Where to resume, instead of `after`: the `position` of the last event that was processed. */
  position?: string;
  /** Further parameters, such as `{ end: "$" }`. */
  query?: Record<string, string>;
  /** Ends the iteration. */
  signal?: AbortSignal;
}

/** An event of a follower. */
export interface FollowEvent {
  /** `gap`: entries are gone. `reset`: the stream was replaced. `progress`: only the position moved. */
  kind: "entry" | "gap" | "reset" | "progress";
  data: any;
  /** Where to resume after this event. */
  position?: string;
}

/** A gateway. `token` is an API key or a JWT, or a function that returns one. */
export class Gateway {
  readonly url: string;
  readonly token?: Token;
  /** Milliseconds. */
  readonly timeout: number;

  constructor(url: string, options: { token?: Token; timeout?: number } = {}) {
    this.url = url.replace(/\/+$/, "");
    this.token = options.token;
    this.timeout = options.timeout ?? 30_000;
  }

  /** Sends one request. Throws a Problem for an error status, another error if there is no answer. */
  async send(method: string, path: string, signal: AbortSignal, body?: unknown, headers: Record<string, string> = {}) {
    const token = typeof this.token === "function" ? await this.token() : this.token;
    const answer = await fetch(this.url + path, {
      method,
      signal,
      headers: {
        "Content-Type": "application/json",
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (answer.status >= 400) throw new Problem(answer.status, await answer.text(), answer.headers.get("Retry-After"));
    return answer;
  }

  /** Sends one request and returns the JSON of the answer. Never repeats it. */
  async call(method: string, path: string, body?: unknown, headers?: Record<string, string>, timeout = this.timeout) {
    const answer = await this.send(method, path, AbortSignal.timeout(timeout), body, headers);
    const text = await answer.text();
    return text ? JSON.parse(text) : null;
  }

  /**
   * Repeats a request until it is answered, for at most `patience` ms. Repeats what the gateway calls
   * retryable. If the request may have had an effect, repeats it only if a repetition is `safe`.
   */
  async repeat(
    method: string,
    path: string,
    body: unknown,
    { headers, safe = false, patience = 60_000 }: { headers?: Record<string, string>; safe?: boolean; patience?: number } = {},
  ) {
    const backoff = new Backoff();
    const until = Date.now() + patience;
    for (;;) {
      try {
        return await this.call(method, path, body, headers);
      } catch (error) {
        const wait = backoff.next(error instanceof Problem ? error.retryAfter : 0);
        const retryable = !(error instanceof Problem) || error.retryable;
        const harmless = error instanceof Problem && error.sideEffects === "none";
        if (!retryable || !(safe || harmless) || Date.now() + wait > until) throw error;
        await pause(wait);
      }
    }
  }

  /** Appends an entry, once, and returns its id. */
  async publish(stream: string, fields: Fields, { key, patience, query }: PublishOptions = {}): Promise<string> {
    const path = `/v1/streams/${encodeURIComponent(stream)}/entries${query ? `?${new URLSearchParams(query)}` : ""}`;
    const headers = { "Idempotency-Key": key ?? uniqueKey() };
    const appended = await this.repeat("POST", path, { fields }, { headers, safe: true, patience });
    return appended.id;
  }

  /**
   * Iterates over the events of streams; reconnects and resumes exactly. Ends when `end` is reached or the
   * signal is aborted. Throws a Problem for an error that a retry cannot fix.
   */
  async *follow(streams: string[], options: FollowOptions = {}): AsyncGenerator<FollowEvent, void, void> {
    const { after = "$", query = {}, signal } = options;
    let position = options.position;
    let backoff = new Backoff();
    while (!signal?.aborted) {
      let wait = 0;
      const silence = new Silence(signal);
      try {
        const headers: Record<string, string> = { Accept: "text/event-stream" };
        if (position !== undefined) headers["Last-Event-ID"] = position;
        const path = followPath(streams, after, query, position === undefined);
        const answer = await this.send("GET", path, silence.signal, undefined, headers);
        if (answer.status === 204) return; // the end was reached before
        for await (const { name, data, id, retry } of readEvents(answer.body!, silence)) {
          wait = retry ?? wait;
          const value = JSON.parse(data);
          if (name === "$error") throw new Problem(value.status ?? 400, data);
          if (name === "$end" && value.reason === "complete") return;
          if (name !== "$end" && name !== "$open") {
            backoff = new Backoff();
            const kind = ["$gap", "$reset", "$progress"].includes(name) ? name.slice(1) : "entry";
            yield { kind: kind as FollowEvent["kind"], data: value, position: id };
            if (signal?.aborted) return;
          }
          position = id ?? position;
        }
      } catch (error) {
        if (error instanceof Problem && !error.retryable) throw error;
        if (error instanceof Problem) wait = Math.max(wait, error.retryAfter);
      } finally {
        silence.end();
      }
      await pause(backoff.next(wait), signal);
    }
  }
}

/** A key that no other call uses. `randomUUID` exists in secure contexts and since Node.js 19. */
function uniqueKey(): string {
  const part = () => Math.random().toString(36).slice(2);
  return globalThis.crypto?.randomUUID?.() ?? `${Date.now().toString(36)}-${part()}${part()}${part()}`;
}

function followPath(streams: string[], after: string, query: Record<string, string>, isFirst: boolean): string {
  const pairs = new URLSearchParams(query);
  if (streams.length === 1) {
    if (isFirst) pairs.append("after", after);
    return `/v1/streams/${encodeURIComponent(streams[0])}/events?${pairs}`;
  }
  for (const name of streams) pairs.append("stream", `${name.replace(/[\\,]/g, "\\$&")}@${after}`);
  return `/v1/events?${pairs}`;
}

/** Aborts a connection that is silent for 60 s. The gateway sends a heartbeat every 15 s. */
class Silence {
  private readonly controller = new AbortController();
  private readonly outer?: AbortSignal;
  private readonly abort = () => this.controller.abort();
  private timer?: ReturnType<typeof setTimeout>;

  constructor(outer?: AbortSignal) {
    this.outer = outer;
    outer?.addEventListener("abort", this.abort);
    this.heard();
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  heard() {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.abort, 60_000);
  }

  end() {
    clearTimeout(this.timer);
    this.outer?.removeEventListener("abort", this.abort);
    this.abort();
  }
}

/** Reads the events of an event stream. An incomplete event at the end of the connection is dropped. */
async function* readEvents(body: ReadableStream<Uint8Array>, silence: Silence) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let event = { name: "message", data: [] as string[], retry: undefined as number | undefined };
  let id: string | undefined;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    silence.heard();
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      if (line === "") {
        if (event.data.length > 0) yield { ...event, data: event.data.join("\n"), id };
        event = { name: "message", data: [], retry: undefined };
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const text = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
      if (field === "event") event.name = text;
      else if (field === "data") event.data.push(text);
      else if (field === "id") id = text;
      else if (field === "retry") event.retry = Number(text);
    }
  }
}

/** Thrown by a handler: deliver the entry again, after `delay` such as "30s" or the backoff of the policy. */
export class Retry extends Error {
  readonly delay?: string;

  constructor(reason = "retry", delay?: string) {
    super(reason);
    this.delay = delay;
  }
}

/** Thrown by a handler: the entry becomes a dead letter. */
export class Reject extends Error {}

/** An entry that a worker holds. `lost` is true if its lease was lost; another worker has it then. */
export interface Entry {
  stream: string;
  id: string;
  /** Absent if names repeat or are not UTF-8: then there are `pairs`. */
  fields: Record<string, any>;
  pairs?: [any, any][];
  deliveries: number;
  lost: boolean;
}

interface Held {
  entry: Entry;
  receipt: string;
  /** The call that settles the entry is on its way: its receipt must not change. */
  settling: boolean;
  extendAt: number;
}

export interface WorkerOptions {
  /** Entries processed at the same time. */
  concurrency?: number;
  /** Milliseconds. The lease is extended while the handler runs. */
  lease?: number;
  /** Creates the group with this policy on first use, and again if it is lost. Needs the right `manage`. */
  policy?: Record<string, unknown>;
  /** How long handlers may go on after `stop`, in ms. */
  grace?: number;
  log?: (message: string) => void;
}

/**
 * Processes the entries of a group. The handler acknowledges an entry by returning, and hands it back by
 * throwing. The worker reads only entries that it begins at once. Without `policy`, the group must exist and
 * have a policy.
 */
export class Worker {
  private readonly gateway: Gateway;
  private readonly stream: string;
  private readonly group: string;
  private readonly consumer: string;
  private readonly handler: (entry: Entry) => Promise<unknown> | unknown;
  private readonly options: Required<Omit<WorkerOptions, "policy">> & Pick<WorkerOptions, "policy">;
  private readonly stopping = new AbortController();
  private readonly held = new Set<Held>();
  private freed = () => {};
  private extending: Promise<void> = Promise.resolve();

  constructor(
    gateway: Gateway,
    stream: string,
    group: string,
    consumer: string,
    handler: (entry: Entry) => Promise<unknown> | unknown,
    options: WorkerOptions = {},
  ) {
    this.gateway = gateway;
    this.stream = stream;
    this.group = `/v1/streams/${encodeURIComponent(stream)}/groups/${encodeURIComponent(group)}`;
    this.consumer = consumer;
    this.handler = handler;
    this.options = { concurrency: 1, lease: 30_000, grace: 25_000, log: console.error, ...options };
  }

  /** Stops reading. `run` returns when all entries are settled. */
  stop() {
    // The gateway takes back what it reads for a connection that is gone.
    this.stopping.abort();
    this.freed();
  }

  /** Works until `stop`. Throws a Problem if a read can never succeed. */
  async run(): Promise<void> {
    const { grace, lease } = this.options;
    const keeper = setInterval(() => this.extendDue(), Math.min(200, lease / 10));
    try {
      await this.readUntilStopped();
    } finally {
      this.stop();
      const until = Date.now() + grace;
      while (this.held.size > 0 && Date.now() < until) await pause(20);
      clearInterval(keeper);
      // The handlers of these did not finish in time.
      const late = [...this.held];
      await Promise.all(late.map((held) => this.settle(held, "nack", { delay: "0ms", reason: "the worker stopped" }, 5_000)));
    }
  }

  private async readUntilStopped() {
    let backoff = new Backoff();
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const count = this.options.concurrency - this.held.size;
      if (count <= 0) {
        await new Promise<void>((resolve) => (this.freed = resolve));
        continue;
      }
      try {
        for (const held of await this.read(count)) void this.work(held);
        backoff = new Backoff();
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Problem && !error.retryable) throw error;
        this.options.log(`cannot read: ${error}`);
        await pause(backoff.next(error instanceof Problem ? error.retryAfter : 0), signal);
      }
    }
  }

  private async read(count: number): Promise<Held[]> {
    const { lease, policy } = this.options;
    const body = { consumer: this.consumer, count, wait: "20s", lease: `${lease}ms` };
    const more = policy ? { create: true, policy } : {};
    const signal = AbortSignal.any([this.stopping.signal, AbortSignal.timeout(20_000 + this.gateway.timeout)]);
    const answer = await this.gateway.send("POST", `${this.group}/read`, signal, { ...body, ...more });
    const { entries } = await answer.json();
    return entries.map(({ receipt, id, fields, pairs, deliveries }: any) => {
      const entry = { stream: this.stream, id, fields, pairs, deliveries, lost: false };
      const held = { entry, receipt, settling: false, extendAt: Date.now() + lease / 3 };
      this.held.add(held);
      return held;
    });
  }

  private async work(held: Held) {
    const { entry } = held;
    try {
      await this.handler(entry);
    } catch (error) {
      const reason = (error instanceof Error && error.message ? error.message : String(error)).slice(0, 200);
      if (error instanceof Reject) return this.settle(held, "reject", { reason });
      if (!(error instanceof Retry)) this.options.log(`entry ${entry.id} failed: ${error}`);
      const delay = error instanceof Retry && error.delay ? { delay: error.delay } : {};
      return this.settle(held, "nack", { reason, ...delay });
    }
    return this.settle(held, "ack");
  }

  /** Ends the lease of an entry. If that fails for good, the entry is delivered again. */
  private async settle(held: Held, verb: string, more: Record<string, unknown> = {}, patience?: number) {
    const { entry } = held;
    if (held.settling) return;
    held.settling = true;
    await this.extending;
    try {
      while (!entry.lost) {
        const body = { receipts: [held.receipt], ...more };
        const done = await this.gateway.repeat("POST", `${this.group}/${verb}`, body, { safe: true, patience });
        if (done.results[0].outcome !== "lease-lost") return;
        if (!(await this.findReceipt(held))) {
          this.options.log(`${verb} of entry ${entry.id} came too late`);
          return;
        }
      }
    } catch (error) {
      this.options.log(`${verb} of entry ${entry.id} failed: ${error}`);
    } finally {
      this.held.delete(held);
      this.freed();
    }
  }

  /** Extends each lease when a third of it has passed, until the entry is settled. */
  private extendDue() {
    const due = [...this.held].filter((held) => !held.settling && held.extendAt <= Date.now());
    if (due.length === 0) return;
    for (const held of due) held.extendAt = Infinity;
    this.extending = this.extending.then(() => this.extend(due));
  }

  private async extend(due: Held[]) {
    const { lease, log } = this.options;
    const begun = Date.now();
    try {
      const body = { receipts: due.map((held) => held.receipt), lease: `${lease}ms` };
      const { results } = await this.gateway.call("POST", `${this.group}/extend`, body, {}, Math.max(1_000, lease / 6));
      for (const [index, held] of due.entries()) {
        const { outcome, receipt } = results[index];
        if (outcome === "extended") {
          held.receipt = receipt;
          held.extendAt = begun + lease / 3;
        } else if (await this.findReceipt(held)) {
          held.extendAt = 0;
        } else {
          log(`the lease of entry ${held.entry.id} is lost: ${outcome}`);
          held.entry.lost = true;
        }
      }
    } catch (error) {
      log(`cannot extend leases: ${error}`);
      for (const held of due) if (held.extendAt === Infinity) held.extendAt = Date.now() + lease / 10;
    }
  }

  /** Finds the receipt of an entry that is still held, after the answer to `extend` was lost. */
  private async findReceipt(held: Held): Promise<boolean> {
    const [ms, sequence] = held.entry.id.split("-").map(BigInt);
    const before = sequence > 0n ? `${ms}-${sequence - 1n}` : `${ms - 1n}-${2n ** 64n - 1n}`;
    const body = { consumer: this.consumer, count: 1, history: before };
    try {
      const options = { safe: true, patience: this.options.lease / 2 };
      const { entries } = await this.gateway.repeat("POST", `${this.group}/read`, body, options);
      const same = entries.find((one: any) => one.id === held.entry.id && one.deliveries === held.entry.deliveries);
      if (!same?.receipt || same.receipt === held.receipt) return false;
      held.receipt = same.receipt;
      return true;
    } catch {
      return false;
    }
  }
}
