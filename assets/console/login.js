// Signing in and out.

import { call } from "./api.js";
import { ask } from "./dialog.js";
import { field, h } from "./dom.js";
import { isKnown, remember, setAccess } from "./session.js";

let isAsking = false;

// Reads the rights of the caller.
export async function readAccess() {
  setAccess(await call("GET", "console/access"));
}

// Asks for a credential until one is accepted. Resolves with false if the user cancels.
export async function signIn(problem) {
  if (isAsking) return false;
  isAsking = true;
  const input = h("input", { type: "password", id: "credential", class: "mono", autocomplete: "off", required: true, spellcheck: "false" });
  const why = isKnown() && problem ? h("p", { class: "why" }, problem.detail) : h("p", null, "This gateway needs a credential.");
  const done = await ask("Sign in", [why, field("API key, token or ticket", input, "Kept in this tab only, until you close it or sign out.")], {
    submit: "Sign in",
    work: async () => {
      remember(input.value.trim());
      try {
        await readAccess();
      } catch (error) {
        remember(null);
        throw error;
      }
      return true;
    },
  });
  isAsking = false;
  return done === true;
}

export const signOut = () => remember(null);
