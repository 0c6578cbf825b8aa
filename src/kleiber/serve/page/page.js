// The page: which model is tried, and the panel for what it does.

import { Refused, ask, keepKey } from "./api.js";
import { wireClassifying } from "./classifying.js";
import { wireComparing } from "./comparing.js";
import { wireWriting } from "./writing.js";

const $ = (id) => document.getElementById(id);
const DOES = { text: "Writes text", classifier: "Classifies", encoder: "Embeds texts" };
const READS = { text: "texts", image: "images", sound: "sounds", row: "rows of a table", numbers: "arrays of numbers" };
const UNAUTHORIZED = 401;

let models = [];
let classifiers = {};

/** Do what may fail; say why it did. */
async function run(work) {
  $("error").hidden = true;
  try {
    await work();
  } catch (error) {
    $("key").hidden = !(error instanceof Refused && error.status === UNAUTHORIZED);
    $("error").textContent = error.message;
    $("error").hidden = false;
    if (!$("key").hidden) $("key-value").focus();
  }
}

const model = () => $("model").value;
wireWriting({ run, model });
const showClassifier = wireClassifying({ run, model });
const showEncoder = wireComparing({ run, model });

async function load() {
  models = (await (await ask("v1/models")).json()).data;
  const described = models.some((one) => one.kind === "classifier") ? (await (await ask("v1/classifiers")).json()).data : [];
  classifiers = Object.fromEntries(described.map((one) => [one.id, one]));
  $("model").replaceChildren(...models.map((one) => new Option(one.id, one.id)));
  choose();
}

function choose() {
  const chosen = models.find((one) => one.id === model());
  const classifier = classifiers[chosen.id];
  for (const kind of Object.keys(DOES)) $(kind).hidden = kind !== chosen.kind;
  const does = classifier ? `${DOES.classifier} ${READS[classifier.reads]} into ${classifier.classes.length} classes` : DOES[chosen.kind];
  const context = chosen.context_tokens ? `${chosen.context_tokens.toLocaleString("en")} tokens of context` : "";
  $("name").textContent = document.title = chosen.id;
  $("about").textContent = [does, chosen.engine, chosen.precision, context].filter(Boolean).join(" · ");
  $("error").hidden = true;
  if (classifier) showClassifier(classifier);
  if (chosen.kind === "encoder") showEncoder();
}

$("model").addEventListener("change", choose);
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey($("key-value").value);
  $("key").hidden = true;
  run(load);
});
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
});
// Ctrl+Enter in a field of several lines does what its button says.
addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form?.requestSubmit();
});
$("base").textContent = new URL("v1", location.href).href;
run(load);
