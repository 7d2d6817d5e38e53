const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const controls = document.getElementById("controls");
const order = new Intl.Collator("en", { numeric: true });

// What a cell is sorted by: on a board a number of the view that is shown, elsewhere its text; null stands last.
function key(cell) {
  if (cell.closest(".board") && cell.tagName === "TD") return cell.dataset[controls.view.value] ?? null;
  return cell.textContent.trim() || null;
}

function sort(head, direction) {
  const body = head.closest("table").tBodies[0], sign = direction === "ascending" ? 1 : -1;
  const keys = new Map([...body.rows].map((row) => [row, key(row.cells[head.cellIndex])]));
  const known = [...keys.values()].filter((each) => each !== null);
  const numbers = !head.classList.contains("text") && known.every((each) => Number.isFinite(parseFloat(each)));
  const compare = numbers ? (a, b) => parseFloat(a) - parseFloat(b) : order.compare;
  const rows = [...keys].sort(([, a], [, b]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)));
  body.append(...rows.map(([row]) => row));
  for (const each of head.parentNode.cells) each.setAttribute("aria-sort", each === head ? direction : "none");
}

for (const button of all("button.sort")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), first = head.classList.contains("text") ? "ascending" : "descending";
    const second = first === "ascending" ? "descending" : "ascending";
    sort(head, head.getAttribute("aria-sort") === first ? second : first);
  });
}

const lines = all(".board tbody tr").map((line) => {
  const board = line.closest(".board"), cells = [...line.cells], heads = [...line.closest("table").tHead.rows[0].cells];
  const filled = cells.filter((cell, place) => place && "accuracy" in cell.dataset);
  const words = [board.querySelector("h3"), line.cells[0], ...filled.map((cell) => heads[cell.cellIndex])];
  return { line, filled, text: words.map((each) => each.textContent).join(" ").toLowerCase() };
});
const rows = all("#results tbody tr").map((row) => {
  return { row, text: [row.textContent, ...Object.values(row.dataset)].join(" ").toLowerCase() };
});

function choose() {
  const words = controls.words.value.toLowerCase().split(/\s+/);
  const chosen = all("select", controls).filter((each) => each.name !== "view" && each.value);
  const fits = (element) => chosen.every(({ name, value }) => (element.dataset[name] ?? value) === value);
  const tells = (text) => words.every((word) => text.includes(word));
  for (const cell of all(".board [data-data]")) cell.hidden = !fits(cell);
  for (const { line, filled, text } of lines) line.hidden = !tells(text) || filled.every((cell) => cell.hidden);
  for (const board of all(".board")) board.hidden = !fits(board) || all("tbody tr", board).every((line) => line.hidden);
  for (const { row, text } of rows) row.hidden = !tells(text) || !fits(row);
  const shown = rows.filter(({ row }) => !row.hidden).length;
  controls.querySelector("output").value = `${shown} of ${rows.length} rows`;
}

function view() {
  document.body.dataset.view = controls.view.value;
  for (const head of all(".board th[aria-sort]:not([aria-sort=none])")) sort(head, head.getAttribute("aria-sort"));
}

controls.addEventListener("input", (event) => (event.target === controls.view ? view() : choose()));
controls.addEventListener("submit", (event) => event.preventDefault());
controls.hidden = false;
view(); // a reload keeps what was chosen
choose();

// Details are packed: one line of JSON for each row and set, unpacked when the first is opened.
const shown = document.getElementById("shown");
let packed;

async function unpacked() {
  const bytes = Uint8Array.from(atob(document.getElementById("packed").textContent), (each) => each.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return (await new Response(stream).text()).split("\n");
}

// A text as elements, and pictures cut out of the one that the set's card shows.
function fill(part, text, line) {
  part.innerHTML = text;
  const picture = document.querySelector(`.card[data-line="${line}"] img`);
  for (const canvas of picture ? all("canvas", part) : []) {
    const { left, top } = canvas.dataset, { width, height } = canvas;
    picture.decode().then(() => canvas.getContext("2d").drawImage(picture, left, top, width, height, 0, 0, width, height));
  }
}

async function open(line) {
  const texts = await (packed ??= unpacked()), place = shown.querySelector("div");
  fill(place, JSON.parse(texts[line]), line);
  for (const part of all("[data-set]", place)) fill(part, JSON.parse(texts[part.dataset.set]), part.dataset.set);
  shown.showModal();
  shown.scrollTop = 0;
}

for (const button of all("button.open")) button.addEventListener("click", () => open(button.dataset.line));
shown.addEventListener("click", ({ target }) => {
  if (target === shown) shown.close(); // beside it
  if (!target.matches(".enlarge")) return;
  const large = target.getAttribute("aria-pressed") !== "true";
  target.setAttribute("aria-pressed", large);
  target.closest("section, #shown > div").classList.toggle("large", large);
});
