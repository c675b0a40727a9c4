// Verdicts: what people say of images, and of regions in them -------------------------------------

const KEPT_AS = `ssimae-report-${report.id}`;
const byIndex = new Map([...cards.values()].map((card) => [card.index, card]));
// By the image's index: { image: a verdict or null, regions: { number: verdict } }.
let verdicts = {};
let isKept = true, isSaved = true;
const undoable = [];

// Browsers may refuse, in private windows or for files.
function readVerdicts() {
  try {
    localStorage.setItem(KEPT_AS, localStorage.getItem(KEPT_AS) ?? "{}");
    verdicts = JSON.parse(localStorage.getItem(KEPT_AS)) ?? {};
  } catch {
    isKept = false;
  }
}

function keepVerdicts() {
  try {
    localStorage.setItem(KEPT_AS, JSON.stringify(verdicts));
    isKept = true;
  } catch {
    isKept = false;
  }
}

// That of the image itself, or what those of its regions come to.
function verdictOn(card, region = null) {
  const entry = verdicts[card.index];
  if (!entry) return null;
  if (region) return entry.regions[region] ?? null;
  if (entry.image) return entry.image;
  const ofRegions = Object.values(entry.regions);
  if (ofRegions.includes("defect")) return "defect";
  const areAllGood = ofRegions.filter((verdict) => verdict === "good").length
    === payloadOf(card).nRegions;
  return areAllGood && ofRegions.length ? "good" : null;
}

// A verdict of null takes back the one that was given.
function judge(card, verdict, region = null) {
  const before = verdicts[card.index];
  const entry = { image: before?.image ?? null, regions: { ...before?.regions } };
  if (region && verdict) entry.regions[region] = verdict;
  else if (region) delete entry.regions[region];
  else entry.image = verdict;
  // The later one of two that contradict each other stands.
  if (region && verdict === "defect" && entry.image === "good") entry.image = null;
  if (!region && verdict === "good") {
    for (const [number, ofRegion] of Object.entries(entry.regions)) {
      if (ofRegion === "defect") delete entry.regions[number];
    }
  }
  undoable.push([card, before]);
  putVerdict(card, entry);
}

function undo() {
  if (!undoable.length) return null;
  const [card, before] = undoable.pop();
  putVerdict(card, before);
  return card;
}

function putVerdict(card, entry) {
  if (entry && (entry.image || Object.keys(entry.regions).length)) verdicts[card.index] = entry;
  else delete verdicts[card.index];
  isSaved = false;
  keepVerdicts();
  showVerdict(card);
  countVerdicts();
  filterCards();
}

const VERDICTS = { good: "good", defect: "defect", skip: "skipped" };

function press(buttons, verdict) {
  for (const button of buttons) {
    button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
  }
}

function showVerdict(card) {
  const verdict = verdictOn(card);
  press(card.element.querySelectorAll("[data-verdict]"), verdict);
  setText(card.element.querySelector(".judged"), verdict ? `Verdict: ${VERDICTS[verdict]}` : "");
}

// What the verdicts come to at the threshold in force: skipped images count nowhere.
function countVerdicts() {
  const counts = { "true,good": 0, "true,defect": 0, "false,good": 0, "false,defect": 0 };
  let nJudged = 0;
  for (const card of cards.values()) {
    const verdict = verdictOn(card);
    if (verdict) nJudged++;
    const key = `${report.scores[card.index] > threshold()},${verdict}`;
    if (key in counts) counts[key]++;
  }
  const right = counts["true,defect"], called = right + counts["true,good"];
  write("judged", `${nJudged} of ${cards.size}`);
  write("seen-false-alarms", String(counts["true,good"]));
  write("seen-misses", String(counts["false,defect"]));
  write("seen-precision", called ? `${(right / called).toFixed(3)} (${right} of ${called})` : "–");
  for (const button of document.querySelectorAll(".undo")) button.disabled = !undoable.length;
  document.getElementById("save").disabled = !nJudged;
  document.getElementById("not-kept").hidden = isKept;
}

// verdicts.csv ------------------------------------------------------------------------------------

const COLUMNS = ["path", "verdict", "region", "x", "y", "width", "height", "score", "label",
  "threshold", "sha256", "bytes", "report", "detector", "detector_sha256", "detector_threshold"];

function rowsOf(card) {
  const { path, bytes, sha256, regions } = payloadOf(card);
  const row = (verdict, score, more) => ({
    path: path ?? nameOf(card), verdict, score, ...more,
    label: score > threshold() ? "defect" : "good",
    threshold: threshold(), sha256, bytes, report: report.id, detector: report.detectorFile,
    detector_sha256: report.detectorSha256, detector_threshold: report.threshold,
  });
  const ofRegions = Object.entries(verdicts[card.index].regions).map(([region, verdict]) => {
    const [x, y, width, height, , peak] = regions[region - 1];
    return row(verdict, peak, { region, x, y, width, height });
  });
  const verdict = verdictOn(card);
  return verdict ? [row(verdict, report.scores[card.index], {}), ...ofRegions] : ofRegions;
}

function verdictsAsCsv() {
  const field = (value) => {
    const text = String(value ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const judged = Object.keys(verdicts).map((index) => byIndex.get(Number(index))).filter(Boolean);
  const rows = judged.flatMap(rowsOf).map((row) => COLUMNS.map((column) => field(row[column])));
  return [COLUMNS, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

function saveVerdicts() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([verdictsAsCsv()], { type: "text/csv" }));
  link.download = "verdicts.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  isSaved = true;
}

document.getElementById("save").addEventListener("click", saveVerdicts);
addEventListener("beforeunload", (event) => {
  if (!isKept && !isSaved) event.preventDefault();
});
// The same report in another window.
addEventListener("storage", (event) => {
  if (event.key !== KEPT_AS) return;
  readVerdicts();
  undoable.length = 0;
  cards.forEach(showVerdict);
  countVerdicts();
  filterCards();
});
