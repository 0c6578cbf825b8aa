// A classifier: a file that is dropped, a text, a row or numbers, and how likely each class is.

import { ask } from "./api.js";
import { showBars } from "./bars.js";

const $ = (id) => document.getElementById(id);
const SHOWN = 8;
const SMALL_PX = 100;
const ACCEPTED = { image: "image/*", sound: "audio/*" };
const PLACEHOLDERS = { text: "A text to classify", numbers: "Numbers as JSON: [0.1, 0.2, 0.3]" };

/** Make the panel work; what it returns shows what a classifier reads. */
export function wireClassifying({ run, model }) {
  let reads = null;
  let url = null;

  async function send(body) {
    const began_ms = performance.now();
    const answer = await (await ask("v1/classify", body)).json();
    const [found] = answer.data;
    showBars($("bars"), found.top.slice(0, SHOWN).map((one) => [one.class, one.prob_frac, percent(one.prob_frac)]));
    const more = found.top.length > SHOWN ? ` · the likeliest ${SHOWN} of ${found.top.length} classes` : "";
    $("classified").textContent = `${(performance.now() - began_ms).toFixed(0)} ms${more}`;
  }

  async function sendFile(file) {
    forget();
    show(file);
    const form = new FormData();
    form.append("model", model());
    form.append("file", file);
    await send(form);
  }

  function show(file) {
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(file);
    const made = document.createElement(reads === "sound" ? "audio" : "img");
    if (reads === "sound") {
      made.controls = true;
    } else {
      made.alt = file.name;
      made.addEventListener("load", () => made.classList.toggle("small", made.naturalWidth < SMALL_PX));
    }
    made.src = url;
    made.addEventListener("error", () => made.remove());
    $("shown").replaceChildren(made);
  }

  function forget() {
    $("bars").replaceChildren();
    $("classified").textContent = "";
  }

  async function sendTyped() {
    forget();
    const text = $("input").value;
    if (reads !== "row" && !text.trim()) return;
    await send({ model: model(), input: reads === "row" ? row() : reads === "numbers" ? JSON.parse(text) : text });
  }

  $("classify").addEventListener("submit", (event) => {
    event.preventDefault();
    run(sendTyped);
  });
  $("file").addEventListener("change", () => {
    if ($("file").files.length) run(() => sendFile($("file").files[0]));
    $("file").value = "";
  });
  const drop = $("drop");
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) run(() => sendFile(file));
  });
  // A file that misses the field must not replace the page.
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());

  return (described) => {
    reads = described.reads;
    const isFile = reads in ACCEPTED;
    $("drop").hidden = !isFile;
    $("columns").hidden = reads !== "row";
    $("typed").hidden = isFile || reads === "row";
    $("classify-row").hidden = isFile;
    $("file").accept = ACCEPTED[reads] ?? "";
    $("drop-what").textContent = reads === "sound" ? "Drop a sound here" : "Drop an image here";
    $("input").placeholder = PLACEHOLDERS[reads] ?? "";
    $("shown").replaceChildren();
    $("columns").replaceChildren(...Object.entries(described.columns ?? {}).map(([name, kind]) => field(name, kind)));
    forget();
  };
}

/** A field for a column: a number, or one of the categories that the model has seen; empty, the cell is missing. */
function field(name, kind) {
  const label = document.createElement("label");
  const input = document.createElement(kind === "number" ? "input" : "select");
  if (kind === "number") {
    input.type = "number";
    input.step = "any";
  } else {
    input.append(...["", ...kind].map((text) => new Option(text, text)));
  }
  input.name = name;
  label.append(name, input);
  return label;
}

function row() {
  const cells = {};
  for (const input of $("columns").querySelectorAll("input, select")) {
    const isNumber = input.type === "number";
    cells[input.name] = input.value === "" ? null : isNumber ? input.valueAsNumber : input.value;
  }
  return cells;
}

const percent = (share) => `${(share * 100).toFixed(1)}%`;
