// The CT viewer. Voxels come once, everything else happens here: reslice, window, overlay, labels.
//
// Points inside this file are arrays over the volume's axes [d, h, w], which grow to superior,
// anterior and right. Python speaks RAS mm, [x, y, z], so the two are each other's reverse. On
// screen every axis runs backwards in every plane: that is the radiological display.
//
// Words from Python reach the page as textContent or canvas text, never as HTML.

const PLANES = {
  axial: { title: "Axial", normal: 0, rows: 1, cols: 2, edges: ["R", "L", "A", "P"] },
  coronal: { title: "Coronal", normal: 1, rows: 0, cols: 2, edges: ["R", "L", "S", "I"] },
  sagittal: { title: "Sagittal", normal: 2, rows: 0, cols: 1, edges: ["A", "P", "S", "I"] },
};
const SIDES = [["S", "I"], ["A", "P"], ["R", "L"]]; // of each axis: where it grows to, and away
const TOOLS = [
  ["window", "Window", "Drag sideways for the width, up and down for the level (W)"],
  ["scroll", "Scroll", "Drag up and down through the slices (S)"],
  ["pan", "Pan", "Drag the image (P); also the middle button, or Shift with the left"],
  ["zoom", "Zoom", "Drag up to enlarge (Z); also the right button, or Ctrl with the wheel"],
  ["cross", "Crosshair", "Drag the crosshair (C); a click sets it with any tool"],
];
const INFERNO = ["#000004", "#210c4a", "#57106e", "#8a226a", "#bc3754", "#e45a31", "#f98e09",
  "#f9cb35", "#fcffa4"];
const DIVERGING = ["#1d4ed8", "#4f86ee", "#a9c9fb", "#ffffff", "#fbb4a6", "#ee5c4a", "#c8102e"];
const FULL_ALPHA = 0.5; // of the limit; below it the colours fade, so that weak values hide no CT
const COLOURS = 1024;
const NARROW = 1080; // CSS px; below it the panel goes under the image
const SINGLE = 560; // below it only one pane fits
const KEEP_BYTES = 300e6;
const CLICK_MS = 260; // a second click within it makes a double-click, and nothing is picked
const INK = "#eef2f5";
const PLATE = "rgba(0, 0, 0, 0.5)";
const LETTERS = "#ffd978";
const CROSS = "#ffe08a";
const REGION = "#5ad1ff";
const FONT = '"Source Sans", "Source Sans Pro", "Helvetica Neue", Arial, sans-serif';

const volumes = new Map(); // digest -> Int16Array, oldest first
const memory = new Map(); // viewer key -> what the reader set, over reruns and page changes
const viewers = new Map(); // root element -> Viewer

export default function ({ parentElement, data, setStateValue, setTriggerValue }) {
  const root = parentElement.querySelector(".ct");
  if (!root || !data) return undefined;
  const message = read(data);
  if (message.kind !== "view") {
    root.dataset.kind = "volume";
    if (message.kind === "volume") keep(message);
    else askIfLost(message.digest, setTriggerValue);
    return undefined;
  }
  if (!viewers.has(root)) viewers.set(root, new Viewer(root));
  const viewer = viewers.get(root);
  viewer.update(message, setStateValue);
  return () => {
    viewer.close();
    viewers.delete(root);
  };
}

// ---------------------------------------------------------------- messages

function read(bytes) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  // Copied: the message starts anywhere in the socket's buffer, typed arrays want even places.
  header.blobs = header.blobs.map(([start, size]) =>
    bytes.slice(4 + length + start, 4 + length + start + size),
  );
  return header;
}

function keep({ digest, blobs }) {
  volumes.delete(digest);
  volumes.set(digest, new Int16Array(blobs[0].buffer));
  let total = 0;
  for (const voxels of volumes.values()) total += voxels.byteLength;
  for (const [name, voxels] of volumes) {
    if (total <= KEEP_BYTES || name === digest) break;
    total -= voxels.byteLength;
    volumes.delete(name);
  }
  for (const viewer of viewers.values()) viewer.arrived();
}

// Python believes that this browser has the volume. A rerun that overtook the message, or memory
// given back since, can make that wrong.
function askIfLost(digest, setTriggerValue) {
  if (volumes.has(digest)) return;
  setTimeout(() => volumes.has(digest) || setTriggerValue("lost", digest), 500);
}

// ---------------------------------------------------------------- sampling

// Which source cells each of `count` screen pixels takes along one axis, and how much of each.
// first, step: cell index of the first pixel's centre and from pixel to pixel.
function taps(n, count, first, step, smooth, widen) {
  const reach = widen ? Math.max(1, Math.abs(step)) : 1;
  const span = smooth ? 2 * Math.ceil(reach) : 1;
  const at = new Int32Array(count * span);
  const weight = new Float32Array(count * span);
  let begin = count;
  let end = 0;
  for (let i = 0; i < count; i++) {
    const place = first + i * step;
    if (place < -0.5 || place > n - 0.5) continue;
    begin = Math.min(begin, i);
    end = i + 1;
    if (!smooth) {
      at[i] = clamp(Math.round(place), 0, n - 1);
      weight[i] = 1;
      continue;
    }
    const low = Math.floor(place) - span / 2 + 1;
    let total = 0;
    for (let k = 0; k < span; k++) total += Math.max(0, 1 - Math.abs(low + k - place) / reach);
    for (let k = 0; k < span; k++) {
      at[i * span + k] = clamp(low + k, 0, n - 1);
      weight[i * span + k] = Math.max(0, 1 - Math.abs(low + k - place) / reach) / total;
    }
  }
  return { at, weight, span, begin, end };
}

// A plane of cells resampled to screen rows: across once for each source row, then down.
class Grid {
  constructor(values, base, rowStride, colStride, rows, cols, width) {
    Object.assign(this, { rows, cols, width });
    this.low = Infinity;
    let high = -1;
    for (let i = rows.begin * rows.span; i < rows.end * rows.span; i++) {
      this.low = Math.min(this.low, rows.at[i]);
      high = Math.max(high, rows.at[i]);
    }
    const { at, weight, span, begin, end } = cols;
    const across = new Float32Array(Math.max(0, high - this.low + 1) * width);
    for (let row = this.low; row <= high; row++) {
      const source = base + row * rowStride;
      const target = (row - this.low) * width;
      let k = begin * span;
      for (let x = begin; x < end; x++) {
        let sum = 0;
        for (const stop = k + span; k < stop; k++) {
          sum += weight[k] * values[source + at[k] * colStride];
        }
        across[target + x] = sum;
      }
    }
    this.across = across;
  }

  // The values of screen row y between cols.begin and cols.end; false when it has none.
  line(y, out) {
    const { at, weight, span, begin, end } = this.rows;
    if (y < begin || y >= end) return false;
    const { across, low, width, cols: { begin: x0, end: x1 } } = this;
    for (let k = y * span; k < (y + 1) * span; k++) {
      const w = weight[k];
      let source = (at[k] - low) * width + x0;
      if (k === y * span) for (let x = x0; x < x1; x++) out[x] = w * across[source++];
      else if (w) for (let x = x0; x < x1; x++) out[x] += w * across[source++];
    }
    return true;
  }
}

