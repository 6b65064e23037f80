// Buttons for actions that need a right. An action that the caller may not take stays visible but
// does nothing, and says why.

import { h } from "./dom.js";
import { attempt, notice } from "./notices.js";
import { refusal } from "./session.js";

// Returns a button that runs `work` if the caller has the right on the stream.
export function action(label, { right, stream, kind = "", ...props }, work) {
  const why = right ? refusal(right, stream) : null;
  const button = h("button", {
    type: "button", class: kind, ...props,
    "aria-disabled": why ? "true" : null,
    title: why ?? props.title,
    onclick: () => (why ? notice(why) : attempt(button, () => work(button))),
  }, label);
  return button;
}

// A paragraph that says why something is missing here.
export const missingRight = (right, stream) => h("p", { class: "why" }, refusal(right, stream));
