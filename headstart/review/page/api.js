// The server's answers. All addresses are relative, so the page's own token is in them.

const TIMEOUT_MS = 20000;

/** The server refused; the message is its sentence. */
export class RefusedError extends Error {}

/** The server does not answer. */
export class SilentError extends Error {}

async function call(method, path, body) {
  let response;
  let answer;
  try {
    response = await fetch(path, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    answer = await response.json();
  } catch (error) {
    if (response && error instanceof SyntaxError) {
      throw new RefusedError(`The server answered with status ${response.status} and no JSON.`);
    }
    throw new SilentError("The server does not answer. If it has stopped, start it again and open its new address.");
  }
  if (!response.ok) throw new RefusedError(typeof answer.detail === "string" ? answer.detail : JSON.stringify(answer));
  return answer;
}

export const getState = () => call("GET", "api/state");
export const getRows = (queue, start, num) =>
  call("GET", `api/queue/${encodeURIComponent(queue)}?start=${start}&count=${num}`);
export const getImage = (digest) => call("GET", `api/image/${digest}`);
export const postDecision = (decision) => call("POST", "api/decide", decision);
export const postUndo = (ids, seen) => call("POST", "api/undo", { ids, seen });
export const postClass = (name) => call("POST", "api/class", { name });
export const getRetrain = () => call("GET", "api/retrain");
export const startRetrain = () => call("POST", "api/retrain", {});
export const cancelRetrain = () => call("DELETE", "api/retrain");
export const thumbOf = (digest) => `thumb/${digest}`;
export const photoOf = (digest) => `photo/${digest}`;
