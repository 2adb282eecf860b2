// Keys of classes, and the search among many.

const NUM_FOUND = 8;

/**
 * Return a map from a key to a class. A class whose name is a digit has that key; the other classes get the keys 1 to 9 that
 * are left, in their order.
 */
export function keysOf(classes) {
  const keys = new Map(classes.filter((name) => /^[0-9]$/.test(name)).map((name) => [name, name]));
  const free = [..."123456789"].filter((key) => !keys.has(key));
  const others = classes.filter((name) => !/^[0-9]$/.test(name));
  others.slice(0, free.length).forEach((name, number) => keys.set(free[number], name));
  return new Map([...keys].sort());
}

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** Return the classes that fit what was typed, best first: the name itself, its beginning, a word's beginning, a part. */
export function findClasses(classes, typed) {
  const text = plain(typed.trim());
  const scored = [];
  for (const name of classes) {
    const whole = plain(name);
    const place = whole.indexOf(text);
    if (place < 0) continue;
    const isWord = place > 0 && /[^\p{L}\p{N}]/u.test(whole[place - 1]);
    scored.push([whole === text ? 0 : place === 0 ? 1 : isWord ? 2 : 3, name]);
  }
  return scored.sort((one, other) => one[0] - other[0]).slice(0, NUM_FOUND).map(([, name]) => name);
}
