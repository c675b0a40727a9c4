// Everything hangs on `level`, the index of the threshold in force. A pixel's code says how many of
// the levels its value exceeds, so that code > level says exactly whether it is a defect.
const report = JSON.parse(document.getElementById("report").textContent);
const slider = document.getElementById("slider");
const number = document.getElementById("number");
const opacity = document.getElementById("opacity");
const cards = new Map();
let level = report.levels.indexOf(report.threshold);

// Pixels as canvases hold them: alpha, blue, green, red.
const FOUND = 0xff005ed5, HALO = 0xb0000000, TRUE = 0xffb27200, TRUE_GAP = 0xd0ffffff;

const threshold = () => report.levels[level];
const position = (value) =>
  Math.min(Math.max((value - report.low) / (report.high - report.low), 0), 1);

// What a pixel of each code looks like where there is no outline.
function makeTints() {
  const text = getComputedStyle(document.documentElement).getPropertyValue("--colours");
  const stops = text.split(",").map((colour) => parseInt(colour.trim().slice(1), 16));
  const channel = (stop, shift) => (stops[stop] >> shift) & 255;
  const alpha = Math.round(2.55 * opacity.value) << 24;
  return Uint32Array.from([report.levels[0], ...report.levels], (value) => {
    const place = position(value) * (stops.length - 1);
    const left = Math.min(Math.floor(place), stops.length - 2);
    const mix = (shift) => Math.round(
      channel(left, shift) + (place - left) * (channel(left + 1, shift) - channel(left, shift)));
    return alpha | (mix(0) << 16) | (mix(8) << 8) | mix(16);
  });
}

let tints = makeTints();

// Cards: unpacked when they come near the screen, dropped when they are far away ------------------

// For each level the number of pixels above it: where two are equal, so are the outlines.
function countAbove(codes) {
  const counts = new Uint32Array(256);
  for (const code of codes) counts[code]++;
  let above = codes.length;
  return counts.map((count) => (above -= count));
}

function dashedEdge(mask, rows, columns) {
  const [least] = neighbours(mask, rows, columns);
  return Uint32Array.from(mask, (isDefect, i) => {
    if (!isDefect || least[i]) return 0;
    return ((i % columns) + Math.floor(i / columns)) % 8 < 5 ? TRUE : TRUE_GAP;
  });
}

function payloadOf(card) {
  card.payload ??= JSON.parse(card.element.querySelector("script").textContent);
  return card.payload;
}

function makeCanvas(card) {
  const { grid: [rows, columns], factor } = card.payload;
  const canvas = card.element.querySelector("canvas");
  // The last blocks may reach beyond the image.
  canvas.style.width = `${(100 * columns * factor) / card.payload.shape[1]}%`;
  canvas.style.height = `${(100 * rows * factor) / card.payload.shape[0]}%`;
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  return { pixels, paint: () => context.putImageData(image, 0, 0) };
}

function show(card) {
  const { grid, grid: [rows, columns], codes: text, mask: maskText } = payloadOf(card);
  const codes = decode(text, grid);
  const mask = maskText && decode(maskText, grid);
  const [least, most] = neighbours(codes, rows, columns);
  const truth = mask ? dashedEdge(mask, rows, columns) : new Uint32Array(codes.length);
  card.overlay = {
    codes, least, most, truth, above: countAbove(codes), nFound: null, ...makeCanvas(card),
  };
  drawOverlay(card.overlay);
}

function hide(card) {
  card.overlay = null;
  const canvas = card.element.querySelector("canvas");
  canvas.width = canvas.height = 0;
}

// Map and outlines share a canvas: to a browser every canvas on the screen costs much.
function drawOverlay(overlay) {
  const { codes, least, most, truth, above, pixels } = overlay;
  if (above[level] === overlay.nFound) return;
  overlay.nFound = above[level];
  const inForce = level;  // a local variable, since the loop is what the slider waits for
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    const isEdge = code > inForce && least[i] <= inForce;
    const isHalo = code <= inForce && most[i] > inForce;
    pixels[i] = isEdge ? FOUND : truth[i] || (isHalo ? HALO : tints[code]);
  }
  overlay.paint();
}

const webp = (text) => `data:image/webp;base64,${text}`;

function toggleReconstruction(card) {
  const picture = card.element.querySelector(".reconstruction");
  picture.hidden = !picture.hidden;
  picture.src ||= webp(payloadOf(card).reconstruction);
  card.element.querySelector(".redraw").setAttribute("aria-pressed", String(!picture.hidden));
}

// Labels and counts -------------------------------------------------------------------------------