// An overlay on a grid of its own: reads values at mm, straight or turned against the volume.
class Map3 {
  constructor(description, blob) {
    Object.assign(this, description);
    this.values = new Float32Array(blob.buffer);
    const [r0, r1, r2] = [0, 4, 8].map((start) => this.back.slice(start, start + 4));
    this.axes = [r2, r1, r0]; // cell index along d, h, w from x, y, z, 1
    const off = this.axes.flatMap((row, axis) => row.slice(0, 3).filter((_, i) => i !== 2 - axis));
    this.straight = Math.max(...off.map(Math.abs)) < 1e-5;
  }

  // Cell indices [d, h, w], not rounded, of a point [d, h, w] in mm.
  cells(point) {
    return this.axes.map((r) => r[0] * point[2] + r[1] * point[1] + r[2] * point[0] + r[3]);
  }

  at(point, smooth) {
    const place = this.cells(point);
    if (place.some((c, axis) => c < -0.5 || c > this.shape[axis] - 0.5)) return NaN;
    return this.read(place[0], place[1], place[2], smooth);
  }

  read(d, h, w, smooth) {
    const [D, H, W] = this.shape;
    if (!smooth) {
      const index = (clamp(Math.round(d), 0, D - 1) * H + clamp(Math.round(h), 0, H - 1)) * W;
      return this.values[index + clamp(Math.round(w), 0, W - 1)];
    }
    let sum = 0;
    const [d0, h0, w0] = [Math.floor(d), Math.floor(h), Math.floor(w)];
    for (let i = 0; i < 8; i++) {
      const [a, b, c] = [d0 + (i >> 2), h0 + ((i >> 1) & 1), w0 + (i & 1)];
      const weight = (1 - Math.abs(a - d)) * (1 - Math.abs(b - h)) * (1 - Math.abs(c - w));
      if (weight <= 0) continue;
      const index = (clamp(a, 0, D - 1) * H + clamp(b, 0, H - 1)) * W + clamp(c, 0, W - 1);
      sum += weight * this.values[index];
    }
    return sum;
  }

  // Something with cols and line() for a pane, as Grid has; null when the slice misses the grid.
  slice(plane, frame, smooth) {
    return this.straight ? this.grid(plane, frame, smooth) : new Turned(this, plane, frame, smooth);
  }

  grid(plane, frame, smooth) {
    const { normal, rows, cols } = plane;
    const along = (axis, mm) => this.axes[axis][2 - axis] * mm + this.axes[axis][3];
    const place = along(normal, frame.position);
    if (place < -0.5 || place > this.shape[normal] - 0.5) return null;
    const [nr, nc] = [this.shape[rows], this.shape[cols]];
    const strides = [this.shape[1] * this.shape[2], this.shape[2], 1];
    const flat = new Float32Array(nr * nc);
    const first = smooth ? Math.floor(place) : Math.round(place);
    const share = smooth ? place - first : 0;
    const last = this.shape[normal] - 1;
    const a = clamp(first, 0, last) * strides[normal];
    const b = clamp(first + 1, 0, last) * strides[normal];
    for (let r = 0; r < nr; r++) {
      for (let c = 0; c < nc; c++) {
        const i = r * strides[rows] + c * strides[cols];
        flat[r * nc + c] = (1 - share) * this.values[a + i] + share * this.values[b + i];
      }
    }
    const table = (axis, n, count, mm) => {
      const step = -this.axes[axis][2 - axis] / frame.scale;
      return taps(n, count, along(axis, mm), step, smooth, false);
    };
    const down = table(rows, nr, frame.height, frame.top);
    const across = table(cols, nc, frame.width, frame.left);
    return new Grid(flat, 0, nc, 1, down, across, frame.width);
  }
}

// Rows of an overlay whose axes are turned against the volume's; slower, so only used for those.
class Turned {
  constructor(map, plane, frame, smooth) {
    Object.assign(this, { map, plane, frame, smooth, cols: { begin: 0, end: frame.width } });
  }

  line(y, out) {
    const { plane, frame } = this;
    const point = [0, 0, 0];
    point[plane.normal] = frame.position;
    point[plane.rows] = frame.top - y / frame.scale;
    for (let x = 0; x < frame.width; x++) {
      point[plane.cols] = frame.left - x / frame.scale;
      out[x] = this.map.at(point, this.smooth);
    }
    return true;
  }
}

// ---------------------------------------------------------------- colours

// DICOM PS3.3 C.11.2.1.2.1, linear, for every int16; level and width in HU.
function windowTable(level, width) {
  const table = new Uint8ClampedArray(65536);
  const low = level - 0.5 - (width - 1) / 2;
  const high = level - 0.5 + (width - 1) / 2;
  for (let i = 0; i < 65536; i++) {
    const hu = i - 32768;
    if (hu <= low) table[i] = 0;
    else if (hu > high) table[i] = 255;
    else table[i] = ((hu - (level - 0.5)) / (width - 1) + 0.5) * 255;
  }
  return table;
}

// Colours times opacity, and what is left of the CT, for COLOURS values from low to high.
function colourTable(signed, opacity, threshold) {
  const stops = (signed ? DIVERGING : INFERNO).map(rgb);
  const table = { red: [], green: [], blue: [], left: [] };
  for (const name of Object.keys(table)) table[name] = new Float32Array(COLOURS);
  for (let i = 0; i < COLOURS; i++) {
    const share = i / (COLOURS - 1);
    const strength = signed ? Math.abs(2 * share - 1) : share;
    const alpha = strength < threshold ? 0 : opacity * Math.min(1, strength / FULL_ALPHA);
    const place = share * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    const mixed = [0, 1, 2].map((c) => stops[low][c] + (stops[low + 1][c] - stops[low][c]) * (place - low));
    [table.red[i], table.green[i], table.blue[i]] = mixed.map((c) => c * alpha);
    table.left[i] = 1 - alpha;
  }
  return table;
}

// The index into that table is value * slope + zero.
function colourScale(limit, signed) {
  const last = COLOURS - 1;
  return signed ? [last / limit / 2, last / 2] : [last / limit, 0];
}

// ---------------------------------------------------------------- the viewer

class Viewer {
  constructor(root) {
    this.root = root;
    this.cursor = null; // {plane, x, y} of the mouse, CSS pixels
    this.generation = 0;
    this.panes = {};
    this.build();
    this.watch = new ResizeObserver(() => this.request());
    this.watch.observe(root);
    this.onFull = () => this.request();
    document.addEventListener("fullscreenchange", this.onFull);
  }

  close() {
    this.watch.disconnect();
    document.removeEventListener("fullscreenchange", this.onFull);
    clearTimeout(this.pickTimer);
    clearTimeout(this.speakTimer);
  }

