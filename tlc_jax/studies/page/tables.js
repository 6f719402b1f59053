// Tables that can be sorted and copied.

function copier(label, text) {
  const button = make("button", {type: "button", className: "copy"}, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed here: select and copy";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  });
  return button;
}

function table(columns, rows) {
  const short = (value) => (typeof value === "number" && !Number.isInteger(value) ? +value.toPrecision(6) : value);
  const shown = (value) => String(short(value) ?? "");
  const head = make("tr", {}, ...columns.map(([name]) => make("th", {scope: "col"}, name)));
  const body = make("tbody", {}, ...rows.map((row) => make("tr", {}, ...columns.map(([, of, order]) => {
    const value = of(row);
    const cell = make("td", typeof value === "number" ? {className: "number"} : {}, shown(value));
    if (order) cell.dataset.order = order(row);
    return cell;
  }))));
  const whole = make("table", {}, make("thead", {}, head), body);
  const box = make("div", {className: "scroll", tabIndex: 0, role: "region", "aria-label": "table of points"}, whole);
  sortable(whole);
  return make("div", {}, copier("Copy the table", () => tabbed(whole)), box);
}

const tabbed = (whole) => [...whole.rows].map((row) => [...row.cells].map((cell) => cell.textContent).join("\t")).join("\n");

function sortable(whole) {
  const body = whole.tBodies[0];
  [...whole.tHead.rows[0].cells].forEach((cell, column) => {
    const button = make("button", {type: "button"}, ...cell.childNodes);
    cell.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = cell.getAttribute("aria-sort") === "ascending";
      for (const other of cell.parentNode.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = ({cells}) => cells[column].dataset.order ?? cells[column].textContent;
      const order = [...body.rows].sort((one, other) => key(one).localeCompare(key(other), "en", {numeric: true}));
      const number = (row) => Number(key(row).replaceAll(",", ""));
      if (order.every((row) => !Number.isNaN(number(row)))) order.sort((one, other) => number(one) - number(other));
      body.append(...(down ? order.reverse() : order));
    });
  });
}
