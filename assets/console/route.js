// The address bar: what is shown is the fragment, such as #/streams/orders/history?since=1h.

// Returns the segments and the parameters of the current address.
export function current() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const decoded = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  return {
    segments: path ? path.split("/").map(decoded) : [],
    params: Object.fromEntries(new URLSearchParams(query ?? "")),
  };
}

// Builds an address from segments and parameters. Empty parameters are left out.
export function link(segments, params = {}) {
  const kept = Object.entries(params).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(kept).toString();
  return `#/${segments.map(encodeURIComponent).join("/")}${query ? `?${query}` : ""}`;
}

export const go = (segments, params) => { location.hash = link(segments, params); };

// Changes the address without showing anything else.
export const note = (segments, params) => history.replaceState(null, "", link(segments, params));
