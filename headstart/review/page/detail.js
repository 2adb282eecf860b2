// The panel beside the grid: the current image, what can be decided, and why it is in the queue.

import { getImage, thumbOf } from "./api.js";
import { findClasses, keysOf } from "./classes.js";
import { byId, button, count, foreign, make, percent, renew } from "./dom.js";

const ASK_AFTER_MS = 120;  // while somebody moves quickly, only the last image is asked for

/** The panel. Its buttons call the methods of act. */
export class Detail {
  #digest = null;
  #timer = 0;
  #facts = make("div", { class: "facts" });

  constructor(session, decisions, act) {
    Object.assign(this, { session, decisions, act, box: byId("detail") });
    this.top = make("div", { class: "top" });
    this.actions = make("div", { class: "actions", role: "group", "aria-label": "Decide" });
    this.classes = make("div", { class: "classes", role: "group", "aria-label": "Classes" });
    this.search = new ClassSearch(session, act);
    this.box.append(this.top, this.actions, this.classes, this.search.box, this.#facts);
  }

  /** Draw what is known of the current image, and fetch the rest. */
  draw() {
    const { row, selected, rows } = this.session;
    this.box.hidden = !rows?.num;
    if (!row) return this.top.replaceChildren(make("p", {}, "…"));
    const decision = this.decisions.of(row);
    this.#drawTop(row, decision, selected.size);
    this.#drawActions(row, selected.size);
    if (row.digest !== this.#digest) {
      this.#digest = row.digest;
      this.box.scrollTop = 0;
      this.#facts.classList.add("old");  // stays until the next is here, so that the panel does not flicker
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.ask(), ASK_AFTER_MS);
    }
    return undefined;
  }

  /** Fetch probabilities, neighbours and history of the current image. */
  async ask() {
    const digest = this.#digest;
    if (!digest || !this.session.isDecidable) return this.#facts.replaceChildren();
    try {
      const facts = await getImage(digest);
      if (digest === this.#digest) this.#drawFacts(facts);
    } catch (error) {
      if (digest === this.#digest) this.#facts.replaceChildren(make("p", { class: "bad" }, error.message));
    }
    this.#facts.classList.toggle("old", digest !== this.#digest);
    return undefined;
  }

  /** Draw the buttons of the classes, with their keys. */
  drawClasses() {
    const keyed = keysOf(this.session.state.classes);
    renew(this.classes, ...[...keyed].map(([key, name]) =>
      button(foreign(name), key, () => this.act.decide(name), { class: "class" })));
  }

  #drawTop(row, decision, numSelected) {
    const isTiny = Math.max(row.width, row.height) <= 64;
    let image = this.top.querySelector("img");
    if (!image || image.dataset.digest !== row.digest) {
      image = make("img", { alt: "", "data-digest": row.digest, class: isTiny ? "tiny" : null });
      image.addEventListener("error", () => image.classList.add("missing"));
      if (row.digest) image.src = thumbOf(row.digest);
    }
    const size = row.width && row.height ? `${row.width} × ${row.height} px` : "";
    renew(this.top,
      make("button", { type: "button", class: "open", "aria-label": "Zoom", "aria-keyshortcuts": "z", onclick: () => this.act.zoom() }, image, make("kbd", {}, "z")),
      make("div", { class: "said" },
        make("h2", {}, row.label ? foreign(row.label) : "no label",
          row.suggestion && row.suggestion !== row.label ? make("span", { class: "suggestion" }, " → ", foreign(row.suggestion), make("small", {}, " suggested")) : null),
        make("p", { class: "path" }, foreign(row.path)),
        make("p", { class: "soft" }, [row.split && `${row.split} set`, size].filter(Boolean).join(" · ")),
        make("p", { class: "why" }, foreign(row.why)),
        decision ? make("p", { class: "decided" }, "✓ ", decision.label === row.label ? "accepted as it is" : foreign(decision.label),
          decision.isWaiting ? " (being saved)" : row.by ? [" by ", row.by].join("") : "") : null,
        numSelected ? make("p", { class: "many" }, `Decisions apply to the ${count(numSelected, "selected image")}.`) : null),
    );
  }

  #drawActions(row, numSelected) {
    const { act } = this;
    if (!this.session.isDecidable) return renew(this.actions, button("Skip", "s", () => act.skip()));
    const hasSuggestion = numSelected || (row.suggestion && row.suggestion !== row.label);
    renew(this.actions,
      button(hasSuggestion && !numSelected ? phrase("It is", row.suggestion) : phrase("Accept"), "Enter", () => act.accept(), { class: "main", disabled: !hasSuggestion }),
      button(row.label && !numSelected ? phrase("Keep", row.label) : phrase("Keep"), "k", () => act.keep(), { disabled: !row.label && !numSelected }),
      button("Drop", "d", () => act.drop(), { title: "Leave the image out of training and tests" }),
      button("Skip", "s", () => act.skip()),
    );
    return undefined;
  }

