// The grid of thumbnails. Only the cells in view and two lines around them are in the document.

import { foreign, make } from "./dom.js";
import { thumbOf } from "./api.js";

const GAP = 8;
const CAPTION = 46;
const NUM_AROUND = 2;
const FETCH_AFTER_MS = 60;  // while somebody scrolls fast, nothing is fetched

/** The grid in an element that scrolls. Calls act.choose(place, event) and act.toggle(place). */
export class Grid {
  #cells = new Map();  // place -> cell
  #columns = 1;
  #side = 1;
  #timer = 0;
  #frame = 0;

  constructor(box, sheet, session, decisions, act) {
    Object.assign(this, { box, sheet, session, decisions, act });
    box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.#measure()).observe(box);
    sheet.addEventListener("click", (event) => this.#click(event));
    sheet.addEventListener("dblclick", () => act.zoom());
  }

  get columns() { return this.#columns; }

  /** Return how many lines fit, for Page Up and Page Down. */
  get lines() { return Math.max(1, Math.floor(this.box.clientHeight / this.#lineHeight)); }

  get #lineHeight() { return this.#side + CAPTION + GAP; }

  /** Begin anew, because the queue is another one. */
  reset() {
    for (const cell of this.#cells.values()) cell.remove();
    this.#cells.clear();
    this.#measure();
    this.showCursor();
  }

  /** Draw in the next frame. */
  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  /** Scroll until the current image is in view. */
  showCursor() {
    const top = Math.floor(this.session.cursor / this.#columns) * this.#lineHeight;
    const { scrollTop, clientHeight } = this.box;
    if (top < scrollTop) this.box.scrollTop = top;
    else if (top + this.#lineHeight > scrollTop + clientHeight) this.box.scrollTop = top + this.#lineHeight - clientHeight;
    this.draw();
  }

  /** Return the places in view: [first, last]. */
  get view() {
    const line = Math.floor(this.box.scrollTop / this.#lineHeight);
    const last = Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.#lineHeight);
    const num = this.session.rows?.num ?? 0;
    return [Math.max(0, line - NUM_AROUND) * this.#columns, Math.min(num, (last + NUM_AROUND) * this.#columns) - 1];
  }

  #measure() {
    const width = this.box.clientWidth - 2 * GAP;
    const least = width < 480 ? 96 : 128;
    const first = this.view[0];
    this.#columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    const side = Math.floor((width - GAP * (this.#columns - 1)) / this.#columns);
    if (side === this.#side) return this.draw();
    this.#side = side;
    this.box.style.setProperty("--side", `${side}px`);
    for (const cell of this.#cells.values()) cell.remove();
    this.#cells.clear();
    if (first) this.showCursor();
    return this.draw();
  }

  #draw() {
    const { rows } = this.session;
    if (!rows) return;
    this.sheet.style.height = `${Math.ceil(rows.num / this.#columns) * this.#lineHeight + GAP}px`;
    const [first, last] = this.view;
    for (const [place, cell] of this.#cells) {
      if (place >= first && place <= last) continue;
      cell.remove();
      this.#cells.delete(place);
    }
    for (let place = last; place >= first; place -= 1) this.#drawCell(place);  // so that each finds the next one there
    const current = this.#cells.get(this.session.cursor);
    if (current) this.box.setAttribute("aria-activedescendant", current.id);
    else this.box.removeAttribute("aria-activedescendant");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.session.rows === rows && rows.want(first, last), FETCH_AFTER_MS);
  }

  #drawCell(place) {
    const { rows, cursor, selected } = this.session;
    const row = rows.at(place);
    const decision = row ? this.decisions.of(row) : null;
    let cell = this.#cells.get(place);
    const key = JSON.stringify([row?.digest, row?.label, row?.suggestion, row?.by, decision]);
    if (!cell || cell.dataset.key !== key) {
      const made = this.#make(place, row, decision);
      made.dataset.key = key;
      if (cell && row && cell.dataset.digest === row.digest) made.firstChild.replaceWith(cell.firstChild);  // keeps the picture
      if (cell) cell.replaceWith(made);
      else this.sheet.insertBefore(made, this.#cells.get(place + 1) ?? null);
      this.#cells.set(place, made);
      cell = made;
    }
    const line = Math.floor(place / this.#columns);
    cell.style.transform = `translate(${GAP + (place % this.#columns) * (this.#side + GAP)}px, ${GAP + line * this.#lineHeight}px)`;
    cell.classList.toggle("current", place === cursor);
    cell.setAttribute("aria-selected", selected.has(place));
    cell.setAttribute("aria-setsize", rows.num);
  }

  #make(place, row, decision) {
    const name = ["cell", decision && "done", decision?.isWaiting && "waiting"].filter(Boolean).join(" ");
    const cell = make("div", { class: name, role: "option", id: `cell-${place}`, "aria-posinset": place + 1, "data-place": place, "data-digest": row?.digest });
    if (!row) {
      cell.append(make("div", { class: "photo" }), make("p", {}, "…"));
      return cell;
    }
    cell.setAttribute("aria-label", describe(row, decision));
    const isTiny = Math.max(row.width, row.height) <= 64;
    const image = make("img", {
      loading: "lazy", decoding: "async", draggable: "false", alt: "", width: 192, height: 192, class: isTiny ? "tiny" : null,
      onerror: () => image.replaceWith(make("span", { class: "gone" }, "no picture")),
    });
    if (row.digest) image.src = thumbOf(row.digest);
    const answer = decision?.label ?? row.suggestion;
    const isChange = answer && answer !== row.label;
    cell.append(
      make("div", { class: "photo" }, row.digest ? image : make("span", { class: "gone" }, "no picture")),
      make("span", { class: "tick", "aria-hidden": "true" }),
      make("p", { class: isChange && decision ? "was" : "label" }, foreign(row.label || "no label")),
      make("p", { class: "answer" }, mark(row, decision), isChange ? foreign(answer) : null),
    );
    return cell;
  }

  #click(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const place = Number(cell.dataset.place);
    if (event.target.closest(".tick") || event.ctrlKey || event.metaKey) this.act.toggle(place);
    else this.act.choose(place, event.shiftKey);
  }
}

function mark(row, decision) {
  if (!decision) return row.suggestion && row.suggestion !== row.label ? "→ " : "";
  if (decision.label === row.label) return "✓ accepted";
  return "✓ ";
}

function describe(row, decision) {
  const words = [row.path, row.label ? `label ${row.label}` : "no label"];
  if (decision) words.push(decision.label === row.label ? "accepted" : `decided ${decision.label}`);
  else if (row.suggestion && row.suggestion !== row.label) words.push(`suggestion ${row.suggestion}`);
  return words.join(", ");
}