  update(message, setStateValue) {
    this.setStateValue = setStateValue;
    const before = this.message;
    this.message = message;
    this.generation += 1;
    this.maps = message.overlays.map((overlay, i) => new Map3(overlay, message.blobs[i]));
    this.masks = message.masks.map((mask, i) => ({
      ...mask,
      bits: message.blobs[this.maps.length + i],
      paths: new Map(),
    }));
    this.recall();
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", message.alt);
    const shape = ({ overlays, regions, masks, thinning, presets }) =>
      JSON.stringify([overlays, regions.length, masks, thinning, presets]);
    if (!before || shape(before) !== shape(message)) this.fillPanel();
    if (!before) this.fillPresets();
    this.arrived();
    this.request();
  }

  arrived() {
    const voxels = volumes.get(this.message?.digest);
    if (voxels) {
      this.voxels = voxels;
      this.voxelsOf = this.message.digest;
      this.request();
    }
    this.wait.hidden = this.voxelsOf === this.message?.digest;
  }

  // What the reader set under this key. A new volume keeps how it is looked at, not where.
  recall() {
    const { key, digest, shape, start, window: [level, width] } = this.message;
    const fresh = {
      main: "axial", layout: "mpr", tool: "window", level, width, smooth: true, crosshair: true,
      overlay: true, title: "", opacity: 0.5, threshold: 0.15, rawGrid: false, regions: true,
      masks: {}, cross: [0, 0, 0], views: {}, digest: "", start: "",
    };
    const state = memory.get(key) ?? fresh;
    memory.set(key, state);
    this.state = state;
    const startText = JSON.stringify(start);
    if (state.digest !== digest) {
      state.cross = shape.map((n) => (n - 1) >> 1);
      state.views = {};
      state.digest = digest;
      state.start = "null";
    }
    if (state.start !== startText) {
      state.start = startText;
      if (start) this.goTo([...start].reverse());
    }
    for (const mask of this.masks) state.masks[mask.name] ??= mask.shown;
  }

  get map() {
    return this.maps.find((map) => map.title === this.state.title) ?? this.maps[0] ?? null;
  }

  get visibleMap() {
    return this.state.overlay && this.map?.limit > 0 ? this.map : null;
  }

  // ---- geometry

  mm(axis, index) {
    return this.message.origin[axis] + index * this.message.spacing[axis];
  }

  nearest(axis, mm) {
    const index = Math.round((mm - this.message.origin[axis]) / this.message.spacing[axis]);
    return clamp(index, 0, this.message.shape[axis] - 1);
  }

  goTo(point) {
    this.state.cross = point.map((mm, axis) => this.nearest(axis, mm));
    for (const [name, view] of Object.entries(this.state.views)) this.bringIntoView(name, view);
  }

  bringIntoView(name, view) {
    const pane = this.panes[name];
    if (!pane.frame) return;
    for (const [axis, size] of [["rows", pane.frame.height], ["cols", pane.frame.width]]) {
      const at = this.mm(PLANES[name][axis], this.state.cross[PLANES[name][axis]]);
      if (Math.abs(at - view[axis]) * pane.frame.scale > size / 2) view[axis] = at;
    }
  }

  view(name) {
    const { rows, cols } = PLANES[name];
    const middle = (axis) => this.mm(axis, (this.message.shape[axis] - 1) / 2);
    this.state.views[name] ??= { zoom: 1, rows: middle(rows), cols: middle(cols) };
    return this.state.views[name];
  }

  // Where a pane's pixels lie: mm of the first pixel's centre (top, left) and pixels a mm.
  frameOf(name, width, height, ratio) {
    const plane = PLANES[name];
    const { shape, spacing } = this.message;
    const [tall, wide] = [plane.rows, plane.cols].map((axis) => shape[axis] * spacing[axis]);
    const view = this.view(name);
    const scale = Math.min(width / wide, height / tall) * view.zoom;
    return {
      width, height, scale, ratio,
      left: view.cols + (width / 2 - 0.5) / scale,
      top: view.rows + (height / 2 - 0.5) / scale,
      position: this.mm(plane.normal, this.state.cross[plane.normal]),
    };
  }

  // The point in mm at CSS pixels of a pane.
  pointAt(name, x, y) {
    const { frame } = this.panes[name];
    const plane = PLANES[name];
    const point = [0, 0, 0];
    point[plane.normal] = frame.position;
    point[plane.rows] = frame.top - (y * frame.ratio - 0.5) / frame.scale;
    point[plane.cols] = frame.left - (x * frame.ratio - 0.5) / frame.scale;
    return point;
  }

  inside(point) {
    return point.every((mm, axis) => {
      const index = (mm - this.message.origin[axis]) / this.message.spacing[axis];
      return index >= -0.5 && index <= this.message.shape[axis] - 0.5;
    });
  }

  hu(point) {
    if (this.voxelsOf !== this.message.digest || !this.inside(point)) return null;
    const [d, h, w] = point.map((mm, axis) => this.nearest(axis, mm));
    const [, H, W] = this.message.shape;
    return this.voxels[(d * H + h) * W + w];
  }

  cursorPoint() {
    return this.cursor && this.pointAt(this.cursor.plane, this.cursor.x, this.cursor.y);
  }

  crossPoint() {
    return this.state.cross.map((index, axis) => this.mm(axis, index));
  }

  // ---- changes

  set(changes) {
    Object.assign(this.state, changes);
    this.request();
  }

  scroll(name, by) {
    const axis = PLANES[name].normal;
    const last = this.message.shape[axis] - 1;
    this.state.cross[axis] = clamp(this.state.cross[axis] - by, 0, last);
    this.request();
  }

  reset() {
    const [level, width] = this.message.window;
    this.state.views = {};
    this.set({ level, width });
  }

  zoomAt(name, factor, x, y) {
    const view = this.view(name);
    const plane = PLANES[name];
    const point = this.pointAt(name, x, y);
    const zoom = clamp(view.zoom * factor, 0.5, 20);
    const moved = view.zoom / zoom;
    for (const axis of ["rows", "cols"]) {
      const fixed = point[plane[axis]];
      view[axis] = fixed + (view[axis] - fixed) * moved;
    }
    view.zoom = zoom;
    this.request();
  }

  pan(name, dx, dy) {
    const { scale, ratio } = this.panes[name].frame;
    const view = this.view(name);
    view.cols += (dx * ratio) / scale;
    view.rows += (dy * ratio) / scale;
    this.request();
  }

  setCross(point) {
    this.state.cross = point.map((mm, axis) => this.nearest(axis, mm));
    this.request();
  }

  // The one thing that goes to Python.
  pick(point) {
    const mm = [...point].reverse().map((x) => Math.round(x * 100) / 100);
    this.root.dataset.picked = mm.join(",");
    this.setStateValue("picked", { mm, digest: this.message.digest });
  }

  strongest() {
    if (!this.map) return;
    this.goTo([...this.map.peak].reverse());
    this.set({ overlay: true });
  }

  // ---- drawing

  request() {
    this.frameRequest ??= requestAnimationFrame(() => {
      this.frameRequest = null;
      this.draw();
    });
  }

  draw() {
    if (!this.message) return;
    const { root, state } = this;
    const width = root.clientWidth;
    if (!width) return;
    root.classList.toggle("narrow", width < NARROW);
    root.classList.toggle("single", state.layout === "single" || width < SINGLE);
    this.place();
    const started = performance.now();
    let drawn = false;
    for (const name of Object.keys(PLANES)) drawn = this.drawPane(name) || drawn;
    if (drawn) root.dataset.drawMs = (performance.now() - started).toFixed(2);
    this.report();
    this.refreshControls();
  }