  #drawFacts({ probabilities, nearest, nearest_problem: problem, history }) {
    const parts = [];
    for (const [track, top] of tracksOf(probabilities)) {
      parts.push(make("h3", {}, `What ${track} says`), make("ol", { class: "bars" }, ...top.map(({ label, p }) => {
        const bar = make("i");
        bar.style.width = `${100 * p}%`;
        return make("li", {}, foreign(label), make("span", {}, percent(p)), make("i", { class: "track" }, bar));
      })));
    }
    if (problem) parts.push(make("p", { class: "soft" }, problem));
    if (nearest.length) {
      parts.push(make("h3", {}, "Most similar images"), make("ul", { class: "nearest" }, ...nearest.map((one) => {
        const image = make("img", { alt: "", loading: "lazy", width: 72, height: 72 });
        image.src = thumbOf(one.digest);
        return make("li", {}, make("button", { type: "button", title: one.path, onclick: () => this.act.look(one),
          "aria-label": `${one.label}, similarity ${one.similarity.toFixed(2)}, ${one.path}` }, image, foreign(one.label), make("small", {}, one.similarity.toFixed(2))));
      })));
    }
    if (history.length) {
      parts.push(make("h3", {}, "Earlier decisions"), make("ul", { class: "history" }, ...history.map((fix) =>
        make("li", {}, foreign(fix.label), make("small", {}, ["", fix.who, fix.when, fix.why].filter(Boolean).map((word) => ` · ${word}`).join(""))))));
    }
    this.#facts.replaceChildren(...parts);
  }
}

const phrase = (verb, name = "") => make("span", {}, verb, name ? " " : null, name ? foreign(name) : null);

// The highest classes of each track, with the track's name.
function tracksOf(probabilities) {
  const tracks = new Map();
  for (const one of probabilities) {
    const name = one.track === "finetune" ? "the fine-tuned network" : "the head";
    tracks.set(name, [...(tracks.get(name) ?? []), one]);
  }
  return tracks;
}

/** The field that finds a class while somebody types. */
class ClassSearch {
  #found = [];
  #chosen = 0;

  constructor(session, act) {
    Object.assign(this, { session, act });
    this.field = make("input", {
      id: "search", type: "text", placeholder: "Another class", autocomplete: "off", spellcheck: "false", role: "combobox",
      "aria-label": "Another class", "aria-controls": "found", "aria-expanded": "false", "aria-autocomplete": "list", "aria-keyshortcuts": "/",
      oninput: () => this.#find(), onkeydown: (event) => this.#key(event), onfocus: () => this.#open(), onblur: () => this.#close(),
    });
    this.list = make("ul", { id: "found", role: "listbox", "aria-label": "Classes that fit", hidden: true });
    this.box = make("div", { class: "search" }, this.field, make("kbd", { "aria-hidden": "true" }, "/"), this.list);
  }

  #open() {
    this.#find();
    this.box.scrollIntoView({ block: "nearest" });
    if (matchMedia("(max-width: 40rem)").matches) this.box.scrollIntoView({ block: "start" });  // room for the list
  }

  #find() {
    const typed = this.field.value.trim();
    this.#found = findClasses(this.session.state.classes, typed).map((name) => ({ name, isNew: false }));
    if (typed && !this.session.state.classes.includes(typed)) this.#found.push({ name: typed, isNew: true });
    this.#chosen = 0;
    this.#draw();
  }

  #draw() {
    this.list.hidden = !this.#found.length;
    this.field.setAttribute("aria-expanded", String(!this.list.hidden));
    this.list.replaceChildren(...this.#found.map(({ name, isNew }, number) =>
      make("li", { role: "option", id: `found-${number}`, "aria-selected": number === this.#chosen, onpointerdown: (event) => { event.preventDefault(); this.#take(number); } },
        isNew ? "New class " : null, foreign(name))));
    if (this.#found.length) this.field.setAttribute("aria-activedescendant", `found-${this.#chosen}`);
  }

  #close() {
    this.#found = [];
    this.#draw();
    this.field.removeAttribute("aria-activedescendant");
  }

  #take(number) {
    const found = this.#found[number];
    if (!found) return;
    this.field.value = "";
    this.field.blur();
    if (found.isNew) this.act.askNewClass(found.name);
    else this.act.decide(found.name);
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && this.#found.length) {
      this.#chosen = (this.#chosen + step + this.#found.length) % this.#found.length;
      this.#draw();
    } else if (event.key === "Enter") {
      this.#take(this.#chosen);
    } else if (event.key === "Escape") {
      this.field.value = "";
      this.act.focusGrid();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
