// What the person looks at: the queue, the current image, the selected ones. The views draw what this says.

import { getState } from "./api.js";
import { readPlace, writePlace } from "./place.js";
import { QueueRows } from "./queue_rows.js";

export const MOST_SELECTED = 1000;

/**
 * Sends "state" (counts, classes and so on are new), "queue" (another queue), "rows" (rows came or changed), "cursor" (current
 * image or selection) and "trouble" (an answer did not come).
 */
export class Session extends EventTarget {
  state = null;
  rows = null;
  cursor = 0;
  #version = 0;  // of the results that the rows are from
  selected = new Set();
  #anchor = 0;

  get queue() { return this.rows?.queue ?? ""; }
  get entry() { return this.state?.queues.find((queue) => queue.name === this.queue); }
  get row() { return this.rows?.at(this.cursor); }

  /** Whether the rows are from results that the server no longer shows. */
  get isOutdated() { return this.rows !== null && this.#version !== this.state.results.version; }

  /** Whether something can be decided: files that could not be read have no label. */
  get isDecidable() { return this.queue !== "quarantined"; }

  /** Return the places that a decision applies to. */
  get targets() {
    return this.selected.size ? [...this.selected].sort((one, other) => one - other) : [this.cursor];
  }

  /** Fetch the state; true if it differs from the last one. */
  async loadState() {
    const state = await getState();
    const isNew = JSON.stringify(state) !== JSON.stringify(this.state);
    this.state = state;
    if (isNew) this.#send("state");
    return isNew;
  }

  /** Go where the address says, or to the first queue that has images. */
  goToAddress() {
    const { queue, at, image } = readPlace();
    const names = this.state.queues.map((one) => one.name);
    const first = this.state.queues.find((one) => one.num > one.num_done) ?? this.state.queues.find((one) => one.num) ?? this.state.queues[0];
    if (names.includes(queue)) this.open(queue, at, image);
    else if (first) this.open(first.name);
  }

  /** Open a queue, unless this is where we are. */
  open(queue, at = 0, image = "") {
    const isHere = queue === this.queue && at === this.cursor && this.row?.digest === image;
    return isHere ? undefined : this.#open(queue, at, image);
  }

  /** Open the queue anew, because it has become another one. */
  reopen() { return this.#open(this.queue, this.cursor, this.row?.digest ?? ""); }

  // An image is looked for in the block of its place, in case the queue has changed.
  async #open(queue, at, image) {
    const num = this.state.queues.find((one) => one.name === queue).num;
    const rows = new QueueRows(queue, num);
    this.rows = rows;
    this.#version = this.state.results.version;
    rows.addEventListener("change", () => this.rows === rows && this.#send("rows"));
    rows.addEventListener("trouble", (event) => this.rows === rows && this.#send("trouble", event.detail));
    this.selected.clear();
    this.cursor = this.#anchor = Math.max(0, Math.min(at, num - 1));
    this.#send("queue");
    if (!num) return writePlace({ queue, at: 0, image: "" });
    try {
      await rows.load([this.cursor]);
    } catch (error) {
      return this.#send("trouble", error);
    }
    if (this.rows !== rows) return;
    const found = image ? rows.placeOf(image) : -1;
    this.moveTo(found >= 0 ? found : this.cursor);
  }

  /** Make another image the current one; with extend, select all from where the selection began. */
  moveTo(place, extend = false) {
    if (!this.rows?.num) return;
    this.cursor = Math.max(0, Math.min(place, this.rows.num - 1));
    if (extend) {
      const first = Math.min(this.#anchor, this.cursor);
      const last = Math.min(Math.max(this.#anchor, this.cursor), first + MOST_SELECTED - 1);
      this.selected = new Set(Array.from({ length: last - first + 1 }, (_, number) => first + number));
    } else {
      this.#anchor = this.cursor;
    }
    this.rows.want(this.cursor, this.cursor);
    this.#tellCursor();
  }

  /** Select an image, or no longer. */
  toggle(place) {
    if (!this.rows?.num) return;
    this.cursor = this.#anchor = place;
    if (!this.selected.delete(place) && this.selected.size < MOST_SELECTED) this.selected.add(place);
    this.#tellCursor();
  }

  clearSelection() {
    this.selected.clear();
    this.#tellCursor();
  }

  /** Write the current image into the address. */
  writeAddress() {
    if (this.rows) writePlace({ queue: this.queue, at: this.cursor, image: this.row?.digest ?? "" });
  }

  #tellCursor() {
    this.writeAddress();
    this.#send("cursor");
  }

  #send(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
