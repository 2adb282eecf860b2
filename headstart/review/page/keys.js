// The keys, and the help that lists them.

import { byId, make } from "./dom.js";
import { keysOf } from "./classes.js";

/** Return the table of keys: [keys, how they are shown, what they do, function]. */
function tableOf(act) {
  return [
    [["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "← → ↑ ↓", "another image", (event) => act.step(event.key, event.shiftKey)],
    [["PageUp", "PageDown", "Home", "End"], "PgUp PgDn Home End", "far away", (event) => act.step(event.key, event.shiftKey)],
    [[], "⇧ ← → ↑ ↓", "select a range (also ⇧ click)"],
    [[" "], "Space", "select the image, or no longer", () => act.toggleCurrent()],
    [["Escape"], "Esc", "select nothing", () => act.clear()],
    [["Enter"], "Enter", "accept the suggestion", () => act.accept()],
    [["k"], "k", "keep: accept the label as it is", () => act.keep()],
    [[], "1 … 9", "this class (the panel shows which)"],
    [["/", "c"], "/ or c", "type the name of a class", () => act.search()],
    [["n"], "n", "new class", () => act.askNewClass("")],
    [["d"], "d", "drop: leave the image out", () => act.drop()],
    [["s"], "s", "skip: decide later", () => act.skip()],
    [["u"], "u", "undo", () => act.undo()],
    [["r"], "r", "redo", () => act.redo()],
    [["z"], "z", "zoom, and back", () => act.zoom()],
    [["?"], "?", "this help", () => act.help()],
  ];
}

const FIELDS = "input, textarea, select";
const PRESSED_BY_KEY = "button, a, summary";

/** Listen to the keys of the whole page. */
export function listenToKeys(session, act) {
  const actions = new Map(tableOf(act).flatMap(([keys, , , run]) => keys.map((key) => [key, run])));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.target.matches(FIELDS)) return;
    const dialog = document.querySelector("dialog[open]");
    if (dialog && dialog.id !== "zoom") return;  // a dialog has its own keys; while one zooms, all go on
    if ([" ", "Enter"].includes(event.key) && event.target.matches(PRESSED_BY_KEY)) return;
    if (dialog && event.key === "Escape") return;
    const name = keysOf(session.state?.classes ?? []).get(event.key);
    const run = name === undefined ? actions.get(event.key) ?? actions.get(event.key.toLowerCase()) : () => act.decide(name);
    if (!run) return;
    event.preventDefault();
    run(event);
  });
}

/** Show the help. */
export function showHelp(act) {
  const dialog = byId("help");
  const rows = tableOf(act).map(([, shown, does]) => make("tr", {}, make("th", { scope: "row" }, ...shown.split(" ").map((key) =>
    ["or", "…"].includes(key) ? ` ${key} ` : make("kbd", {}, key))), make("td", {}, does)));
  dialog.replaceChildren(
    make("h2", { id: "help-title" }, "Keys"),
    make("table", {}, make("tbody", {}, ...rows)),
    make("p", { class: "soft" }, "A decision is saved at once, into the file of label fixes. It applies to the selected images, or "
      + "else to the current one. Retrain to see what the decisions bring."),
    make("form", { method: "dialog" }, make("button", { autofocus: true }, "Close")),
  );
  dialog.showModal();
}
