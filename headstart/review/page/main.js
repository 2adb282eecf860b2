// The page: what keys and buttons do, and who is told what.

import { postClass } from "./api.js";
import { Decisions } from "./decisions.js";
import { Detail } from "./detail.js";
import { byId, count, foreign, make } from "./dom.js";
import { Grid } from "./grid.js";
import { listenToKeys, showHelp } from "./keys.js";
import { askName } from "./new_class.js";
import { notify, showConflicts, withdraw } from "./notices.js";
import { Retrain } from "./retrain.js";
import { Session } from "./session.js";
import { drawProgress, drawQueues, drawSummary, tellOfResults, warnOfTestSet } from "./side.js";
import { Zoom } from "./zoom.js";

const ASK_EVERY_MS = 5000;
const ASK_AFTER_MS = 250;
const DROP = "drop";

const session = new Session();
const decisions = new Decisions();
const zoom = new Zoom();
const retrain = new Retrain(() => ask());
const failures = [];  // since the notice was closed
let stateTimer = 0;

const say = (...parts) => byId("status").replaceChildren(...parts);

/** Decide the targets; labelOf(row) is a class, "drop", null to accept the label, or undefined to leave the row out. */
async function decide(labelOf, nothing) {
  if (!session.rows?.num) return;
  if (!session.isDecidable) {
    say("These files could not be read, so nothing can be decided about them.");
    return;
  }
  const places = session.targets;
  const { rows, queue } = session;
  let found;
  try {
    found = await rows.load(places);
  } catch (error) {
    showTrouble(error);
    return;
  }
  const changes = found.map((row) => ({ row, label: labelOf(row) })).filter(({ label }) => label !== undefined);
  if (!changes.length) {
    say(nothing);
    return;
  }
  decisions.decide(changes, queue);
  say(`${count(changes.length, "image")}: `, ...inWords(changes));
  if (rows !== session.rows) return;
  session.selected.clear();
  goToUndecided(places.at(-1));
}

function inWords(changes) {
  const labels = new Set(changes.map(({ label }) => label));
  if (labels.size > 1) return ["suggestions accepted"];
  const [label] = labels;
  return label === null ? ["label kept"] : label === DROP ? ["dropped"] : [foreign(label)];
}

/** Go to the next image that nobody decided, among those that are here; else to the next one. */
function goToUndecided(place) {
  const { rows } = session;
  let next = place + 1;
  while (rows.at(next) && decisions.of(rows.at(next))) next += 1;
  session.moveTo(next < rows.num ? next : place);
  act.focusGrid();
}

const act = {
  decide: (name) => decide(() => name),
  accept: () => decide((row) => row.suggestion && row.suggestion !== row.label ? row.suggestion : undefined, "There is no suggestion for this image."),
  keep: () => decide((row) => row.label ? null : undefined, "This image has no label to keep."),
  drop: () => decide(() => DROP),
  skip: () => {
    say("Skipped.");
    session.selected.clear();
    goToUndecided(session.cursor);
  },
  undo: () => goBack(decisions.undo(), "Undone: ", "There is nothing to undo."),
  redo: () => goBack(decisions.redo(), "Again: ", "There is nothing to redo."),
  choose: (place, isRange) => {
    if (!isRange) session.selected.clear();
    session.moveTo(place, isRange);
  },
  toggle: (place) => session.toggle(place),
  toggleCurrent: () => session.toggle(session.cursor),
  clear: () => session.clearSelection(),
  step: (key, isRange) => {
    const far = grid.columns * grid.lines;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns, PageUp: -far, PageDown: far, Home: -Infinity, End: Infinity };
    session.moveTo(Math.max(0, Math.min(session.rows.num - 1, session.cursor + moves[key])), isRange);
  },
  zoom: () => {
    if (zoom.isOpen) zoom.close();
    else showZoom();
  },
  look: (neighbour) => zoom.show(neighbour, ` · similarity ${neighbour.similarity.toFixed(2)}`),
  search: () => {
    if (zoom.isOpen) zoom.close();
    byId("search").focus();
  },
  askNewClass: async (typed) => {
    if (zoom.isOpen) zoom.close();
    const name = await askName(typed, count(session.targets.length, "image"));
    act.focusGrid();
    if (!name) return;
    try {
      await postClass(name);
      await session.loadState();
      await act.decide(name);
    } catch (error) {
      showTrouble(error);
    }
  },
  help: () => showHelp(act),
  focusGrid: () => {
    if (!zoom.isOpen) byId("grid").focus({ preventScroll: true });
  },
};

const grid = new Grid(byId("grid"), byId("sheet"), session, decisions, act);
const detail = new Detail(session, decisions, act);

function goBack(step, verb, nothing) {
  if (!step) return say(nothing);
  say(verb, count(step.changes.length, "image"), ".");
  const place = session.rows.placeOf(step.changes[0].row.digest);
  if (place >= 0) session.moveTo(place);
  return act.focusGrid();
}

function showZoom() {
  const { row } = session;
  if (!row?.digest) return;
  const decision = decisions.of(row);
  const words = row.suggestion && row.suggestion !== row.label ? [" → ", foreign(row.suggestion), " suggested"] : [];
  zoom.show(row, ...words, ...(decision ? [" · ✓ ", foreign(decision.label)] : []));
}

