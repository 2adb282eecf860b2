// Decisions: shown at once, sent one after the other, confirmed or taken back by the server's answer; undo and redo.

import { postDecision, postUndo } from "./api.js";

const NUM_PER_REQUEST = 500;

/**
 * A step is what one key press decided: {why, changes: [{row, label, seen}], written}. A label of null accepts the label
 * that the image has. `written` has [digest, id] of each decision that this page wrote: undo takes back only these, neither
 * those of others nor those of another tab. Sends "change" (something is shown otherwise), "saved" {rows, step}, "conflict"
 * {conflicts, step, isUndo} and "failed" {step, error, again}.
 */
export class Decisions extends EventTarget {
  #shown = new Map();  // digest -> {label, step} that the server has not confirmed yet
  #done = [];
  #undone = [];
  #last = Promise.resolve();
  #numWaiting = 0;

  get canUndo() { return this.#done.length > 0; }
  get canRedo() { return this.#undone.length > 0; }
  get numWaiting() { return this.#numWaiting; }

  /** Return the decision to show for a row, or null: {label, isWaiting}. */
  of(row) {
    const waiting = this.#shown.get(row.digest);
    if (waiting) return waiting.label === null ? null : { label: waiting.label, isWaiting: true };
    return row.decision === null ? null : { label: row.decision, isWaiting: false };
  }

  /** Decide: changes are {row, label}. */
  decide(changes, why) {
    const step = { why, written: [], changes: changes.map((change) => ({ ...change, seen: this.of(change.row)?.label ?? null })) };
    this.#undone = [];
    this.#apply(step);
  }

  /** Send a step again. */
  again(step) {
    this.#apply({ ...step, written: [] });
  }

  /** Take the last step back, and return it. */
  undo() {
    const step = this.#done.pop();
    if (!step) return null;
    this.#takeBack(step, {}, () => {
      this.#done.push(step);
    }, () => this.undo());
    return step;
  }

  /** Take a step back on the images of `seen`, which has the decisions of others that this replaces, by digest. */
  undoOver(step, seen) {
    const changes = step.changes.filter(({ row }) => row.digest in seen);
    const written = step.written.filter(([digest]) => digest in seen);
    this.#takeBack({ ...step, changes, written }, seen, () => {}, () => this.undoOver(step, seen));
  }

  #takeBack(step, seen, onFailure, again) {
    this.#show(step, (change) => change.seen, async () => {
      if (!step.written.length) return;  // it failed, so there is nothing to take back
      const { rows, conflicts } = await postUndo(step.written.map(([, id]) => id), seen).catch((error) => {
        onFailure();
        throw error;
      });
      if (!Object.keys(seen).length) this.#undone.push(step);
      this.#tell(step, rows, conflicts, true);
    }, again);
  }

  /** Take the last undo back, and return its step. */
  redo() {
    const step = this.#undone.pop();
    if (!step) return null;
    this.again(step);
    return step;
  }

  #apply(step) {
    this.#done.push(step);
    this.#show(step, (change) => change.label ?? change.row.label, async () => {
      try {
        for (const request of requestsOf(step)) {
          const { rows, conflicts, ids } = await postDecision(request);
          step.written.push(...Object.entries(ids));
          this.#tell(step, rows, conflicts, false);
        }
      } finally {
        if (!step.written.length) this.#done = this.#done.filter((one) => one !== step);
      }
    }, () => this.again(step));
  }

  // The work is sent after all that is waiting: a second decision on an image must reach the server after the first.
  #show(step, labelOf, work, again) {
    for (const change of step.changes) this.#shown.set(change.row.digest, { label: labelOf(change), step });
    this.#numWaiting += 1;
    this.dispatchEvent(new Event("change"));
    const run = async () => {
      let failure = null;
      try {
        await work();
      } catch (error) {
        failure = error;
      }
      for (const { row } of step.changes) {
        if (this.#shown.get(row.digest)?.step === step) this.#shown.delete(row.digest);
      }
      this.#numWaiting -= 1;
      if (failure) this.dispatchEvent(new CustomEvent("failed", { detail: { step, error: failure, again } }));
      this.dispatchEvent(new Event("change"));
    };
    this.#last = this.#last.then(run);
  }

  #tell(step, rows, conflicts, isUndo) {
    if (rows.length) this.dispatchEvent(new CustomEvent("saved", { detail: { rows, step } }));
    if (conflicts.length) this.dispatchEvent(new CustomEvent("conflict", { detail: { conflicts, step, isUndo } }));
  }
}

// A request has one label, and for each image the decision that was seen.
function requestsOf({ changes, why }) {
  const labels = new Map();
  for (const { row, label, seen } of changes) {
    if (!labels.has(label)) labels.set(label, new Map());
    labels.get(label).set(row.digest, seen);  // a queue of pairs may show an image twice
  }
  return [...labels].flatMap(([label, images]) => {
    const all = [...images];
    const requests = [];
    for (let start = 0; start < all.length; start += NUM_PER_REQUEST) {
      const seen = Object.fromEntries(all.slice(start, start + NUM_PER_REQUEST));
      requests.push({ digests: Object.keys(seen), label, seen, why });
    }
    return requests;
  });
}