  // The big pane first in the stage, the others beside it.
  place() {
    const { main } = this.state;
    if (this.placed === main) return;
    this.placed = main;
    for (const [name, pane] of Object.entries(this.panes)) {
      pane.home.classList.toggle("main", name === main);
      if (name === main) this.stage.prepend(pane.home);
      else this.side.append(pane.home);
    }
  }

  drawPane(name) {
    const pane = this.panes[name];
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(pane.home.clientWidth * ratio);
    const height = Math.round(pane.home.clientHeight * ratio);
    if (!width || !height) return false;
    for (const canvas of [pane.base, pane.top]) {
      if (canvas.width !== width || canvas.height !== height) {
        Object.assign(canvas, { width, height });
        pane.drawn = "";
      }
    }
    pane.frame = this.frameOf(name, width, height, ratio);
    const { state } = this;
    const map = this.visibleMap;
    const wanted = JSON.stringify([
      this.voxelsOf, pane.frame, state.level, state.width, state.smooth,
      map && [this.generation, map.title, state.opacity, state.threshold, state.rawGrid],
    ]);
    const stale = pane.drawn !== wanted;
    if (stale) this.paint(pane, PLANES[name], map);
    pane.drawn = wanted;
    this.annotate(name, pane.top.getContext("2d"), pane.frame);
    const { left, top, scale } = pane.frame;
    pane.top.dataset.map = [left + 0.5 / scale, top + 0.5 / scale, scale / ratio].join(",");
    return stale;
  }

  paint(pane, plane, map) {
    const { frame } = pane;
    const { width, height } = frame;
    const context = pane.base.getContext("2d");
    if (pane.image?.width !== width || pane.image?.height !== height) {
      pane.image = context.createImageData(width, height);
    }
    const pixels = new Uint32Array(pane.image.data.buffer);
    pixels.fill(0xff000000);
    if (this.voxelsOf === this.message.digest) this.fill(pixels, plane, frame, map);
    context.putImageData(pane.image, 0, 0);
  }

  fill(pixels, plane, frame, map) {
    const { width, height } = frame;
    const { state } = this;
    const grey = this.greys();
    const ct = this.slice(plane, frame);
    const over = map?.slice(plane, frame, !state.rawGrid);
    const { red, green, blue, left } = over
      ? colourTable(map.signed, state.opacity, state.threshold)
      : {};
    const [slope, zero] = over ? colourScale(map.limit, map.signed) : [];
    const values = new Float32Array(width);
    const marks = new Float32Array(width);
    for (let y = 0; y < height; y++) {
      if (!ct.line(y, values)) continue;
      const row = y * width;
      for (let x = ct.cols.begin; x < ct.cols.end; x++) {
        pixels[row + x] = 0xff000000 | (grey[(values[x] + 32768.5) | 0] * 0x010101);
      }
      if (!over?.line(y, marks)) continue;
      const begin = Math.max(ct.cols.begin, over.cols.begin);
      const end = Math.min(ct.cols.end, over.cols.end);
      for (let x = begin; x < end; x++) {
        // NaN, beyond the overlay's grid, is no index and so has no colour.
        const i = Math.max(0, Math.min(COLOURS - 1, Math.round(marks[x] * slope + zero)));
        const kept = left[i];
        if (!(kept < 1)) continue;
        const under = (pixels[row + x] & 255) * kept + 0.5;
        pixels[row + x] =
          0xff000000 | ((under + blue[i]) << 16) | ((under + green[i]) << 8) | (under + red[i]);
      }
    }
  }

  slice(plane, frame) {
    const { shape, origin, spacing } = this.message;
    const strides = [shape[1] * shape[2], shape[2], 1];
    const table = (axis, count, mm) => {
      const step = -1 / (frame.scale * spacing[axis]);
      const first = (mm - origin[axis]) / spacing[axis];
      return taps(shape[axis], count, first, step, this.state.smooth, true);
    };
    const rows = table(plane.rows, frame.height, frame.top);
    const cols = table(plane.cols, frame.width, frame.left);
    const base = this.state.cross[plane.normal] * strides[plane.normal];
    return new Grid(
      this.voxels, base, strides[plane.rows], strides[plane.cols], rows, cols, frame.width,
    );
  }

  greys() {
    const wanted = `${this.state.level}/${this.state.width}`;
    if (this.greysOf !== wanted) {
      this.greyTable = windowTable(this.state.level, this.state.width);
      this.greysOf = wanted;
    }
    return this.greyTable;
  }

  // ---- labels, in CSS pixels

