// Calls of the API. Addresses are relative to the page, so the console works under any base path.

import { credentialHeaders, credentialQuery } from "./session.js";

// The root of the gateway: the page is at /console/ below it.
export const root = new URL("../", document.baseURI);

// An answer that is a problem, or no answer at all.
export class CallError extends Error {
  constructor(problem) {
    super(problem.detail ?? problem.title);
    this.problem = problem;
  }
}

// Returns the path of a stream and the query that names it. A path cannot carry some names.
export function streamPath(stream, rest = "") {
  if (stream !== "" && stream !== "." && stream !== "..") {
    return { path: `v1/streams/${encodeURIComponent(stream)}${rest}`, query: {} };
  }
  const name64 = btoa(String.fromCharCode(...new TextEncoder().encode(stream)));
  return { path: `v1/streams/_${rest}`, query: { name64 } };
}

// Builds the address of a call. A list repeats its parameter; empty values are left out.
export function address(path, query) {
  const url = new URL(path, root);
  for (const [name, value] of Object.entries({ ...query, ...credentialQuery() })) {
    for (const one of [value].flat()) {
      if (one !== null && one !== undefined && one !== "") url.searchParams.append(name, one);
    }
  }
  return url;
}

async function problemOf(response) {
  const text = await response.text().catch(() => "");
  const problem = { status: response.status, title: `HTTP ${response.status}`, request_id: response.headers.get("x-request-id") };
  try {
    return { ...problem, ...JSON.parse(text) };
  } catch {
    return { ...problem, detail: text.slice(0, 500) };
  }
}

// Sends a request and returns its response, whatever its status.
async function send(method, path, { query, json, body, headers, signal } = {}) {
  const all = { ...credentialHeaders(), ...headers };
  if (json !== undefined) {
    all["content-type"] ??= "application/json";
    body = JSON.stringify(json);
  }
  try {
    return await fetch(address(path, query), { method, body, headers: all, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    const detail = "The gateway does not answer. Check that it runs and that you are online.";
    throw new CallError({ title: "No connection", detail, status: 0 });
  }
}

// Sends a request and returns its response, if it succeeded.
export async function open(method, path, options) {
  const response = await send(method, path, options);
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status === 401) document.dispatchEvent(new CustomEvent("credential-needed", { detail: problem }));
  throw new CallError(problem);
}

// Sends a request and returns its JSON; null if there is none.
export async function call(method, path, options) {
  const text = await (await open(method, path, options)).text();
  return text ? JSON.parse(text) : null;
}

// Calls a route of a stream.
export function ofStream(method, stream, rest, options = {}) {
  const { path, query } = streamPath(stream, rest);
  return call(method, path, { ...options, query: { ...query, ...options.query } });
}

// The route of a group below its stream.
export const groupRoute = (group, rest = "") => `/groups/${encodeURIComponent(group)}${rest}`;
