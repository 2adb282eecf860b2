// The photo in full: fitted to the window, or at its own size.

import { photoOf } from "./api.js";
import { byId, foreign, make } from "./dom.js";

/** The dialog with the photo of an image; keys of decisions go on working meanwhile. */
export class Zoom {
  #digest = "";

  constructor() {
    this.dialog = byId("zoom");
    this.image = make("img", { alt: "", onclick: () => this.#resize(), onload: () => this.#say(""), onerror: () => this.#say("This photo cannot be shown.") });
    this.box = make("div", { class: "full", tabindex: "0", autofocus: true }, this.image);
    this.words = make("p", { class: "words" });
    this.trouble = make("p", { class: "soft", role: "status" });
    this.dialog.append(this.box, make("div", { class: "bar" }, this.words, this.trouble,
      make("button", { type: "button", onclick: () => this.#resize() }, "Own size"),
      make("button", { type: "button", onclick: () => this.dialog.close() }, "Close ", make("kbd", {}, "z"))));
  }

  get isOpen() { return this.dialog.open; }

  /** Show an image: {digest, path, label}, with more words about it. */
  show(row, ...words) {
    if (!this.dialog.open) this.dialog.showModal();
    this.words.replaceChildren(foreign(row.label || "no label"), ...words, " · ", foreign(row.path));
    if (row.digest === this.#digest) return;
    this.#digest = row.digest;
    this.box.classList.remove("own");
    this.image.classList.toggle("tiny", row.width > 0 && Math.max(row.width, row.height) <= 64);
    this.image.alt = row.path;
    this.#say("Loading …");
    this.image.src = photoOf(row.digest);
  }

  close() { this.dialog.close(); }

  #say(text) { this.trouble.textContent = text; }

  #resize() { this.box.classList.toggle("own"); }
}
