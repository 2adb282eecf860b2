// Lines above the grid that somebody must see: failures, conflicts, a changed test set.

import { byId, count, foreign, make } from "./dom.js";

const NUM_CONFLICTS_SHOWN = 4;

const close = (element) => make("button", { type: "button", class: "close", "aria-label": "Close this notice", onclick: () => element.remove() }, "×");

/** Show a notice, in place of one with the same id. */
export function notify(id, kind, ...parts) {
  const notice = make("div", { id: `notice-${id}`, class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" }, ...parts);
  notice.append(close(notice));
  const old = byId(notice.id);
  if (old) old.replaceWith(notice);
  else byId("notices").append(notice);
  return notice;
}

/** Take a notice away. */
export const withdraw = (id) => byId(`notice-${id}`)?.remove();

const answerOf = (label) => label === null ? "undecided" : label;

/**
 * Show decisions that somebody else made meanwhile, with both answers: what we decided, or what was there before, if we took
 * our decision back. mine(digests) puts ours over theirs.
 */
export function showConflicts(conflicts, step, isUndo, mine) {
  const changes = new Map(step.changes.map((change) => [change.row.digest, change]));
  const ours = (change) => isUndo ? answerOf(change.seen) : change.label ?? change.row.label;
  const verbs = isUndo ? [", you went back to ", "Go back to "] : [", you decided ", "Use "];
  const rest = new Set(conflicts.map(({ digest }) => digest));
  const list = make("ul", {}, ...conflicts.slice(0, NUM_CONFLICTS_SHOWN).map(({ digest, theirs, by, when }) => {
    const change = changes.get(digest);
    const settle = (isMine) => {
      item.remove();
      rest.delete(digest);
      if (isMine) mine([digest]);
      if (!rest.size) notice.remove();
    };
    const item = make("li", {}, foreign(change.row.path), ": ", foreign(by || "somebody"),
      ...(theirs === null ? [" took the decision back"] : [" decided ", foreign(theirs)]),
      when ? make("small", {}, ` (${when})`) : null, verbs[0], foreign(ours(change)), ". ",
      make("button", { type: "button", onclick: () => settle(false) }, "Keep ", foreign(answerOf(theirs))),
      make("button", { type: "button", onclick: () => settle(true) }, verbs[1], foreign(ours(change))));
    return item;
  }));
  const numMore = conflicts.length - NUM_CONFLICTS_SHOWN;
  const all = (isMine) => {
    notice.remove();
    if (isMine) mine([...rest]);
  };
  const notice = notify(`conflict-${conflicts[0].digest}`, "bad",
    make("strong", {}, `${count(conflicts.length, "image")} got another answer meanwhile; nothing was overwritten.`), list,
    numMore > 0 ? make("p", {}, `And ${numMore.toLocaleString("en")} more.`) : null,
    conflicts.length > 1 ? make("div", { class: "buttons" }, make("button", { type: "button", onclick: () => all(false) }, "Keep all of theirs"),
      make("button", { type: "button", onclick: () => all(true) }, isUndo ? "Go back on all" : "Use all of mine")) : null);
}