  annotate(name, context, frame) {
    const { ratio } = frame;
    const [width, height] = [frame.width / ratio, frame.height / ratio];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, frame.width, frame.height);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawMasks(name, context, frame);
    if (this.state.regions) this.drawRegions(name, context, frame);
    if (this.state.crosshair) this.drawCross(name, context, frame);
    const write = writer(context);
    const [left, right, top, bottom] = PLANES[name].edges;
    write(left, 8, height / 2, "left", "middle", LETTERS, 15, 600);
    write(right, width - 8, height / 2, "right", "middle", LETTERS, 15, 600);
    write(top, width / 2, 8, "center", "top", LETTERS, 15, 600);
    write(bottom, width / 2, height - 8, "center", "bottom", LETTERS, 15, 600);
    if (name === this.state.main) this.labelMain(write, context, frame, width, height);
    else this.labelSmall(write, name, height);
  }

  sliceText(name) {
    const axis = PLANES[name].normal;
    const n = this.message.shape[axis];
    return `${n - this.state.cross[axis]}/${n}`;
  }

  labelSmall(write, name, height) {
    write(`${PLANES[name].title} ${this.sliceText(name)}`, 8, 8, "left", "top");
    if (this.cursor?.plane === name) {
      const [hu] = this.cursorLines(this.cursorPoint());
      write(hu, 8, height - 8, "left", "bottom");
    }
  }

  labelMain(write, context, frame, width, height) {
    const { state, message } = this;
    const axis = PLANES[state.main].normal;
    const lines = [
      message.title,
      `${PLANES[state.main].title}  ${this.sliceText(state.main)}`,
      `${sided(axis, frame.position)} mm   spacing ${trim(message.spacing[axis], 2)} mm`,
      message.thinning,
    ].filter(Boolean);
    lines.forEach((line, i) =>
      write(line, 8, 8 + 16 * i, "left", "top", INK, 12.5, i ? 400 : 600, width / 2 - 24));
    write(`W ${Math.round(state.width)}  L ${minus(Math.round(state.level))}`, width - 8, height - 8,
      "right", "bottom", INK, 13, 600);
    scaleBar(write, context, width - 8, height - 32, frame.scale / frame.ratio, width / 3);
    const told = this.cursor?.plane === state.main ? this.cursorLines(this.cursorPoint()) : [];
    [...told].reverse().forEach((line, i) =>
      write(line, 8, height - 8 - 16 * i, "left", "bottom", INK, 12.5, 400, width / 2 - 20));
    if (this.visibleMap) this.colourBar(write, context, width, height);
  }

  // What is under the mouse: HU, place in the patient, overlay, region.
  cursorLines(point) {
    const hu = this.hu(point);
    if (hu === null) return ["outside the volume"];
    const lines = [`${minus(hu)} HU`, [2, 1, 0].map((axis) => sided(axis, point[axis])).join("  ") + " mm"];
    const map = this.visibleMap;
    if (map) {
      const value = map.at(point, !this.state.rawGrid);
      lines.push(
        Number.isNaN(value)
          ? "outside the overlay's grid"
          : `overlay ${significant(value, map.signed)} (${percent(value / map.limit)})`,
      );
    }
    const region = this.state.regions && this.regionAt(point);
    if (region) lines.push(`${region.name}: ${significant(region.weight)}`);
    return lines;
  }

  colourBar(write, context, width, height) {
    const { map, state } = this;
    const right = width - 10;
    const top = 34;
    const tall = Math.min(150, height / 2 - top - 34);
    write(map.title, right, 8, "right", "top", INK, 12.5, 600, width / 2 - 24);
    if (tall < 40) return;
    const colours = colourTable(map.signed, state.opacity, state.threshold);
    for (let y = 0; y < tall; y++) {
      const i = Math.round((1 - y / (tall - 1)) * (COLOURS - 1));
      const [r, g, b] = ["red", "green", "blue"].map((c) => 90 * colours.left[i] + colours[c][i]);
      context.fillStyle = colours.left[i] === 1 ? "#15191d" : `rgb(${r},${g},${b})`;
      context.fillRect(right - 12, top + y, 12, 1.5);
    }
    context.strokeStyle = "#8b96a0";
    context.lineWidth = 1;
    context.strokeRect(right - 12.5, top - 0.5, 13, tall + 1);
    const limit = map.limit;
    const mark = (value, word) => {
      const share = map.signed ? value / limit / 2 + 0.5 : value / limit;
      const y = top + (1 - share) * tall;
      context.fillStyle = INK;
      context.fillRect(right - 16, y - 0.5, 16, 1);
      write(word ? `${word}  ${significant(value, map.signed)}` : significant(value, map.signed),
        right - 20, y, "right", "middle", INK, 12);
    };
    const [low, high] = map.ends;
    mark(limit, high);
    mark(0, map.signed ? "" : low);
    if (map.signed) mark(-limit, low);
  }

  drawCross(name, context, frame) {
    const { x, y } = this.screen(name, frame, this.crossPoint());
    const [width, height] = [frame.width / frame.ratio, frame.height / frame.ratio];
    const gap = name === this.state.main ? 16 : 8;
    context.globalAlpha = 0.65;
    context.beginPath();
    for (const [x0, y0, x1, y1] of [
      [0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height],
    ]) {
      if (x1 < x0 || y1 < y0) continue;
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    for (const [colour, thick] of [[PLATE, 2.5], [CROSS, 1]]) {
      context.strokeStyle = colour;
      context.lineWidth = thick;
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  // CSS pixels of a point in mm.
  screen(name, frame, point) {
    const { rows, cols } = PLANES[name];
    return {
      x: ((frame.left - point[cols]) * frame.scale + 0.5) / frame.ratio,
      y: ((frame.top - point[rows]) * frame.scale + 0.5) / frame.ratio,
    };
  }

  drawRegions(name, context, frame) {
    const { normal } = PLANES[name];
    const most = Math.max(...this.message.regions.map((region) => Math.abs(region.weight)));
    let strongest = null;
    for (const region of this.message.regions) {
      const [low, high] = bounds(region);
      if (frame.position < low[normal] || frame.position >= high[normal]) continue;
      const share = most > 0 ? Math.abs(region.weight) / most : 0;
      if (!share) continue;
      const a = this.screen(name, frame, high);
      const b = this.screen(name, frame, low);
      context.globalAlpha = 0.22 * share;
      context.fillStyle = REGION;
      context.fillRect(a.x, a.y, b.x - a.x, b.y - a.y);
      context.globalAlpha = 0.25 + 0.75 * share;
      context.strokeStyle = REGION;
      context.lineWidth = 0.75 + 1.25 * share;
      context.strokeRect(a.x, a.y, b.x - a.x, b.y - a.y);
      if (!strongest || share > strongest.share) strongest = { share, region, a };
    }
    context.globalAlpha = 1;
    if (strongest && name === this.state.main) {
      const { region, a } = strongest;
      writer(context)(`${region.name}  ${significant(region.weight)}`, a.x + 3, a.y - 3, "left",
        "bottom", REGION, 12, 600);
    }
  }

  regionAt(point) {
    const holds = (region) => {
      const [low, high] = bounds(region);
      return point.every((mm, axis) => mm >= low[axis] && mm < high[axis]);
    };
    const found = this.message.regions.filter(holds);
    return found.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight))[0];
  }

  drawMasks(name, context, frame) {
    const { origin, spacing } = this.message;
    const { rows, cols } = PLANES[name];
    for (const mask of this.masks) {
      if (!this.state.masks[mask.name] || !mask.bits.length) continue;
      // From voxel corners to pixels, so that one outline serves every zoom.
      const zero = [0, 0, 0];
      zero[rows] = origin[rows] - spacing[rows] / 2;
      zero[cols] = origin[cols] - spacing[cols] / 2;
      const { x, y } = this.screen(name, frame, zero);
      const size = frame.scale / frame.ratio;
      const placed = new Path2D();
      placed.addPath(
        this.outline(mask, name),
        new DOMMatrix([-spacing[cols] * size, 0, 0, -spacing[rows] * size, x, y]),
      );
      context.strokeStyle = mask.colour;
      context.lineWidth = 1.5;
      context.stroke(placed);
    }
  }

  // The voxel edges between inside and outside on this slice, in voxel corners (col, row).
  outline(mask, name) {
    const { normal, rows, cols } = PLANES[name];
    const index = this.state.cross[normal] - mask.low[normal];
    const known = `${name}${index}`;
    if (mask.paths.has(known)) return mask.paths.get(known);
    const path = new Path2D();
    const [nr, nc] = [mask.shape[rows], mask.shape[cols]];
    const strides = [mask.shape[1] * mask.shape[2], mask.shape[2], 1];
    const within = index >= 0 && index < mask.shape[normal];
    const filled = (r, c) => {
      if (r < 0 || c < 0 || r >= nr || c >= nc) return 0;
      const bit = index * strides[normal] + r * strides[rows] + c * strides[cols];
      return (mask.bits[bit >> 3] >> (bit & 7)) & 1;
    };
    const [r0, c0] = [mask.low[rows], mask.low[cols]];
    for (let r = 0; within && r <= nr; r++) {
      for (let c = 0; c <= nc; c++) {
        if (filled(r, c) !== filled(r - 1, c)) {
          path.moveTo(c0 + c, r0 + r);
          path.lineTo(c0 + c + 1, r0 + r);
        }
        if (filled(r, c) !== filled(r, c - 1)) {
          path.moveTo(c0 + c, r0 + r);
          path.lineTo(c0 + c, r0 + r + 1);
        }
      }
    }
    mask.paths.set(known, path);
    return path;
  }

  // ---- what is told to machines and to those who listen

  report() {
    const { state, root, message } = this;
    const plane = PLANES[state.main];
    const point = this.cursorPoint() ?? this.crossPoint();
    const map = this.visibleMap;
    const value = map ? map.at(point, !state.rawGrid) : NaN;
    Object.assign(root.dataset, {
      ready: String(this.voxelsOf === message.digest),
      key: message.key,
      volume: message.digest,
      plane: state.main,
      layout: root.classList.contains("single") ? "single" : "mpr",
      slice: state.cross[plane.normal],
      slices: message.shape[plane.normal],
      cross: this.crossPoint().reverse().map((mm) => trim(mm, 3)).join(","),
      window: state.width,
      level: state.level,
      zoom: trim(this.view(state.main).zoom, 3),
      tool: state.tool,
      hu: this.hu(point) ?? "",
      mm: [...point].reverse().map((mm) => trim(mm, 3)).join(","),
      overlay: map?.title ?? "",
      value: Number.isNaN(value) ? "" : value,
      opacity: state.opacity,
      threshold: state.threshold,
    });
    clearTimeout(this.speakTimer);
    this.speakTimer = setTimeout(() => this.speak(), 600);
  }

  speak() {
    const { state } = this;
    const axis = PLANES[state.main].normal;
    const text = `${PLANES[state.main].title} slice ${this.sliceText(state.main)}, ` +
      `${sided(axis, this.mm(axis, state.cross[axis]))} mm, window ${Math.round(state.width)}, ` +
      `level ${Math.round(state.level)}, ${this.hu(this.crossPoint()) ?? "no"} HU at the crosshair` +
      (this.visibleMap ? `, overlay ${this.visibleMap.title}` : ", no overlay");
    if (this.spoken.textContent !== text) this.spoken.textContent = text;
  }

  // ---- the page around the image

  build() {
    const { root } = this;
    root.replaceChildren();
    this.presets = el("div", { className: "group", role: "group", ariaLabel: "CT window" });
    this.widthBox = this.numberBox("W", "Window width in HU", 2, (width) => this.set({ width }));
    this.levelBox = this.numberBox("L", "Window level in HU", null, (level) => this.set({ level }));
    this.toolButtons = this.buttons("What dragging does", TOOLS, (tool) => this.set({ tool }));
    this.planeButtons = this.buttons(
      "Plane of the big image",
      Object.entries(PLANES).map(([name, { title }]) => [name, title, `${title} plane (V: next)`]),
      (main) => this.set({ main }),
    );
    this.layoutButton = button("3 planes", "Show the other two planes beside it (M)", () =>
      this.set({ layout: this.state.layout === "mpr" ? "single" : "mpr" }));
    this.stage = el("div", { className: "stage", tabIndex: 0 });
    this.stage.setAttribute("role", "application");
    this.stage.setAttribute("aria-label", "CT image. Arrow keys scroll through the slices.");
    this.side = el("div", { className: "side" });
    this.slider = el("input", { type: "range", min: 1, step: 1 });
    this.slider.oninput = () => {
      const axis = PLANES[this.state.main].normal;
      this.state.cross[axis] = this.message.shape[axis] - Number(this.slider.value);
      this.request();
    };
    this.wait = el("div", { className: "wait", textContent: "Receiving the CT …" });
    this.spoken = el("div", { className: "spoken" });
    this.spoken.setAttribute("aria-live", "polite");
    this.panel = el("div", { className: "panel" });
    for (const name of Object.keys(PLANES)) this.panes[name] = this.buildPane(name);
    this.stage.append(el("div", { className: "track" }, this.slider), this.side, this.wait);
    this.stage.addEventListener("keydown", (event) => this.onKey(event));
    root.append(
      el("div", { className: "bar" },
        this.presets, this.widthBox.home, this.levelBox.home, this.toolButtons.home,
        this.planeButtons.home, this.layoutButton,
        el("div", { className: "row end" },
          button("Reset", "Window, zoom and position as at the start (0, double-click)", () => this.reset()),
          button("Full screen", "The viewer alone on the screen (F)", () => this.fullScreen()),
          button("PNG", "Download this view with its labels", () => this.save()))),
      el("div", { className: "body" }, this.stage, this.panel),
      this.helpLine(),
      this.spoken,
    );
  }

  buildPane(name) {
    const home = el("div", { className: "pane" });
    home.dataset.plane = name;
    const base = el("canvas", { className: "base" });
    const top = el("canvas", { className: "top" });
    top.setAttribute("role", "img");
    top.setAttribute("aria-label", `${PLANES[name].title} slice`);
    const enlarge = button("⤢", `Make the ${name} plane big (double-click)`, () =>
      this.set({ main: name }));
    enlarge.className = "enlarge";
    home.append(base, top, enlarge);
    this.listen(name, top);
    return { home, base, top };
  }

  buttons(label, options, choose) {
    const home = el("div", { className: "group", role: "group", ariaLabel: label });
    const all = new Map();
    for (const [name, text, hint] of options) {
      all.set(name, button(text, hint, () => choose(name)));
      home.append(all.get(name));
    }
    return { home, all };
  }

  numberBox(text, hint, min, choose) {
    const input = el("input", { type: "number", step: 10, title: hint });
    if (min !== null) input.min = min;
    input.setAttribute("aria-label", hint);
    input.onchange = () => {
      const value = Number(input.value);
      if (input.value !== "" && Number.isFinite(value)) choose(min === null ? value : Math.max(min, value));
    };
    return { home: el("label", { className: "number", textContent: text }, input), input };
  }

  fillPresets() {
    this.presetButtons = this.message.presets.map(([name, level, width, note], i) => {
      const hint = `${name}: level ${level}, width ${width} HU${note ? `; ${note}` : ""} (key ${i + 1})`;
      return button(name, hint, () => this.set({ level, width }));
    });
    this.presets.append(...this.presetButtons);
  }

  helpLine() {
    const parts = [
      ["Wheel, ↑ ↓", "slices"], ["Drag", "window (or the chosen tool)"], ["Click", "crosshair"],
      ["Ctrl+wheel, right drag", "zoom"], ["Shift+drag", "pan"], ["1–6", "windows"],
      ["O", "overlay"], ["X", "crosshair lines"], ["V", "plane"], ["Double-click", "reset"],
    ];
    const line = el("p", { className: "muted help" });
    parts.forEach(([keys, does], i) => {
      line.append(el("kbd", { textContent: keys }), ` ${does}${i < parts.length - 1 ? "  ·  " : ""}`);
    });
    return line;
  }

  fillPanel() {
    const { message, panel, state } = this;
    panel.replaceChildren();
    this.controls = [];
    if (this.maps.length) panel.append(...this.overlaySections());
    if (message.regions.length || this.masks.length) {
      const section = el("section", {}, el("h4", { textContent: "Drawn over it" }));
      if (message.regions.length) {
        section.append(this.check("Regions by weight", "regions", REGION));
      }
      for (const mask of this.masks) {
        section.append(this.checkbox(mask.name, () => state.masks[mask.name],
          (on) => this.set({ masks: Object.assign(state.masks, { [mask.name]: on }) }), mask.colour));
      }
      panel.append(section);
    }
    panel.append(el("section", {}, el("h4", { textContent: "Image" }),
      this.check("Crosshair lines", "crosshair"), this.check("Smooth between voxels", "smooth")));
    if (message.thinning) {
      panel.append(el("p", { className: "muted", textContent: `${message.thinning}; HU are exact.` }));
    }
  }

  overlaySections() {
    const choose = el("section", {}, this.check("Overlay", "overlay"));
    choose.firstChild.style.fontWeight = 600;
    if (this.maps.length > 1) {
      const select = el("select");
      select.setAttribute("aria-label", "Which overlay");
      for (const { title } of this.maps) select.append(el("option", { textContent: title, value: title }));
      select.onchange = () => this.set({ title: select.value, overlay: true });
      this.controls.push(() => (select.value = this.map.title));
      choose.append(select);
    } else {
      choose.append(el("div", { textContent: this.map.title }));
    }
    const note = el("p", { className: "muted" });
    this.controls.push(() => {
      note.textContent = this.map.limit > 0 ? this.map.note : `${this.map.note} Zero everywhere: nothing to draw.`;
    });
    choose.append(note);
    const strongest = button("Go to strongest", "Move to the cell with the largest value (G)", () => this.strongest());
    this.controls.push(() => (strongest.disabled = !(this.map.limit > 0)));
    choose.append(el("div", { className: "row" }, strongest));
    const settings = el("section", {},
      this.range("Opacity", "opacity", (v) => percent(v)),
      this.range("Hidden below", "threshold", (v) => `${percent(v)} of ${significant(this.map.limit)}`),
      this.check("Raw grid, not smoothed", "rawGrid"));
    return [choose, settings];
  }

  check(text, name, colour) {
    return this.checkbox(text, () => this.state[name], (on) => this.set({ [name]: on }), colour);
  }

  checkbox(text, get, set, colour) {
    const input = el("input", { type: "checkbox" });
    input.onchange = () => set(input.checked);
    this.controls.push(() => (input.checked = get()));
    const label = el("label", { className: "check" }, input);
    if (colour) {
      const swatch = el("span", { className: "swatch" });
      swatch.style.borderColor = colour;
      label.append(swatch);
    }
    label.append(text);
    return label;
  }

  range(text, name, say) {
    const input = el("input", { type: "range", min: 0, max: 100, step: 1 });
    input.setAttribute("aria-label", text);
    const value = el("span");
    input.oninput = () => this.set({ [name]: Number(input.value) / 100 });
    this.controls.push(() => {
      input.value = Math.round(this.state[name] * 100);
      value.textContent = say(this.state[name]);
      input.setAttribute("aria-valuetext", value.textContent);
    });
    return el("label", { className: "slide" }, el("span", { textContent: text }), value, input);
  }

  refreshControls() {
    const { state, message } = this;
    this.controls.forEach((refresh) => refresh());
    for (const [name, b] of this.toolButtons.all) press(b, state.tool === name);
    for (const [name, b] of this.planeButtons.all) press(b, state.main === name);
    press(this.layoutButton, state.layout === "mpr");
    this.presetButtons.forEach((b, i) => {
      const [, level, width] = message.presets[i];
      press(b, level === state.level && width === state.width);
    });
    const focused = this.root.getRootNode().activeElement;
    for (const [box, value] of [[this.widthBox, state.width], [this.levelBox, state.level]]) {
      if (box.input !== focused) box.input.value = Math.round(value);
    }
    const axis = PLANES[state.main].normal;
    this.slider.max = message.shape[axis];
    this.slider.value = message.shape[axis] - state.cross[axis];
    this.slider.setAttribute("aria-label", `${PLANES[state.main].title} slice`);
    const place = `${this.sliceText(state.main)}, ${sided(axis, this.mm(axis, state.cross[axis]))} mm`;
    this.slider.setAttribute("aria-valuetext", place);
    this.slider.title = place;
    const cursors = { window: "crosshair", scroll: "ns-resize", pan: "grab", zoom: "zoom-in", cross: "cell" };
    for (const pane of Object.values(this.panes)) pane.top.style.cursor = cursors[state.tool];
  }

  // ---- mouse and keys

  listen(name, canvas) {
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    let drag = null;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) this.zoomAt(name, Math.exp(-event.deltaY * 0.002), ...at(event));
      else this.onWheel(name, event);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.stage.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      const tools = [event.shiftKey ? "pan" : this.state.tool, "pan", "zoom"];
      const [x, y] = at(event);
      drag = { tool: tools[event.button] ?? "pan", button: event.button, x, y, startX: x, startY: y, moved: false, rest: 0 };
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      if (drag) {
        drag.moved ||= Math.hypot(x - drag.startX, y - drag.startY) > 3;
        if (drag.moved) this.onDrag(name, drag, x, y);
      }
      this.cursor = { plane: name, x, y };
      this.request();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (drag && !drag.moved && drag.button === 0) this.onClick(name, ...at(event));
      else if (drag?.tool === "cross") this.pick(this.pointAt(name, ...at(event)));
      drag = null;
    });
    canvas.addEventListener("pointercancel", () => (drag = null));
    canvas.addEventListener("pointerleave", () => {
      this.cursor = null;
      this.request();
    });
    canvas.addEventListener("dblclick", (event) => this.onDouble(name, event));
  }

  // A notch of a wheel is a slice; a touchpad's small steps add up to one.
  onWheel(name, event) {
    const size = event.deltaY * [1, 33, 100][event.deltaMode];
    if (Math.abs(size) >= 50) {
      this.rest = 0;
      this.scroll(name, Math.sign(size) * Math.max(1, Math.round(Math.abs(size) / 120)));
      return;
    }
    this.rest = (this.rest ?? 0) + size;
    const whole = Math.trunc(this.rest / 30);
    this.rest -= whole * 30;
    if (whole) this.scroll(name, whole);
  }

  onDrag(name, drag, x, y) {
    const [dx, dy] = [x - drag.x, y - drag.y];
    Object.assign(drag, { x, y });
    const { state } = this;
    if (drag.tool === "window") {
      const step = Math.max(0.5, state.width / 300); // narrow windows need a finer hand
      this.set({
        width: clamp(Math.round(state.width + dx * step), 2, 8000),
        level: clamp(Math.round(state.level + dy * step), -2000, 6000),
      });
    } else if (drag.tool === "pan") {
      this.pan(name, dx, dy);
    } else if (drag.tool === "zoom") {
      this.zoomAt(name, Math.exp(-dy * 0.008), drag.startX, drag.startY);
    } else if (drag.tool === "scroll") {
      const n = this.message.shape[PLANES[name].normal];
      const pace = Math.max(3, this.panes[name].home.clientHeight / n);
      drag.rest += dy / pace;
      const whole = Math.trunc(drag.rest);
      drag.rest -= whole;
      if (whole) this.scroll(name, whole);
    } else {
      this.setCross(this.pointAt(name, x, y));
    }
  }

  onClick(name, x, y) {
    const point = this.pointAt(name, x, y);
    if (!this.inside(point)) return;
    if (!this.pickTimer) this.crossBefore = [...this.state.cross];
    this.setCross(point);
    clearTimeout(this.pickTimer);
    this.pickTimer = setTimeout(() => {
      this.pickTimer = null;
      this.pick(point);
    }, CLICK_MS);
  }

  onDouble(name, event) {
    event.preventDefault();
    if (this.pickTimer) this.state.cross = this.crossBefore; // the clicks were meant for this
    clearTimeout(this.pickTimer);
    this.pickTimer = null;
    if (name === this.state.main) this.reset();
    else this.set({ main: name });
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target !== this.stage && event.target !== this.slider) return;
    const { state, message } = this;
    const plane = PLANES[state.main];
    const by = (axis, step) => {
      state.cross[axis] = clamp(state.cross[axis] + step, 0, message.shape[axis] - 1);
      this.request();
    };
    const scroll = (n) => () => this.scroll(state.main, n);
    const keys = {
      ArrowUp: scroll(-1), ArrowLeft: scroll(-1), ArrowDown: scroll(1), ArrowRight: scroll(1),
      PageUp: scroll(-10), PageDown: scroll(10), Home: scroll(-1e6), End: scroll(1e6),
      Enter: () => this.pick(this.crossPoint()),
      0: () => this.reset(),
      o: () => this.set({ overlay: !state.overlay }),
      x: () => this.set({ crosshair: !state.crosshair }),
      g: () => this.strongest(),
      f: () => this.fullScreen(),
      m: () => this.set({ layout: state.layout === "mpr" ? "single" : "mpr" }),
      v: () => {
        const names = Object.keys(PLANES);
        this.set({ main: names[(names.indexOf(state.main) + 1) % names.length] });
      },
    };
    for (const [tool] of TOOLS) keys[tool[0]] = () => this.set({ tool });
    const moves = {
      ArrowUp: [plane.rows, 1], ArrowDown: [plane.rows, -1],
      ArrowLeft: [plane.cols, 1], ArrowRight: [plane.cols, -1],
    };
    const preset = message.presets[Number(event.key) - 1];
    let act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (event.shiftKey && moves[event.key]) act = () => by(...moves[event.key]);
    if (preset) act = () => this.set({ level: preset[1], width: preset[2] });
    if (!act) return;
    event.preventDefault();
    event.stopPropagation(); // Streamlit has shortcuts of its own, R and C among them
    act();
  }

  fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.root.requestFullscreen?.();
  }

  // ---- export

  // The stage as it is seen, with a line below it that says what it is.
  save() {
    const ratio = window.devicePixelRatio || 1;
    const outer = this.stage.getBoundingClientRect();
    const foot = 46;
    const canvas = el("canvas", {
      width: Math.round(outer.width * ratio),
      height: Math.round((outer.height + foot) * ratio),
    });
    const context = canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    for (const pane of Object.values(this.panes)) {
      const box = pane.home.getBoundingClientRect();
      if (!box.width) continue;
      for (const layer of [pane.base, pane.top]) {
        context.drawImage(layer, (box.left - outer.left) * ratio, (box.top - outer.top) * ratio);
      }
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const write = writer(context);
    const map = this.visibleMap;
    const overlay = map && [map.title, map.note,
      `opacity ${percent(this.state.opacity)}, hidden below ${percent(this.state.threshold)}`,
      this.state.rawGrid ? "raw grid" : "linear between cells",
    ].filter(Boolean).join("; ");
    const wide = outer.width - 16;
    write([this.message.title, overlay].filter(Boolean).join(" · "), 8, outer.height + 8, "left", "top", INK, 12.5, 400, wide);
    write(this.message.notice, 8, outer.height + 26, "left", "top", "#c9d2da", 12, 400, wide);
    canvas.toBlob((blob) => {
      const link = el("a", { href: URL.createObjectURL(blob), download: this.fileName() });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }, "image/png");
  }

  fileName() {
    const { main } = this.state;
    const words = `${this.message.title || "ct"} ${main} ${this.sliceText(main).replace("/", " of ")}`;
    return `${words.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "")}.png`;
  }
}

