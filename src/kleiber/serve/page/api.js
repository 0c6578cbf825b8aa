// Requests to the server this page came from, and what its errors say.

const KEY = "kleiber-key";
const LONGEST_EVENT = 10_000_000;

/** An answer that is none: its sentence and its status. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const keepKey = (key) => sessionStorage.setItem(KEY, key);

/** The answer to a request, once its status says that there is one. `body` is sent as JSON, or as the form that it is. */
export async function ask(path, body, { signal } = {}) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  const isForm = body instanceof FormData;
  if (body && !isForm) headers["Content-Type"] = "application/json";
  const method = body ? "POST" : "GET";
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body && !isForm ? JSON.stringify(body) : body });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer.", 0);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  const said = await answer.json().catch(() => null);
  let sentence = said?.error?.message ?? `The server answered with ${answer.status}.`;
  const wait = answer.headers.get("Retry-After");
  if (wait) sentence += ` Try again in ${wait} s.`;
  return new Refused(sentence, answer.status);
}

/** The documents of a stream of server-sent events, as they come, up to [DONE]. */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Refused("The server broke off.", 0);
    held += value;
    const whole = held.split("\n\n");
    held = whole.pop();
    if (held.length > LONGEST_EVENT) throw new Refused("The server sends no events.", 0);
    for (const event of whole) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
      if (data === "[DONE]") return;
      if (!data) continue;
      const document = JSON.parse(data);
      if (document.error) throw new Refused(document.error.message, 0);
      yield document;
    }
  }
}