function showTrouble(error) {
  notify("trouble", "bad", `${error.message} `, make("button", { type: "button", onclick: () => { withdraw("trouble"); reload(); } }, "Try again"));
}

/** Ask for everything again: at the start, or when the server was away. */
async function reload() {
  try {
    const { rows } = session;
    await session.loadState();
    if (!rows) session.goToAddress();
    else if (rows === session.rows) session.reopen();
  } catch (error) {
    showTrouble(error);
  }
}

/** Ask for the state; what others changed is fetched too. */
async function ask() {
  clearTimeout(stateTimer);
  stateTimer = setTimeout(ask, ASK_EVERY_MS);
  if (document.hidden || decisions.numWaiting) return;
  try {
    const { entry: old, rows } = session;
    await session.loadState();
    withdraw("trouble");
    const { entry } = session;
    if (!old) session.goToAddress();
    else if (rows !== session.rows) return;  // opened anew, because the results are new
    else if (old.num !== entry.num) session.reopen();
    else if (old.num_done !== entry.num_done) session.rows.refresh(...grid.view);
  } catch (error) {
    showTrouble(error);
  }
}

async function askSoon() {
  clearTimeout(stateTimer);
  stateTimer = setTimeout(async () => {
    await session.loadState().catch(showTrouble);
    stateTimer = setTimeout(ask, ASK_EVERY_MS);
  }, ASK_AFTER_MS);
}

session.addEventListener("state", () => {
  drawQueues(session, openQueue);
  drawProgress(session);
  drawSummary(session.state);
  warnOfTestSet(session.state.test_labels_changed);
  detail.drawClasses();
  retrain.draw(session.state.retrain);
  tellOfResults(session.state.results);
  if (session.isOutdated) session.reopen();
});
session.addEventListener("queue", () => {
  drawQueues(session, openQueue);
  drawProgress(session);
  byId("empty").hidden = session.rows.num > 0;
  byId("empty").textContent = "This queue is empty.";
  byId("grid").hidden = !session.rows.num;
  grid.reset();
  detail.draw();
});
session.addEventListener("rows", () => {
  grid.draw();
  detail.draw();
  session.writeAddress();
});
session.addEventListener("cursor", () => {
  grid.showCursor();
  detail.draw();
  if (zoom.isOpen) showZoom();
});
session.addEventListener("trouble", (event) => showTrouble(event.detail));

decisions.addEventListener("change", () => {
  grid.draw();
  detail.draw();
  byId("undo").disabled = !decisions.canUndo;
  byId("redo").disabled = !decisions.canRedo;
  document.body.classList.toggle("saving", decisions.numWaiting > 0);
});
decisions.addEventListener("saved", ({ detail: { rows } }) => {
  session.rows?.confirm(rows);
  withdraw("trouble");
  askSoon();
});
decisions.addEventListener("failed", ({ detail: failure }) => {
  if (!byId("notice-failed")) failures.length = 0;
  failures.push(failure);
  const num = failures.reduce((sum, { step }) => sum + step.changes.length, 0);
  const again = () => {
    withdraw("failed");
    for (const one of failures.splice(0)) one.again();
  };
  const what = num === 1 ? "The decision on 1 image was" : `The decisions on ${count(num, "image")} were`;
  notify("failed", "bad", `${failure.error.message} ${what} not confirmed and taken back. What shows a tick is saved. `,
    make("button", { type: "button", onclick: again }, "Try again"));
});
decisions.addEventListener("conflict", ({ detail: { conflicts, step, isUndo } }) => {
  session.rows?.confirm(conflicts.map(({ digest, theirs, by }) => ({ digest, decision: theirs, by })));
  const theirs = new Map(conflicts.map((one) => [one.digest, one.theirs]));
  showConflicts(conflicts, step, isUndo, (digests) => {  // they saw the other answer, so it is no conflict
    if (isUndo) {
      decisions.undoOver(step, Object.fromEntries(digests.map((digest) => [digest, theirs.get(digest)])));
      return;
    }
    const wanted = new Set(digests);
    const changes = step.changes.filter(({ row }) => wanted.has(row.digest)).map((change) => ({ ...change, seen: theirs.get(change.row.digest) }));
    decisions.again({ ...step, changes });
  });
});

function openQueue(name) {
  document.body.classList.remove("side-open");
  session.open(name);
  act.focusGrid();
}

byId("undo").addEventListener("click", act.undo);
byId("redo").addEventListener("click", act.redo);
byId("show-help").addEventListener("click", act.help);
byId("show-queues").addEventListener("click", () => {
  const isOpen = document.body.classList.toggle("side-open");
  byId("show-queues").setAttribute("aria-expanded", String(isOpen));
});
addEventListener("popstate", () => session.state && session.goToAddress());
addEventListener("focus", ask);
addEventListener("beforeunload", (event) => {
  if (decisions.numWaiting) event.preventDefault();
});
listenToKeys(session, act);
decisions.dispatchEvent(new Event("change"));
await reload();
act.focusGrid();
stateTimer = setTimeout(ask, ASK_EVERY_MS);
