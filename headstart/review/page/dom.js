// Building elements. Text of others (file names, labels, reasons) only ever becomes a text node, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return a new element; properties that start with "on" are listeners, all others are attributes. */
export function make(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** Return a new element of a drawing. */
export function draw(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-") && typeof value === "boolean") element.setAttribute(name, String(value));
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Return an element for text of others: its writing direction cannot reach the text around it. */
export function foreign(text, name = "") {
  return make("bdi", { class: name || null, title: text }, text);
}

/** Return a button that shows the key which does the same. */
export function button(words, key, act, properties = {}) {
  return make("button", { type: "button", onclick: act, "aria-keyshortcuts": key, ...properties }, words,
    key ? make("kbd", { "aria-hidden": "true" }, key === "Enter" ? "↵" : key) : null);
}

/** Replace what an element holds; a button that had the focus keeps it. */
export function renew(box, ...children) {
  const buttons = () => [...box.querySelectorAll("button")];
  const place = buttons().indexOf(document.activeElement);
  box.replaceChildren(...children);
  if (place >= 0) buttons()[place]?.focus({ preventScroll: true });
}

export const byId = (id) => document.getElementById(id);

/** Return a count with its noun: "1 image", "12,000 images". */
export function count(num, noun) {
  return `${num.toLocaleString("en")} ${num === 1 ? noun : plural(noun)}`;
}

const plural = (noun) => noun.endsWith("s") ? `${noun}es` : `${noun}s`;

/** Return a share as text: "3.2 %". */
export const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

/** Return a difference of shares as text: "+1.3 points". */
export function points(difference) {
  const value = 100 * difference;
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
}