const OUTCOMES = {
  "true,true": "found", "true,false": "false alarm",
  "false,true": "missed", "false,false": "rightly called good",
};

// Whether a pixel above the threshold lies on the true defect.
const isLocated = (index) => report.onDefect[index] !== null && report.onDefect[index] > threshold();

function outcomeOf(index, isDefect) {
  const outcome = OUTCOMES[[isDefect, report.defective[index]]];
  if (outcome !== "found" || !report.onDefect) return outcome;
  return isLocated(index) ? outcome : "found, but marked elsewhere";
}

// Whether the label is another than before.
function labelCard(card) {
  const { element, index } = card;
  const isDefect = report.scores[index] > threshold();
  if (report.defective) {
    setText(element.querySelector(".outcome"), outcomeOf(index, isDefect));
  }
  if (card.isDefect === isDefect) return false;
  card.isDefect = isDefect;
  element.classList.toggle("defect", isDefect);
  element.querySelector(".label").textContent = isDefect ? "▲ defect" : "○ good";
  element.querySelector('[data-verdict="good"]').textContent = isDefect ? "Good after all" : "Good";
  return true;
}

function share(part, whole) {
  return whole ? `${part} of ${whole} (${((100 * part) / whole).toFixed(1)}\u00a0%)` : "no such images";
}

function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}
const write = (id, text) => setText(document.getElementById(id), text);

function count() {
  const isAbove = (score) => score > threshold();
  const { scores, goodScores, defective } = report;
  const called = scores.filter(isAbove).length;
  write("called", share(called, scores.length));
  write("good-above", share(goodScores.filter(isAbove).length, goodScores.length));
  let summary = `${called} of ${scores.length} called defective`;
  if (defective) {
    const nDefective = defective.filter(Boolean).length;
    const found = scores.filter((score, i) => defective[i] && isAbove(score)).length;
    write("found", share(found, nDefective));
    if (report.onDefect) {
      write("located", share(report.onDefect.filter((_, i) => isLocated(i)).length, nDefective));
    }
    write("false-alarms", share(called - found, scores.length - nDefective));
    write("precision", called ? (found / called).toFixed(3) : "none called");
    write("recall", nDefective ? (found / nDefective).toFixed(3) : "no defects");
    summary += `, ${found} found, ${called - found} false alarms`;
  }
  write("summary", summary);
  return summary;
}

// The threshold -----------------------------------------------------------------------------------

function draw() {
  slider.value = threshold();
  number.value = Number(threshold().toPrecision(6));  // the line to copy has all digits
  document.getElementById("marker").style.left = `${100 * position(threshold())}%`;
  write("command", `${report.command} --value=${threshold()} -o new.skops`);
  write("line", `detector.set_params(threshold=${threshold()})`);
  write("in-force", `Threshold: ${threshold()}`);
  slider.setAttribute("aria-valuetext", `${threshold()}: ${count()}`);
  let isOther = false;
  for (const card of cards.values()) {
    isOther = labelCard(card) || isOther;
    if (card.overlay) drawOverlay(card.overlay);
  }
  if (!isOther) return;
  countVerdicts();
  if (labelFilter.value) filterCards();
}

let frame = 0;
function moveTo(index) {
  level = Math.min(Math.max(index, 0), report.levels.length - 1);
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    draw();
  });
}

function nearest(value) {
  const distances = report.levels.map((candidate) => Math.abs(candidate - value));
  return distances.indexOf(Math.min(...distances));
}

const STEPS = {
  ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1,
  PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity,
};

slider.addEventListener("input", () => moveTo(nearest(slider.valueAsNumber)));
slider.addEventListener("keydown", (event) => {
  if (!(event.key in STEPS)) return;
  event.preventDefault();
  moveTo(level + STEPS[event.key]);
});
number.addEventListener("change", () => {
  if (number.value) moveTo(nearest(number.valueAsNumber));
  else draw();
});
document.getElementById("reset").addEventListener("click", () =>
  moveTo(report.levels.indexOf(report.threshold)));
opacity.addEventListener("input", () => {
  tints = makeTints();
  for (const { overlay } of cards.values()) if (overlay) overlay.nFound = null;
  moveTo(level);
});

// Files opened from a disk have no clipboard of their own in some browsers.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  write("copied", `Copied: ${text}`);
}
document.getElementById("copy-command").addEventListener("click", () =>
  copy(document.getElementById("command").textContent));
document.getElementById("copy-value").addEventListener("click", () => copy(String(threshold())));
document.getElementById("copy-line").addEventListener("click", () =>
  copy(document.getElementById("line").textContent));

for (const element of document.querySelectorAll(".card")) {
  cards.set(element, { element, index: Number(element.dataset.index) });
}
