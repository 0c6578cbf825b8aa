// Draws every chart in the theme of the moment, and again when the theme or the width class changes.
(() => {
  const { specs, themes } = JSON.parse(document.getElementById("charts").textContent);
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => root.dataset.theme || (system.matches ? "dark" : "light");
  const columns = () => (innerWidth < 560 ? 3 : innerWidth < 900 ? 5 : 8);
  let drawn = [];
  let drawing = Promise.resolve();

  async function draw() {
    drawn.forEach((result) => result.finalize());
    const config = structuredClone(themes[theme()]);
    config.legend.columns = columns();
    if (innerWidth < 560) config.legend.titleOrient = "top";
    const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, config, tooltip: { theme: "custom" } };
    drawn = await Promise.all(
      Object.entries(specs).map(([name, spec]) => vegaEmbed(`#chart-${name}`, structuredClone(spec), options)),
    );
    root.dataset.charts = String(drawn.length);
  }
  const redraw = () => (drawing = drawing.then(draw));

  let shownColumns = columns();
  addEventListener("resize", () => {
    if (columns() !== shownColumns) {
      shownColumns = columns();
      redraw();
    }
  });
  system.addEventListener("change", redraw);
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    redraw();
  });
  redraw();
})();
