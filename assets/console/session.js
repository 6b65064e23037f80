// The credential of the user, and what it allows. The credential is an API key, a token or a ticket.
// It is kept in sessionStorage: it survives a reload of this tab, and ends with the tab.

const slot = `streamgate ${new URL("../", document.baseURI).pathname}`;

let credential = sessionStorage.getItem(slot);
// Until the rights are known, nothing is held back here: the gateway refuses what it must.
const all = [{ rights: ["publish", "subscribe", "consume", "manage"], streams: "*" }];
let rights = { authentication: false, credential: null, name: "", grants: all, ceiling: null };

// Takes a ticket out of the address (#/streams/orders?ticket=t1.…), so that a link can carry one.
// The fragment never reaches a server; the ticket leaves the address bar at once. A user who signed in
// otherwise stays signed in: nobody else's link replaces that. Returns whether there was a ticket.
export function takeTicket() {
  const found = location.hash.match(/^(.*)[?&]ticket=([^&]+)(?:&(.*))?$/);
  if (!found) return false;
  const [, before, ticket, after] = found;
  if (!isKnown() || isTicket()) remember(decodeURIComponent(ticket));
  const rest = after ? `${before}${before.includes("?") ? "&" : "?"}${after}` : before;
  history.replaceState(null, "", rest);
  return true;
}

export function remember(text) {
  credential = text;
  if (text) sessionStorage.setItem(slot, text);
  else sessionStorage.removeItem(slot);
}

export const isKnown = () => Boolean(credential);
export const isTicket = () => Boolean(credential?.startsWith("t1."));

// The headers of a call. A ticket is valid in the query only.
export const credentialHeaders = () => (credential && !isTicket() ? { authorization: `Bearer ${credential}` } : {});

// The query parameters of a call.
export const credentialQuery = () => (isTicket() ? { ticket: credential } : {});

export const setAccess = (access) => { rights = access; };
export const access = () => rights;

const takes = (pattern, name) => (pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern);
const granted = (grants, right, name) =>
  grants.some((grant) => grant.rights.includes(right) && takes(grant.streams, name));

// Whether the caller has a right on a stream.
export const may = (right, stream) =>
  granted(rights.grants, right, stream) && (rights.ceiling === null || granted(rights.ceiling, right, stream));

// Why a call with this right would be refused; null if it would not be. Without a stream: whether the
// right is missing for all streams.
export function refusal(right, stream) {
  if (isTicket() && right !== "subscribe") return "A ticket only reads. Sign in with an API key to do this.";
  if (stream === undefined) {
    return rights.grants.some((grant) => grant.rights.includes(right)) ? null : `Your credential does not grant the right “${right}” on any stream.`;
  }
  return may(right, stream) ? null : `Your credential does not grant the right “${right}” on “${stream}”.`;
}
