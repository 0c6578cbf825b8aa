// A language model: a text gone on from, or a talk, as it is written.

import { ask, events } from "./api.js";

const $ = (id) => document.getElementById(id);
const NEAR_PX = 40;

/** Make the panel work. `run` does what may fail and says why; `model` gives the name that is chosen. */
export function wireWriting({ run, model }) {
  let talk = [];
  let stopping = null;

  const isChat = () => document.querySelector("input[name=how]:checked").value === "chat";

  function turn() {
    const chats = isChat();
    $("talk").hidden = !chats || !talk.length;
    $("sheet").hidden = chats || !$("written").textContent;
    $("prompt").placeholder = chats ? "Say something" : "A text to go on from";
    $("prompt-label").textContent = chats ? "Message" : "Prompt";
    $("write").textContent = chats ? "Send" : "Write";
  }

  async function write() {
    const text = $("prompt").value;
    if (!text.trim() || stopping) return;
    stopping = new AbortController();
    working(true);
    const chats = isChat();
    const place = chats ? began(text) : sheet(text);
    const heard = { text: "" };
    try {
      const body = { model: model(), stream: true, stream_options: { include_usage: true, continuous_usage_stats: true }, ...settings() };
      const asked = chats ? { ...body, messages: talk } : { ...body, prompt: text };
      const began_ms = performance.now();
      const answer = await ask(chats ? "v1/chat/completions" : "v1/completions", asked, { signal: stopping.signal });
      await follow(answer, place, heard, began_ms);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      $("finish").textContent = "you";
    } finally {
      if (chats) ended(text, heard.text, place);
      stopping = null;
      working(false);
    }
  }

  /** Show what comes and how fast; the first token's time is that until it came, the rate is that of those after it. */
  async function follow(answer, place, heard, began_ms) {
    let first_ms = null;
    let first_tokens = 1;
    let tokens = 0;
    for await (const event of events(answer)) {
      tokens = event.usage?.completion_tokens ?? tokens + (event.choices.length ? 1 : 0);
      const now = performance.now();
      if (first_ms === null && tokens) {
        first_ms = now;
        first_tokens = tokens;
        $("first").textContent = duration(now - began_ms);
      }
      const choice = event.choices[0];
      const piece = choice?.text ?? choice?.delta?.content ?? "";
      heard.text += piece;
      add(piece, place);
      if (choice?.finish_reason) $("finish").textContent = choice.finish_reason;
      $("count").textContent = tokens.toLocaleString("en");
      if (choice && tokens > first_tokens) $("rate").textContent = rate((tokens - first_tokens) / (now - first_ms));
    }
  }

  function sheet(text) {
    $("given").textContent = text;
    $("written").textContent = "";
    $("sheet").hidden = false;
    return $("written");
  }

  function began(text) {
    talk.push({ role: "user", content: text });
    $("prompt").value = "";
    const said = saying("user");
    said.textContent = text;
    const answer = saying("assistant");
    $("talk").append(said, answer);
    $("talk").hidden = false;
    return answer;
  }

  /** Keep an answer for the next question; a question that got none is given back. */
  function ended(text, answer, place) {
    if (answer) {
      talk.push({ role: "assistant", content: answer });
      return;
    }
    talk.pop();
    place.previousElementSibling.remove();
    place.remove();
    $("prompt").value ||= text;
  }

  function working(is) {
    $("write").disabled = is;
    $("stop").disabled = !is;
    if (is) for (const id of ["first", "rate", "count", "finish"]) $(id).textContent = "–";
  }

  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    run(write);
  });
  $("stop").addEventListener("click", () => stopping?.abort());
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") stopping?.abort();
  });
  $("clear").addEventListener("click", () => {
    stopping?.abort();
    talk = [];
    $("talk").replaceChildren();
    $("written").textContent = $("given").textContent = $("prompt").value = "";
    turn();
    $("prompt").focus();
  });
  for (const one of document.querySelectorAll("input[name=how]")) one.addEventListener("change", turn);
  turn();
}

/** Add a piece to the end; a sheet that is scrolled to its end stays there, one that is read further up is left alone. */
function add(piece, place) {
  const sheet = $("sheet");
  const isAtEnd = sheet.scrollHeight - sheet.scrollTop - sheet.clientHeight < NEAR_PX;
  place.append(piece);
  if (isAtEnd) sheet.scrollTop = sheet.scrollHeight;
}

function saying(role) {
  const made = document.createElement("p");
  made.className = role;
  return made;
}

/** What is asked of the model; a field that is empty is not asked for. */
function settings() {
  const asked = {};
  for (const field of $("settings").querySelectorAll("input")) {
    if (field.value === "") continue;
    asked[field.name] = field.type === "number" ? field.valueAsNumber : field.value;
  }
  return asked;
}

const duration = (ms) => (ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`);
const rate = (per_ms) => (per_ms * 1000).toLocaleString("en", { maximumSignificantDigits: 3 });
