// Shares as bars, the first of them in colour.

/** Show rows of [name, share from 0 to 1, text]. Names are whatever somebody called a class: they are text, never markup. */
export function showBars(list, rows) {
  list.replaceChildren(...rows.map(([name, share, text]) => {
    const row = document.createElement("li");
    const label = part("span", "name", name);
    label.title = name;
    const line = part("span", "bar-line");
    const fill = document.createElement("i");
    fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    line.append(fill);
    row.append(label, line, part("span", "share", text));
    return row;
  }));
}

function part(kind, name, text = "") {
  const made = document.createElement(kind);
  made.className = name;
  made.textContent = text;
  return made;
}
