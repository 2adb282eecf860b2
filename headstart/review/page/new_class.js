// The question for the name of a new class.

import { byId, make } from "./dom.js";

/** Ask for a name; resolves to it, or to an empty text. Names of classes that there are count as well. */
export function askName(typed, numImages) {
  const dialog = byId("new-class");
  const field = make("input", { id: "class-name", type: "text", required: true, autocomplete: "off", spellcheck: "false", autofocus: true });
  field.value = typed;
  const form = make("form", { method: "dialog" },
    make("h2", { id: "new-class-title" }, "New class"),
    make("label", { for: "class-name" }, `Its name. ${numImages} will belong to it.`), field,
    make("p", { class: "soft" }, "A class is trained once it has training images, so give it several before you retrain."),
    make("div", { class: "buttons" }, make("button", { value: "create", class: "main" }, "Create"),
      make("button", { type: "button", onclick: () => dialog.close("") }, "Cancel")));
  dialog.replaceChildren(form);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "create" ? field.value.trim() : ""), { once: true });
  });
}
