// Where the person is, kept in the address: #queue=suspects&at=37&image=<digest>. So the back button and links work.

/** Return the place that the address names: {queue, at, image}. */
export function readPlace() {
  const words = new URLSearchParams(location.hash.slice(1));
  const at = Number(words.get("at"));
  return { queue: words.get("queue") ?? "", at: Number.isInteger(at) && at >= 0 ? at : 0, image: words.get("image") ?? "" };
}

/** Write the place: another queue is a step for the back button, another image replaces the last one. */
export function writePlace(place) {
  const hash = `#${new URLSearchParams({ queue: place.queue, at: place.at, image: place.image })}`;
  if (hash === location.hash) return;
  const isStep = readPlace().queue && readPlace().queue !== place.queue;
  history[isStep ? "pushState" : "replaceState"](null, "", hash);
}
