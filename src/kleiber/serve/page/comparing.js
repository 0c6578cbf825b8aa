// An encoder: how alike two texts are.

import { ask } from "./api.js";
import { showBars } from "./bars.js";

const $ = (id) => document.getElementById(id);

/** Make the panel work. */
export function wireComparing({ run, model }) {
  async function compare() {
    const began_ms = performance.now();
    const answer = await (await ask("v1/embeddings", { model: model(), input: [$("one").value, $("other").value] })).json();
    const [one, other] = answer.data.map((found) => found.embedding);
    // Both are of unit length: their product is the cosine.
    const cosine = one.reduce((sum, number, index) => sum + number * other[index], 0);
    showBars($("likeness"), [["Cosine", cosine, cosine.toFixed(3)]]);
    const time = (performance.now() - began_ms).toFixed(0);
    $("compared").textContent = `${one.length.toLocaleString("en")} numbers a text · ${answer.usage.total_tokens} tokens · ${time} ms`;
  }

  $("compare").addEventListener("submit", (event) => {
    event.preventDefault();
    run(compare);
  });
  return () => {
    $("likeness").replaceChildren();
    $("compared").textContent = "";
  };
}
