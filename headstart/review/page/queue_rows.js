// The rows of one queue, fetched in blocks when they are wanted. Old blocks are forgotten, so memory stays bounded.

import { getRows } from "./api.js";

const BLOCK = 200;
const NUM_KEPT = 50;

/** Rows of a queue by place. Sends "change" when rows arrive or change, "trouble" when they cannot be had. */
export class QueueRows extends EventTarget {
  #blocks = new Map();   // number of the block -> rows; the order is that of the last use
  #fetches = new Map();  // number of the block -> promise
  #decided = new Map();  // digest -> what the server confirmed after a fetch may have begun

  constructor(queue, num) {
    super();
    this.queue = queue;
    this.num = num;
  }

  /** Return the row at a place, or undefined if it is not here. */
  at(place) {
    return this.#blocks.get(Math.floor(place / BLOCK))?.[place % BLOCK];
  }

  /** Fetch the rows from first to last that are not here. */
  want(first, last) {
    const end = Math.min(last, this.num - 1);
    for (let number = Math.floor(Math.max(first, 0) / BLOCK); number * BLOCK <= end; number += 1) {
      this.#fetch(number).catch((error) => this.dispatchEvent(new CustomEvent("trouble", { detail: error })));
    }
  }

  /** Return the rows at some places, in that order; those that the queue no longer has are left out. */
  async load(places) {
    const numbers = [...new Set(places.map((place) => Math.floor(place / BLOCK)))];
    const blocks = new Map(await Promise.all(numbers.map(async (number) => [number, await this.#fetch(number)])));
    return places.map((place) => blocks.get(Math.floor(place / BLOCK))[place % BLOCK]).filter(Boolean);
  }

  /** Take over decisions that the server told of. */
  confirm(rows) {
    for (const { digest, decision, by } of rows) this.#decided.set(digest, { decision, by });
    for (const [number, block] of this.#blocks) this.#blocks.set(number, block.map((row) => this.#merged(row)));
    this.dispatchEvent(new Event("change"));
  }

  /** Fetch the rows from first to last again, because the server knows something new. */
  refresh(first, last) {
    const old = this.#blocks;
    this.#blocks = new Map();
    this.#fetches.clear();
    this.#decided.clear();
    this.want(first, last);
    for (const number of this.#fetches.keys()) {
      if (old.has(number)) this.#blocks.set(number, old.get(number));  // shown until the new ones are there
    }
  }

  /** Return the place of an image among the rows that are here, or -1. */
  placeOf(digest) {
    for (const [number, block] of this.#blocks) {
      const found = block.findIndex((row) => row.digest === digest);
      if (found >= 0) return number * BLOCK + found;
    }
    return -1;
  }

  async #fetch(number) {
    const running = this.#fetches.get(number);
    if (running) return running;
    const here = this.#blocks.get(number);
    if (here) {
      this.#blocks.delete(number);  // to the end: used last
      this.#blocks.set(number, here);
      return here;
    }
    const fetching = getRows(this.queue, number * BLOCK, BLOCK).then((answer) => {
      if (this.#fetches.get(number) !== fetching) return answer.rows;  // refreshed since
      this.num = answer.num;
      const rows = answer.rows.map((row) => this.#merged(row));
      this.#blocks.delete(number);
      this.#blocks.set(number, rows);
      for (const oldest of this.#blocks.keys()) {
        if (this.#blocks.size <= NUM_KEPT) break;
        this.#blocks.delete(oldest);
      }
      return rows;
    }).finally(() => {
      if (this.#fetches.get(number) !== fetching) return;
      this.#fetches.delete(number);
      this.dispatchEvent(new Event("change"));
    });
    this.#fetches.set(number, fetching);
    return fetching;
  }

  #merged(row) {
    const decided = this.#decided.get(row.digest);
    return decided && (decided.decision !== row.decision || decided.by !== row.by) ? { ...row, ...decided } : row;
  }
}
