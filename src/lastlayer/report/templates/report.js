"use strict";
// Three comforts; without this script the page loses nothing but them:
// sortable tables, pictures in a dialog instead of further down, and folded parts open on paper.

function comparable(cell, asNumber) {
  const text = cell.dataset.v ?? cell.textContent.trim();
  if (!asNumber) return text;
  const value = Number(text.replaceAll(",", ""));
  return text === "" || Number.isNaN(value) ? null : value;
}

function sortBy(table, column, ascending, asNumber) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [comparable(row.cells[column], asNumber), row]);
  const order = new Intl.Collator(undefined, { numeric: true });
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // what is n/a stays last
    const difference = asNumber ? a - b : order.compare(a, b);
    return ascending ? difference : -difference;
  });
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    if ("fixed" in head.dataset) return;
    const asNumber = "number" in head.dataset || (column === 0 && "v" in (table.tBodies[0].rows[0]?.cells[0].dataset ?? {}));
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      // Names begin at A, numbers at the weakest, where one wants to look first.
      const ascending = before !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sortBy(table, column, ascending, asNumber);
    });
  });
}

const viewer = document.getElementById("viewer");
const viewerTitle = document.getElementById("viewer-title");
const viewerBody = document.getElementById("viewer-body");

for (const link of document.querySelectorAll("a[data-gallery]")) {
  link.setAttribute("aria-haspopup", "dialog");
  link.addEventListener("click", (event) => {
    const gallery = document.getElementById("gallery-" + link.dataset.gallery);
    if (!gallery || typeof viewer.showModal !== "function") return;
    event.preventDefault();
    viewerTitle.replaceChildren(...Array.from(gallery.querySelector("summary").cloneNode(true).childNodes));
    const pictures = gallery.querySelector(".shots").cloneNode(true);
    pictures.removeAttribute("id");
    viewerBody.replaceChildren(pictures);
    viewer.showModal();
    viewerTitle.focus();
  });
}
document.getElementById("viewer-close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => {
  if (event.target === viewer) viewer.close(); // outside the frame
});

let opened = [];
window.addEventListener("beforeprint", () => {
  opened = Array.from(document.querySelectorAll("details.on-paper:not([open]), details.note:not([open])"));
  for (const part of opened) part.open = true;
});
window.addEventListener("afterprint", () => {
  for (const part of opened) part.open = false;
});
