// Follows a stream with the npm package `eventsource`; prints each event as a line of JSON.
// Must run in the directory of node_modules. Usage: node follow_eventsource.mjs URL
import { createRequire } from "node:module";

const { EventSource } = createRequire(process.cwd() + "/")("eventsource");
const source = new EventSource(process.argv[2]);
source.addEventListener("error", () => {
  if (source.readyState === 2) {
    process.stdout.write(JSON.stringify({ event: "closed", data: "" }) + "\n");
  }
});
for (const name of ["message", "$open", "$gap", "$reset", "$end", "$error"]) {
  source.addEventListener(name, ({ type, lastEventId, data }) => {
    process.stdout.write(JSON.stringify({ event: type, id: lastEventId, data }) + "\n");
  });
}
