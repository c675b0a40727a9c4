// An image at full size: its parts in the best scale that the file holds, moved and zoomed --------

const viewer = document.getElementById("viewer");
const stage = viewer.querySelector("canvas");
const MOST_ZOOM = 16, STEP = 1.25, MARGIN = 24;
// In the view: pixels of the screen for one of the image, and where its upper left corner lies.
const view = { card: null, scale: 1, x: 0, y: 0, region: null, hasOutlines: true };
let viewFrame = 0;

const tellViewer = (name, text) => setText(viewer.querySelector(`.${name}`), text);
const hasRegions = () => view.card.payload.regions.length > 1;
// The region that verdicts are on; null for the image as a whole.
const judgedRegion = () => (hasRegions() ? view.region : null);

function openViewer(card, region = null) {
  const { grid, codes, mask, crops } = payloadOf(card);
  Object.assign(view, {
    card, region, codes: decode(codes, grid), mask: mask && decode(mask, grid), path: null,
    pictures: [card.element.querySelector(".photo")],
    crops: crops.map(([x, y, width, height, text]) => {
      const picture = new Image();
      picture.addEventListener("load", drawView);
      picture.src = webp(text);
      return { x, y, width, height, picture };
    }),
  });
  makeCurrent(card);
  tellViewer("name", nameOf(card));
  stage.setAttribute("aria-label", `${nameOf(card)} at full size`);
  if (!viewer.open) viewer.showModal();
  listRegions();
  region ? goTo(region) : fit();
  stage.focus();
}

function listRegions() {
  const { regions, nRegions } = view.card.payload;
  const list = viewer.querySelector(".regions");
  list.hidden = !hasRegions();
  list.replaceChildren(...[null, ...regions.keys()].map((key) => {
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => (key === null ? selectImage() : goTo(key + 1)));
    return button;
  }));
  const left = nRegions - regions.length;
  tellViewer("more-regions", left > 0 ? `${left} more regions are lower; judge the image` : "");
  showView();
}

// Label, verdicts and which of them the buttons give.
function showView() {
  const { card } = view;
  if (!card || !viewer.open) return;
  const region = judgedRegion();
  tellViewer("state", `${card.element.querySelector(".label").textContent}, score `
    + Number(report.scores[card.index].toPrecision(4)));
  [...viewer.querySelectorAll(".regions button")].forEach((button, number) => {
    const verdict = verdictOn(card, number || null);
    const name = number ? `Region ${number}` : "Image";
    setText(button, verdict ? `${name}: ${VERDICTS[verdict]}` : name);
    button.setAttribute("aria-pressed", String(number === (region ?? 0)));
  });
  tellViewer("on", region ? `Region ${region}:` : "Image:");
  press(viewer.querySelectorAll("[data-verdict]"), verdictOn(card, region));
  drawView();
}

function selectImage() {
  view.region = null;
  showView();
}

// Where the image lies ----------------------------------------------------------------------------

const leastScale = () => Math.min(
  stage.clientWidth / view.card.payload.shape[1], stage.clientHeight / view.card.payload.shape[0]);

function place(scale, x, y) {
  const [height, width] = view.card.payload.shape;
  const least = leastScale();
  view.scale = Math.min(Math.max(scale, Math.min(least, 1)), Math.max(MOST_ZOOM, least));
  // Some of the image stays on the screen.
  const keep = (value, size, room) => (size <= room
    ? (room - size) / 2 : Math.min(Math.max(value, room / 2 - size), room / 2));
  view.x = keep(x, width * view.scale, stage.clientWidth);
  view.y = keep(y, height * view.scale, stage.clientHeight);
  drawView();
}

const fit = () => place(leastScale(), 0, 0);

function centre({ x, y, width, height }, scale) {
  place(scale, stage.clientWidth / 2 - (x + width / 2) * scale,
    stage.clientHeight / 2 - (y + height / 2) * scale);
}

function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const before = view.scale;
  const limit = Math.min(Math.max(before * factor, Math.min(leastScale(), 1)),
    Math.max(MOST_ZOOM, leastScale()));
  place(limit, x - ((x - view.x) * limit) / before, y - ((y - view.y) * limit) / before);
}

function pan(x, y) {
  place(view.scale, view.x + x, view.y + y);
}

function ownScale() {
  const { x, y, scale } = view;
  centre({ x: (stage.clientWidth / 2 - x) / scale, y: (stage.clientHeight / 2 - y) / scale,
    width: 0, height: 0 }, 1);
}

// Boxes that are worth a look: regions, or else the parts that were kept.
const places = () => {
  const { regions, crops } = view.card.payload;
  return (regions.length ? regions : crops).map(([x, y, width, height]) =>
    ({ x, y, width, height }));
};

function goTo(number) {
  const box = places()[number - 1];
  if (!box) return;
  view.region = number;
  const room = (side, size) => (side - 2 * MARGIN) / (size + 2 * MARGIN);
  const whole = Math.min(room(stage.clientWidth, box.width), room(stage.clientHeight, box.height));
  centre(box, Math.min(whole, Math.max(3, leastScale())));
  showView();
}

