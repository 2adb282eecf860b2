// The side: queues with their progress, label noise, the file of decisions.

import { byId, count, foreign, make, percent, renew } from "./dom.js";
import { notify, withdraw } from "./notices.js";

const number = (num) => num.toLocaleString("en");

/** Return a bar of how much is done. */
function track(numDone, num) {
  const bar = make("i");
  bar.style.width = `${num ? Math.min(100, 100 * numDone / num) : 0}%`;
  return make("i", { class: "track" }, bar);
}

/** Draw the list of queues; open(name) opens one. */
export function drawQueues(session, open) {
  renew(byId("queues"), ...session.state.queues.map((queue) => {
    const isCurrent = queue.name === session.queue;
    return make("li", {}, make("button", { type: "button", "aria-current": isCurrent ? "true" : null, title: queue.about, onclick: () => open(queue.name), "data-queue": queue.name },
      make("span", {}, queue.title),
      make("small", {}, queue.num_done ? `${number(queue.num_done)} of ${number(queue.num)}` : number(queue.num)),
      track(queue.num_done, queue.num)));
  }));
}

/** Draw how much of the current queue is done. */
export function drawProgress(session) {
  const { entry } = session;
  if (!entry) return;
  byId("progress-words").textContent = `${number(entry.num_done)} of ${number(entry.num)} done`;
  byId("progress").querySelector(".track").replaceWith(track(entry.num_done, entry.num));
  byId("show-queues").replaceChildren(`☰ ${entry.title} `, make("small", {}, `${number(entry.num_done)} of ${number(entry.num)}`));
  byId("about").textContent = entry.about;
}

/** Draw label noise, and where the decisions go. */
export function drawSummary({ noise, who, fixes_path, data_set, accuracy }) {
  byId("data-set").textContent = data_set;
  document.title = `Review ${data_set}`;
  byId("summary").replaceChildren(
    make("h2", {}, "Label noise"), ...noiseInWords(noise).map((sentence) => make("p", {}, sentence)),
    make("h2", {}, "Accuracy of the head"), make("p", {}, accuracyInWords(accuracy)),
    make("h2", {}, "Decisions"), make("p", {}, "Made by ", foreign(who || "nobody named"), ", kept in ", make("code", {}, foreign(fixes_path))));
}

let told = null;

/** Tell of results that a run outside this page has made, and of such that do not belong together. */
export function tellOfResults(results) {
  if (results.gap && results.gap !== told?.gap) notify("gap", "care", foreign(results.gap));
  else if (!results.gap) withdraw("gap");
  if (told && results.version !== told.version && results.is_foreign) {
    notify("results", "care", "A run outside this page has made new results, and the queues show them. Your decisions stay, and undo goes on working.");
  }
  told = results;
}

let numTold = 0;

/** Warn once more whenever more labels of test images have changed. */
export function warnOfTestSet(num) {
  if (num > numTold) {
    notify("test", "care", `${count(num, "label")} of test images changed. `,
      make("span", {}, "Compare the new accuracy only with numbers on the same labels. If you correct labels only where the model errs, it looks better than it is."));
  } else if (!num) {
    withdraw("test");
  }
  numTold = num;
}

function noiseInWords(noise) {
  const sentences = [];
  const labels = (share) => number(Math.round(share * noise.num_images));
  if (noise.num_decided) {
    sentences.push(`Of ${count(noise.num_decided, "random image")} that you decided, ${number(noise.num_wrong)} had a wrong label: ${percent(noise.share)} `
      + `(95 % interval ${percent(noise.low)} to ${percent(noise.high)}). That is about ${labels(noise.share)} `
      + `(${labels(noise.low)} to ${labels(noise.high)}) of all ${number(noise.num_images)} labels, before any was mended.`);
    if (noise.num_skipped) sentences.push(`${count(noise.num_skipped, "image")} between them ${noise.num_skipped === 1 ? "has" : "have"} no decision. If they are the hard ones, the share is not right.`);
  } else {
    sentences.push("Decide images of the random queue to learn how many labels are wrong.");
  }
  if (noise.num_suspects_decided) {
    sentences.push(`Of ${count(noise.num_suspects_decided, "suspect")}, ${number(noise.num_suspects_wrong)} had a wrong label.`);
  }
  if (noise.num_mended) sentences.push(`${count(noise.num_mended, "wrong label")} mended in all.`);
  return sentences;
}

function accuracyInWords({ before, after, num_images }) {
  if (after === null) return "There is no test image.";
  const now = `${percent(after)} on ${count(num_images, "test image")}`;
  return before === null ? `${now}. Retrain to see what the decisions bring.` : `${percent(before)} before the last retrain, now ${now}.`;
}
