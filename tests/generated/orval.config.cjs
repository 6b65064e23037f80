// Append takes bodies of several media types: this client sends JSON alone.
const json = { include: ["application/json", "application/problem+json"] };
module.exports = {
  streamgate: {
    input: { target: "./openapi.json" },
    output: { target: "./out/orval.ts", client: "fetch", override: { contentType: json } },
  },
};