const nextPlace = () => goTo(((view.region ?? 0) % Math.max(places().length, 1)) + 1);

// Drawing -----------------------------------------------------------------------------------------

function drawView() {
  viewFrame ||= requestAnimationFrame(() => {
    viewFrame = 0;
    if (viewer.open) paintView();
  });
}

function outlinesOf(card) {
  if (view.path?.level !== level) {
    const { grid } = card.payload;
    view.path = {
      level,
      found: new Path2D(outlinePath(view.codes, level, grid)),
      truth: view.mask && new Path2D(outlinePath(view.mask, 0, grid)),
    };
  }
  return view.path;
}

function paintView() {
  const { card, scale, x, y } = view;
  const { shape: [height, width], factor } = card.payload;
  const ratio = devicePixelRatio || 1;
  stage.width = Math.round(stage.clientWidth * ratio);
  stage.height = Math.round(stage.clientHeight * ratio);
  const context = stage.getContext("2d");
  context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
  context.imageSmoothingEnabled = scale * ratio < 4;
  context.imageSmoothingQuality = "high";
  context.drawImage(view.pictures[0], 0, 0, width, height);
  for (const { picture, ...box } of view.crops) {
    if (picture.complete) context.drawImage(picture, box.x, box.y, box.width, box.height);
  }
  tellViewer("zoom", `${Math.round(100 * scale)}\u00a0%`);
  if (!view.hasOutlines) return;
  context.beginPath();
  context.rect(0, 0, width, height);
  context.clip();
  const { found, truth } = outlinesOf(card);
  context.scale(factor, factor);
  const stroke = (path, colour, thickness, dashes = []) => {
    const pixel = 1 / (scale * factor);
    context.strokeStyle = colour;
    context.lineWidth = thickness * pixel;
    context.setLineDash(dashes.map((length) => length * pixel));
    context.stroke(path);
  };
  stroke(found, "rgb(0 0 0 / 55%)", 5);
  stroke(found, "#ff8a3c", 2.5);
  if (truth) {
    // Where both run along the same pixels, the solid one is seen in the gaps.
    stroke(truth, "#ffffff", 5, [8, 8]);
    stroke(truth, "#0072b2", 3, [8, 8]);
  }
  if (hasRegions()) numberRegions(context, ratio);
}

function numberRegions(context, ratio) {
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.font = "600 13px system-ui, sans-serif";
  context.textBaseline = "bottom";
  places().forEach((box, i) => {
    const text = ` ${i + 1} `, left = view.x + box.x * view.scale;
    const bottom = Math.max(view.y + box.y * view.scale - 4, 18);
    context.fillStyle = view.region === i + 1 ? "#b34700" : "#1b1f24";
    context.fillRect(left, bottom - 17, context.measureText(text).width, 18);
    context.fillStyle = "#ffffff";
    context.fillText(text, left, bottom);
  });
}

// Mouse, fingers and buttons ----------------------------------------------------------------------

const fingers = new Map();
const middle = () => {
  const points = [...fingers.values()];
  const x = points.reduce((sum, point) => sum + point.x, 0) / points.length;
  const y = points.reduce((sum, point) => sum + point.y, 0) / points.length;
  return { x, y, spread: Math.hypot(points[0].x - x, points[0].y - y) };
};
const inStage = (event) => {
  const box = stage.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
};

stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, inStage(event));
});
stage.addEventListener("pointermove", (event) => {
  if (!fingers.has(event.pointerId)) return;
  const before = middle();
  fingers.set(event.pointerId, inStage(event));
  const now = middle();
  pan(now.x - before.x, now.y - before.y);
  if (before.spread > 0) zoom(now.spread / before.spread, now.x, now.y);
});
for (const name of ["pointerup", "pointercancel"]) {
  stage.addEventListener(name, (event) => fingers.delete(event.pointerId));
}
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const { x, y } = inStage(event);
  zoom(STEP ** (-event.deltaY / 100), x, y);
}, { passive: false });
stage.addEventListener("dblclick", (event) => zoom(2, inStage(event).x, inStage(event).y));

function toggleOutlines() {
  view.hasOutlines = !view.hasOutlines;
  viewer.querySelector(".show-outlines").setAttribute("aria-pressed", String(view.hasOutlines));
  drawView();
}

const VIEWER_KEYS = {
  "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP), 0: fit, 1: ownScale,
  ArrowLeft: () => pan(60, 0), ArrowRight: () => pan(-60, 0),
  ArrowUp: () => pan(0, 60), ArrowDown: () => pan(0, -60),
  o: toggleOutlines, r: nextPlace,
};
for (const [name, act] of Object.entries({
  "zoom-in": () => zoom(STEP), "zoom-out": () => zoom(1 / STEP), fit, "own-scale": ownScale,
  "show-outlines": toggleOutlines, "next-region": nextPlace, close: () => viewer.close(),
})) viewer.querySelector(`.${name}`).addEventListener("click", act);
viewer.addEventListener("close", () => {
  fingers.clear();
  makeCurrent(view.card);
});
new ResizeObserver(() => {
  if (viewer.open) place(view.scale, view.x, view.y);
}).observe(stage);
