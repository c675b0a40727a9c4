// The list of images: which are shown, in which order, and which is the current one ---------------

const labelFilter = document.getElementById("label-filter");
const verdictFilter = document.getElementById("verdict-filter");
const order = document.getElementById("order");
const shortcuts = document.getElementById("shortcuts");
let current = null;

const nameOf = (card) => card.element.querySelector("h2").textContent;
const listed = () => [...cards.values()].filter((card) => !card.element.hidden);

const LABEL_FILTERS = {
  "": () => true, defect: (card) => card.isDefect, good: (card) => !card.isDefect,
  "truly-defect": (card) => report.defective[card.index],
  "truly-good": (card) => !report.defective[card.index],
};

function filterCards() {
  for (const card of cards.values()) {
    const wanted = verdictFilter.value;
    const verdict = wanted && (verdictOn(card) ?? "none");
    const isListed = LABEL_FILTERS[labelFilter.value](card) && verdict === wanted;
    if (card.element.hidden === isListed) card.element.hidden = !isListed;
  }
  showPlace();
}

function sortCards() {
  const byName = (a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true });
  const byScore = (a, b) => report.scores[b.index] - report.scores[a.index] || a.index - b.index;
  const sorted = [...cards.values()].sort(order.value === "name" ? byName : byScore);
  // Also for keys and screen readers, which follow the order of the elements.
  document.querySelector(".cards").append(...sorted.map((card) => card.element));
  cards.clear();
  for (const card of sorted) cards.set(card.element, card);
  showPlace();
}

function showPlace() {
  const all = listed(), place = all.indexOf(current);
  write("place", place < 0 ? `${all.length} of ${cards.size} shown` : `${place + 1} of ${all.length}`);
  document.getElementById("none-listed").hidden = all.length > 0;
}

function makeCurrent(card) {
  current?.element.removeAttribute("aria-current");
  current = card;
  card.element.setAttribute("aria-current", "true");
  if (!viewer.open && !card.element.contains(document.activeElement)) {
    card.element.focus({ preventScroll: true });
    card.element.scrollIntoView({ block: "nearest" });
  }
  showPlace();
}

// The card that lies so many further on; from none, the first that is on the screen.
function neighbour(steps) {
  const all = listed(), place = all.indexOf(current);
  if (place >= 0) return all[Math.min(Math.max(place + steps, 0), all.length - 1)];
  return all.find((card) => card.element.getBoundingClientRect().bottom > innerHeight / 3) ?? all[0];
}

function go(card) {
  if (!card) return;
  if (viewer.open) openViewer(card);
  else makeCurrent(card);
}

// A click on the verdict that stands takes it back; a key goes on to what comes next.
function judgeHere(verdict, card, region, goesOn) {
  const after = neighbour(1);
  const isTakenBack = !goesOn && verdictOn(card, region) === verdict;
  judge(card, isTakenBack ? null : verdict, region);
  if (viewer.open) showView();
  if (goesOn && region) {
    if (region < card.payload.regions.length) goTo(region + 1);
  } else if (goesOn || (card.element.hidden && !viewer.open)) {
    go(after?.element.hidden ? neighbour(0) : after);
  }
}

function undoHere() {
  const card = undo();
  if (!card) return;
  if (!viewer.open || card !== view.card) go(card);
  if (viewer.open) showView();
}

const LIST_KEYS = {
  g: "good", d: "defect", s: "skip",
  n: () => go(neighbour(1)), p: () => go(neighbour(-1)), u: undoHere,
  f: () => current && !viewer.open && openViewer(current),
};

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = target.matches("select, textarea, input:not([type=range], [type=checkbox])");
  const isLetter = key.length === 1;
  if (isTyping || (isLetter && !shortcuts.checked)) return;
  const act = (viewer.open && VIEWER_KEYS[key]) || LIST_KEYS[key.toLowerCase()];
  if (typeof act === "string") {
    if (current) judgeHere(act, current, viewer.open ? judgedRegion() : null, true);
    else go(neighbour(0));
  } else if (act) act();
  else return;
  event.preventDefault();
});

for (const element of document.querySelectorAll(".card")) {
  const card = cards.get(element);
  element.querySelector(".redraw").addEventListener("click", () => toggleReconstruction(card));
  element.querySelector(".open").addEventListener("click", () => openViewer(card));
  element.querySelector(".open-regions")?.addEventListener("click", () => openViewer(card, 1));
  element.addEventListener("focusin", () => card !== current && makeCurrent(card));
  for (const button of element.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => judgeHere(button.dataset.verdict, card, null, false));
  }
}
for (const button of viewer.querySelectorAll("[data-verdict]")) {
  button.addEventListener("click", () =>
    judgeHere(button.dataset.verdict, view.card, judgedRegion(), false));
}
for (const [name, act] of [["next", () => go(neighbour(1))], ["previous", () => go(neighbour(-1))],
  ["undo", undoHere]]) {
  for (const button of document.querySelectorAll(`.${name}`)) button.addEventListener("click", act);
}
labelFilter.addEventListener("change", filterCards);
verdictFilter.addEventListener("change", filterCards);
order.addEventListener("change", sortCards);

// Print shows every image that is listed: outlines as lines, which any size of paper draws sharp --

addEventListener("beforeprint", () => {
  for (const card of listed()) {
    const { grid, factor, codes, mask } = payloadOf(card);
    const draw = (name, plane, above) => {
      const path = card.element.querySelector(`.outlines .${name}`);
      path.setAttribute("d", outlinePath(plane, above, grid));
      path.setAttribute("transform", `scale(${factor})`);
    };
    draw("found", card.overlay?.codes ?? decode(codes, grid), level);
    if (mask) draw("true", decode(mask, grid), 0);
  }
});
addEventListener("afterprint", () => {
  for (const path of document.querySelectorAll(".outlines path")) path.removeAttribute("d");
});

// Start -------------------------------------------------------------------------------------------

readVerdicts();
draw();
cards.forEach(showVerdict);
countVerdicts();
filterCards();
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) (entry.isIntersecting ? show : hide)(cards.get(entry.target));
}, { rootMargin: "200px" });
for (const element of cards.keys()) near.observe(element);
