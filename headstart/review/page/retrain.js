// Retraining the head: progress, and what the decisions brought.

import { cancelRetrain, getRetrain, startRetrain } from "./api.js";
import { byId, count, draw, make, percent, points } from "./dom.js";

const ASK_EVERY_MS = 1000;

const TITLES = {
  idle: "No run yet", running: "Training the head …", done: "Done", failed: "It failed", cancelled: "Cancelled",
  locked: "Somebody else uses the pipeline",
};

/** The panel of retraining; calls onDone when new numbers are there. */
export class Retrain {
  #timer = 0;

  constructor(onDone) {
    this.onDone = onDone;
    this.dialog = byId("retrain");
    this.opener = byId("show-retrain");
    this.words = make("div", { "aria-live": "polite" });
    this.seconds = make("small");
    this.lines = make("pre", { tabindex: "0", "aria-label": "What the pipeline prints" });
    this.start = make("button", { type: "button", class: "main", onclick: () => this.#begin() }, "Retrain the head");
    this.cancel = make("button", { type: "button", onclick: () => this.#ask(cancelRetrain) }, "Cancel the run");
    this.dialog.append(
      make("h2", { id: "retrain-title" }, "Retrain"),
      make("p", { class: "soft" }, "Runs the head's part of the pipeline with your decisions and compares before and after on the "
        + "test images that both have. You can go on deciding meanwhile."),
      this.words, this.seconds, this.lines,
      make("div", { class: "buttons" }, this.start, this.cancel, make("button", { type: "button", onclick: () => this.dialog.close() }, "Close")));
    this.opener.addEventListener("click", () => this.dialog.showModal());
  }

  /** Draw what the server says of the run. */
  draw(run) {
    const wasRunning = this.state === "running";
    this.state = run.state;
    const isRunning = run.state === "running";
    this.opener.textContent = isRunning ? `Retraining ${Math.round(run.seconds)} s` : "Retrain";
    this.opener.classList.toggle("busy", isRunning);
    this.start.hidden = isRunning;
    this.cancel.hidden = !isRunning;
    this.lines.textContent = run.lines.join("\n");
    this.lines.hidden = !run.lines.length;
    const title = make("h3", { class: ["failed", "locked"].includes(run.state) ? "bad" : null }, TITLES[run.state]);
    const news = JSON.stringify([run.state, run.reason, run.comparison]);
    if (news !== this.news) {  // a reader hears it once
      this.words.replaceChildren(title, ...(run.reason ? [make("p", {}, run.reason)] : []), ...(run.comparison ? compare(run.comparison) : []));
    }
    this.news = news;
    this.seconds.textContent = run.state === "idle" ? "" : `${run.seconds.toFixed(run.seconds < 10 ? 1 : 0)} seconds`;
    clearTimeout(this.#timer);
    if (isRunning) this.#timer = setTimeout(() => this.#ask(getRetrain), ASK_EVERY_MS);
    else if (wasRunning) this.onDone(run);
  }

  async #begin() {
    await this.#ask(startRetrain);
    this.dialog.focus();
  }

  async #ask(call) {
    try {
      this.draw(await call());
    } catch (error) {
      this.words.replaceChildren(make("p", { class: "bad", role: "alert" }, error.message));
      clearTimeout(this.#timer);
      if (this.state === "running") this.#timer = setTimeout(() => this.#ask(getRetrain), 3 * ASK_EVERY_MS);
    }
  }
}

/** Return the comparison in words. */
function inWords(one) {
  const suspects = `${count(one.suspects_gone, "label suspect")} went away, ${one.suspects_new.toLocaleString("en")} new.`;
  if (!one.num_common) return ["No test image is in both runs, so their accuracy cannot be compared.", suspects];
  const chance = one.low <= 0 && one.high >= 0 ? "The difference may be chance." : one.difference > 0 ? "The head is better than before." : "The head is worse than before.";
  return [
    `On the ${count(one.num_common, "test image")} that both have, the accuracy went from ${percent(one.accuracy_before)} to ${percent(one.accuracy_after)}: `
      + `${points(one.difference)} points (95 % interval ${points(one.low)} to ${points(one.high)}).`,
    `${count(one.newly_right, "image")} became right, ${one.newly_wrong.toLocaleString("en")} became wrong (p = ${one.p_value.toPrecision(2)}). ${chance}`,
    suspects,
    ...(one.num_labels_changed ? [`${count(one.num_labels_changed, "label")} of these images changed; both heads are compared with the new ones.`] : []),
  ];
}

function compare(comparison) {
  return [...inWords(comparison).map((sentence) => make("p", {}, sentence)), comparison.num_common ? picture(comparison) : ""];
}

/** Return a drawing of the difference and its interval, in points. */
function picture({ difference, low, high }) {
  const reach = 1.15 * Math.max(Math.abs(low), Math.abs(high), 0.005);
  const x = (value) => 160 + 150 * value / reach;
  const word = (value, y, text) => draw("text", { x: x(value), y, "text-anchor": "middle" }, text);
  return draw("svg", { class: "interval", viewBox: "0 0 320 64", role: "img", "aria-label": `Difference ${points(difference)} points, interval ${points(low)} to ${points(high)}` },
    draw("line", { class: "axis", x1: 10, x2: 310, y1: 32, y2: 32 }),
    draw("line", { class: "zero", x1: 160, x2: 160, y1: 18, y2: 46 }),
    draw("line", { class: "range", x1: x(low), x2: x(high), y1: 32, y2: 32 }),
    draw("circle", { cx: x(difference), cy: 32, r: 5 }),
    word(0, 60, "as before"), draw("text", { x: 10, y: 12 }, "worse"), draw("text", { x: 310, y: 12, "text-anchor": "end" }, "better"));
}