// ---------------------------------------------------------------- small things

function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function button(text, hint, act) {
  const node = el("button", { type: "button", textContent: text, title: hint, onclick: act });
  node.setAttribute("aria-label", `${text}. ${hint}`);
  return node;
}

function press(node, on) {
  node.setAttribute("aria-pressed", String(on));
}

// Writes text on a dark plate, which reads on any grey; shortened to fit where a width is given.
function writer(context) {
  return (text, x, y, align, baseline, colour = INK, size = 12.5, weight = 400, fit = Infinity) => {
    context.font = `${weight} ${size}px ${FONT}`;
    context.textAlign = align;
    context.textBaseline = baseline;
    let shown = String(text);
    while (shown.length > 4 && context.measureText(shown).width > fit) {
      shown = `${shown.replace(/…$/, "").slice(0, -1)}…`;
    }
    const long = context.measureText(shown).width;
    const before = { left: 0, center: long / 2, right: long }[align];
    const above = { top: 2, middle: size / 2 + 2, bottom: size + 2 }[baseline];
    context.fillStyle = PLATE;
    context.fillRect(x - before - 3, y - above, long + 6, 16);
    context.fillStyle = colour;
    context.fillText(shown, x, y);
  };
}

function scaleBar(write, context, right, y, pixelsPerMm, room) {
  const mm = [200, 100, 50, 20, 10, 5, 2].find((length) => length * pixelsPerMm <= room);
  if (!mm) return;
  const long = mm * pixelsPerMm;
  for (const [colour, thick] of [["rgba(0, 0, 0, 0.75)", 4], [INK, 1.5]]) {
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.beginPath();
    context.moveTo(right - long, y - 4);
    context.lineTo(right - long, y + 4);
    context.moveTo(right - long, y);
    context.lineTo(right, y);
    context.moveTo(right, y - 4);
    context.lineTo(right, y + 4);
    context.stroke();
  }
  write(mm >= 10 ? `${mm / 10} cm` : `${mm} mm`, right - long / 2, y - 5, "center", "bottom", INK, 12);
}

function bounds({ center, size }) {
  const half = [...size].reverse().map((mm) => mm / 2);
  const middle = [...center].reverse();
  return [middle.map((mm, i) => mm - half[i]), middle.map((mm, i) => mm + half[i])];
}

// "R 34.2": a coordinate with the side of the patient it lies on.
function sided(axis, mm) {
  return `${SIDES[axis][mm < 0 ? 1 : 0]} ${Math.abs(mm).toFixed(1)}`;
}

function significant(value, signed = false) {
  const text = value === 0 ? "0" : String(Number(value.toPrecision(3)));
  return (signed && value > 0 ? "+" : "") + minus(text);
}

// With the minus sign that is as wide as a plus.
function minus(value) {
  return String(value).replace("-", "−");
}

function percent(share) {
  return `${minus(Math.round(share * 100))} %`;
}

function trim(value, digits) {
  return Number(value.toFixed(digits));
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

function rgb(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
}
