// Numbers, durations and ids as text.

const grouped = new Intl.NumberFormat("en-US");

// 1234567 as 1,234,567; unknown numbers as a dash.
export const number = (value) => (value === null || value === undefined ? "–" : grouped.format(value));

// The singular or the plural of a counted noun.
export const counted = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

// Bytes in the largest unit that fits.
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

// A duration in milliseconds, in its largest unit.
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  const steps = [[86_400_000, "d"], [3_600_000, "h"], [60_000, "min"], [1000, "s"]];
  for (const [size, unit] of steps) if (ms >= size) return `${Math.floor(ms / size)} ${unit}`;
  return `${Math.max(0, Math.round(ms))} ms`;
}

// The time in an id, or null for ids that a client chose.
export function timeOf(id) {
  const ms = Number(String(id).split("-")[0]);
  return ms > 1e11 && ms < 1e14 ? ms : null;
}

// How long ago an id was made: "3 min ago".
export function age(id, now = Date.now()) {
  const ms = timeOf(id);
  if (ms === null) return null;
  return now - ms < 1000 ? "now" : `${duration(now - ms)} ago`;
}

// The local time of an id: "11:32:04.125"; with its date if it is not of today.
export function clock(id) {
  const ms = timeOf(id);
  if (ms === null) return "";
  const time = new Date(ms);
  const two = (value, width = 2) => String(value).padStart(width, "0");
  const shown = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${two(time.getMilliseconds(), 3)}`;
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return time.toDateString() === new Date().toDateString() ? shown : `${day} ${shown}`;
}

// Entries per second.
export function rate(value) {
  if (value === null || value === undefined) return null;
  if (value === 0) return "idle";
  return `${value >= 10 ? number(Math.round(value)) : value.toFixed(1)}/s`;
}

// A retention: "≤ 1,000 · 7d · acked".
export function retention(rule) {
  if (!rule) return null;
  const parts = [
    rule.maxlen !== null && rule.maxlen !== undefined && `≤ ${number(rule.maxlen)}`,
    rule.max_age && `≤ ${rule.max_age}`,
    rule.mode === "acked" && "acked",
    rule.hard_maxlen && `hard ≤ ${number(rule.hard_maxlen)}`,
  ];
  return parts.filter(Boolean).join(" · ");
}

// A name of Redis: text, or {"base64"} where it is not UTF-8.
export const nameOf = (name) => (typeof name === "string" ? name : name === null ? "–" : `base64:${name.base64}`);

// At most so many characters of a text.
export const shortened = (text, most) => (text.length > most ? `${text.slice(0, most)}…` : text);
