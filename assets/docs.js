// The page of all calls: Swagger UI, with what "Try it out" needs to succeed as it stands.
"use strict";

// Swagger UI has a dark style, but does not ask the browser for the preferred one.
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.onchange = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.onchange();

// Adapts the document to this page: calls go to this gateway, and a parameter that can be left out
// has no value to begin with. Swagger UI would fill in its example, and examples exclude each other.
function adapt(spec) {
  const { examples } = spec.components;
  spec.servers = [{ url: new URL("..", location.href).href.replace(/\/$/, "") }];
  for (const item of Object.values(spec.paths)) {
    for (const operation of Object.values(item)) {
      const choices = operation["x-parameter-rules"]?.at_least_one ?? [];
      const needed = new Set(choices.map((names) => names[0]));
      for (const parameter of operation.parameters ?? []) {
        // Swagger UI cannot make an example in base64url.
        delete parameter.schema?.contentEncoding;
        if (parameter.required || needed.has(parameter.name) || parameter.example === undefined) continue;
        const shown = [parameter.example].flat().map((value) => "`" + value + "`").join(", ");
        parameter.description += "\n\nExample: " + shown;
        delete parameter.example;
      }
      for (const response of Object.values(operation.responses)) {
        // Lines can be chosen here, where the answer is only shown.
        Object.assign(response.content ?? {}, response["x-content"]);
        delete response["x-content"];
        // Swagger UI resolves the references of the whole document for each call that is opened.
        // Without those of the errors, and with their examples as text, this takes a fraction of the
        // time.
        const problem = response.content?.["application/problem+json"];
        if (problem?.examples) {
          const first = Object.keys(problem.examples)[0];
          const text = JSON.stringify(examples[first].value, null, 2);
          response.content["application/problem+json"] = { example: text };
        }
      }
    }
  }
  delete spec.components.examples;
  return spec;
}

// The call that was sent last: where a live stream is shown.
let block;
document.addEventListener("click", (event) => {
  if (event.target.closest(".execute, .btn-clear")) {
    block = event.target.closest(".opblock");
    block?.querySelector(".live button")?.click();
    block?.querySelector(".live")?.remove();
  }
}, true);

// Shows a stream below the button that opened it, as it comes, until it ends or is stopped.
async function show(response, controller) {
  const live = document.createElement("section");
  live.className = "live";
  live.innerHTML = "<header><h4>Live</h4><button type=button>Stop</button></header><pre role=log tabindex=0></pre>";
  const [stop, log] = [live.querySelector("button"), live.querySelector("pre")];
  stop.onclick = () => controller.abort();
  block.querySelector(".execute-wrapper, .btn-group").after(live);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done || !live.isConnected) break;
      log.textContent = (log.textContent + value).slice(-100000);
      log.scrollTop = log.scrollHeight;
    }
  } catch (error) {
    if (!controller.signal.aborted) log.textContent += "\n" + error;
  }
  controller.abort();
  live.querySelector("h4").textContent = "Ended";
  stop.remove();
}

// Fetches for Swagger UI, which waits for the end of a body before it shows anything.
async function fetchLive(url, request) {
  const controller = new AbortController();
  const response = await fetch(url, { ...request, signal: controller.signal });
  const type = response.headers.get("content-type") ?? "";
  const endless = type.startsWith("text/event-stream") ||
    (type.startsWith("application/x-ndjson") && new URL(url).searchParams.get("follow") === "true");
  if (!endless || !response.ok || !block) return response;
  show(response, controller);
  const { status, headers } = response;
  return new Response("The stream is shown above, as it comes.", { status, headers });
}

window.onload = async () => {
  const response = await fetch("../openapi.json");
  window.ui = SwaggerUIBundle({
    spec: adapt(await response.json()),
    dom_id: "#swagger-ui",
    deepLinking: true,
    tryItOutEnabled: true,
    defaultModelsExpandDepth: 0,
    requestInterceptor: (request) => Object.assign(request, { userFetch: fetchLive }),
  });
};
