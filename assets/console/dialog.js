// Modal dialogs. The browser keeps the focus inside, closes them by Escape and gives the focus back.

import { fill, h, uniqueId } from "./dom.js";
import { problemBox } from "./notices.js";

// Opens a dialog with a form. `work` runs when the form is sent; if it fails, the problem is shown in
// the dialog, which stays open. Resolves with the result of `work`, or undefined if cancelled.
export function ask(title, content, { submit = "OK", danger = false, work = async () => true } = {}) {
  const heading = uniqueId("dialog");
  const trouble = h("div");
  const send = h("button", { type: "submit", class: danger ? "danger" : "primary" }, submit);
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  let result;
  const form = h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      send.disabled = true;
      try {
        result = await work();
        dialog.close();
      } catch (error) {
        fill(trouble, problemBox(error));
      } finally {
        send.disabled = false;
      }
    },
  }, h("h2", { id: heading }, title), content, trouble, h("div", { class: "buttons" }, send, cancel));
  const dialog = h("dialog", { "aria-labelledby": heading }, form);
  document.body.append(dialog);
  dialog.showModal();
  // A mistaken Enter must not delete anything.
  if (danger) cancel.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
  });
}

// Asks before something that cannot be undone, and names it.
export function confirmed(title, name, consequence, submit, work) {
  const content = [h("p", null, h("strong", { class: "mono name" }, name)), h("p", null, consequence)];
  return ask(title, content, { submit, danger: true, work: async () => (await work(), true) });
}
