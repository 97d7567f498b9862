// ECG paper. Samples come once; layout, speed, gain, calipers and overlays are drawn here.
//
// Lengths are in mm of paper until they are drawn, times in seconds of the record, voltages in mV.
// The page shows the record from `from` on; a time lies at the same x in every row.

const CSS_MM = 96 / 25.4; // px a mm where the screen is as CSS assumes
const PAGE_MM = 250; // paper for the trace: 10 s at 25 mm/s
const PAPER = "#fffdfc";
const LIGHT = "#f8dcd9";
const BOLD = "#eaa9a4";
const TRACE = "#101418";
const NOTE = "#4b5560";
const CALIPER = "#0b57a4";
const PICKED = "#1f5a8a";
// White to rust: the strongest is the darkest on white paper, and still light under black.
const ONE_SIDED = ["#ffffff", "#fee3b3", "#fdb863", "#f28e2b", "#d1580a"];
const TINTS = {
  P: "#cfe8cf", PR: "#e9f3e2", QRS: "#d3dcf7", ST: "#f9e4b7", T: "#e5d3f0", TP: "#eceff1",
};
const ROW_MM = { "3x4+II": 30, "3x4+V1,II,V5": 25, "6x2": 25, "12x1": 15 };
const LAYOUT_WORDS = {
  "3x4+II": "3×4 + II", "3x4+V1,II,V5": "3×4 + V1, II, V5", "6x2": "6×2", "12x1": "12×1",
};
const ZOOMS = [["auto", "True size, or as fits"], [1, "True size"], [1.5, "150 %"], [2, "200 %"]];
const FULL = 0.35; // of the limit; below it the colours fade
const MOST_ABOVE_MM = 20;
const CLICK_PX = 3;
const NARROW = 1250; // CSS px; below it the panel goes under the paper
const CALIBRATION = "fusionlens-px-per-mm";

export default function (component) {
  return attach(".ecg", EcgPaper, samplesOf, 40, component);
}

function samplesOf({ shape, leads, rate, blobs }) {
  const all = new Float32Array(blobs[0].buffer);
  const n = shape[1];
  const rows = new Map();
  leads.forEach((lead, i) => {
    const row = all.subarray(i * n, (i + 1) * n);
    const sorted = row.filter((mv) => !Number.isNaN(mv)).sort();
    if (!sorted.length) return;
    rows.set(lead, { row, low: sorted[0], middle: sorted[sorted.length >> 1], high: sorted.at(-1) });
  });
  return { rows, rate, n, seconds: n / rate, leads };
}

// Rows of cells; the cells of a row share its width in equal parts. Cabrera's order runs round
// the frontal plane from aVL to III, with aVR turned over.
function rowsOf(layout, cabrera, extra) {
  const limb = cabrera
    ? ["aVL", "I", "-aVR", "II", "aVF", "III"]
    : ["I", "II", "III", "aVR", "aVL", "aVF"];
  const chest = ["V1", "V2", "V3", "V4", "V5", "V6"];
  const columns = { "6x2": 2, "12x1": 1 }[layout] ?? 4;
  const all = [...limb, ...chest];
  const per = 12 / columns;
  const rows = Array.from({ length: per }, (_, r) =>
    Array.from({ length: columns }, (_, c) => all[c * per + r]));
  const strips = layout.includes("+") ? layout.split("+")[1].split(",") : [];
  if (layout === "12x1") strips.push(...extra);
  return [...rows, ...strips.map((lead) => [lead])].map((row) => row.map((name) => ({
    name: name.replace("-", "−"),
    lead: name.replace("-", ""),
    sign: name.startsWith("-") ? -1 : 1,
  })));
}

// ---------------------------------------------------------------- overlays

// A lead's colours over time: by cell of the model's grid, or the mean over each interval.
class LeadColours {
  constructor(overlay, blob) {
    Object.assign(this, overlay);
    this.values = new Float32Array(blob.buffer);
    this.means = new Map();
    this.stops = mixed(this.signed ? DIVERGING : ONE_SIDED);
  }

  of(lead) {
    const row = this.leads.indexOf(lead);
    return row < 0 ? null : this.values.subarray(row * this.cells, (row + 1) * this.cells);
  }

  // Value at a time, NaN where there is none. intervals: [start, end], or null for the grid.
  reader(lead, intervals) {
    const cells = this.of(lead);
    if (!cells) return () => NaN;
    if (intervals) {
      const means = this.meansOf(intervals).rows.get(lead);
      return (time) => {
        const i = intervals.findIndex(([start, end]) => time >= start && time < end);
        return i < 0 ? NaN : means[i];
      };
    }
    const { start, step } = this;
    return (time) => {
      const place = (time - start) / step;
      if (place < 0 || place >= cells.length) return NaN;
      const low = clamp(Math.floor(place - 0.5), 0, cells.length - 1);
      const high = Math.min(low + 1, cells.length - 1);
      const share = clamp(place - 0.5 - low, 0, 1);
      const [a, b] = [cells[low], cells[high]];
      if (Number.isNaN(a) || Number.isNaN(b)) return cells[Math.floor(place)];
      return a + (b - a) * share;
    };
  }

  // Mean over each interval of every lead, cells weighted by how much of them lies in it.
  meansOf(intervals) {
    if (this.means.has(intervals)) return this.means.get(intervals);
    const rows = new Map();
    let most = 0;
    for (const lead of this.leads) {
      const cells = this.of(lead);
      const means = intervals.map(([from, to]) => {
        let [sum, weight] = [0, 0];
        const first = Math.max(0, Math.floor((from - this.start) / this.step));
        const last = Math.min(cells.length - 1, Math.ceil((to - this.start) / this.step));
        for (let k = first; k <= last; k++) {
          const a = this.start + k * this.step;
          const part = Math.min(to, a + this.step) - Math.max(from, a);
          if (part <= 0 || Number.isNaN(cells[k])) continue;
          sum += cells[k] * part;
          weight += part;
        }
        return weight ? sum / weight : NaN;
      });
      for (const mean of means) if (Math.abs(mean) > most) most = Math.abs(mean);
      rows.set(lead, means);
    }
    this.means.set(intervals, { rows, limit: most });
    return this.means.get(intervals);
  }

  // The colours' limit: of means it is their own, since they are smaller than single cells.
  limitOf(intervals) {
    return intervals ? this.meansOf(intervals).limit : this.limit;
  }

  // CSS colours for multiplying on paper; "" where hidden.
  paints(opacity, threshold) {
    return this.stops.map((stop, i) => {
      const share = i / (COLOURS - 1);
      const strength = this.signed ? Math.abs(2 * share - 1) : share;
      if (strength < threshold || strength === 0) return "";
      const alpha = opacity * Math.min(1, strength / FULL);
      return `rgb(${stop.map((c) => Math.round(255 + (c - 255) * alpha)).join(" ")})`;
    });
  }

  // Lead and time of the strongest value.
  get peak() {
    let best = 0;
    this.values.forEach((value, i) => {
      if (Math.abs(value) > Math.abs(this.values[best]) || Number.isNaN(this.values[best])) best = i;
    });
    const n = this.cells;
    return [this.leads[Math.floor(best / n)], this.start + ((best % n) + 0.5) * this.step];
  }
}

// ---------------------------------------------------------------- the paper

class EcgPaper {
  constructor(root) {
    this.root = root;
    this.build();
    this.watch = new ResizeObserver(() => this.request());
    this.watch.observe(root);
  }

  close() {
    this.watch.disconnect();
    cancelAnimationFrame(this.waiting);
    clearTimeout(this.speakTimer);
  }

  update(message, tell) {
    this.tell = tell;
    this.message = message;
    this.maps = message.overlays.map((one, i) => new LeadColours(one, message.blobs[i]));
    const coloured = this.maps.length > 0;
    this.state = recall(message.key, {
      layout: message.layout, cabrera: false, speed: 25, gain: 10, zoom: "auto", from: 0,
      overlay: true, title: "", by: "time", style: "trace", opacity: 0.85, threshold: 0.1,
      segments: !coloured, digest: "",
    });
    const { state } = this;
    if (state.digest !== message.digest) {
      Object.assign(state, { digest: message.digest, from: 0, cursor: null, caliper: null, pick: null });
    }
    if (!this.intervals().some(([value]) => value === state.by)) state.by = "time";
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", message.alt);
    this.fill();
    this.arrived();
  }

  arrived() {
    this.signal = shelf.get(this.message?.digest) ?? null;
    this.wait.hidden = Boolean(this.signal);
    this.request();
  }

  get map() {
    return this.maps.find((map) => map.title === this.state.title) ?? this.maps[0] ?? null;
  }

  get visibleMap() {
    return this.state.overlay && this.map?.limit > 0 ? this.map : null;
  }

  // [value, words] of what the overlay can be told by.
  intervals() {
    const { beats, segments } = this.message;
    return [
      ["time", "instant (model's grid)"],
      ...(beats.length ? [["beat", "beat (mean)"]] : []),
      ...(segments.length ? [["segment", "wave (mean)"]] : []),
    ];
  }

  get grouping() {
    const { beats, segments } = this.message;
    return { beat: beats, segment: segments }[this.state.by] ?? null;
  }

  // ---- geometry

  // Where everything lies: mm of paper, and px a mm.
  measure() {
    const { state, signal, message } = this;
    const { speed, layout } = state;
    const extra = signal.leads.filter((lead) => !message.leads.includes(lead));
    const rows = rowsOf(layout, state.cabrera, extra);
    const span = Math.min(PAGE_MM / speed, signal.seconds);
    const from = clamp(state.from, 0, Math.max(0, signal.seconds - span));
    const left = 5 + 0.2 * speed; // the pulse and a big box's worth around it
    const wide = Math.ceil((left + span * speed + 5) / 5 - 1e-9) * 5;
    const row = ROW_MM[layout];
    const top = 5 + this.above(rows[0], row);
    const tall = top + rows.length * row + 10;
    const full = this.pxPerMm;
    const room = this.stage.clientWidth - 2;
    const zoom = state.zoom === "auto" ? Math.min(1, room / (wide * full)) : state.zoom;
    return { rows, span, from, left, wide, row, top, tall, zoom, px: full * zoom, speed };
  }

  // Whole big boxes that tall complexes of the first row need above it, in mm.
  above(cells, row) {
    const rise = ({ lead, sign }) => {
      const kept = this.signal.rows.get(lead);
      return kept ? Math.max(sign * (kept.high - kept.middle), sign * (kept.low - kept.middle)) : 0;
    };
    const most = Math.max(...cells.map(rise)) * this.state.gain;
    return clamp(5 * Math.ceil((most - row / 2 - 5) / 5), 0, MOST_ABOVE_MM);
  }

  get pxPerMm() {
    return this.calibrated ?? CSS_MM;
  }

  x(time) {
    const { left, from, speed, px } = this.g;
    return (left + (time - from) * speed) * px;
  }

  timeAt(x) {
    const { left, from, speed, px } = this.g;
    return from + (x / px - left) / speed;
  }

  base(row) {
    return (this.g.top + this.g.row * (row + 0.5)) * this.g.px;
  }

  // Of each cell: its lead, times and row.
  *cells() {
    const { rows, span, from } = this.g;
    for (const [row, cells] of rows.entries()) {
      const part = span / cells.length;
      for (const [i, cell] of cells.entries()) {
        yield { ...cell, row, start: from + i * part, end: from + (i + 1) * part };
      }
    }
  }

  cellAt(time, row) {
    for (const cell of this.cells()) {
      if (cell.row === row && time >= cell.start && time < cell.end + 1e-9) return cell;
    }
    return null;
  }

  // px of a voltage in a cell: each lead is placed by its median.
  y(cell, mv) {
    const kept = this.signal.rows.get(cell.lead);
    return this.base(cell.row) - cell.sign * (mv - kept.middle) * this.state.gain * this.g.px;
  }

  mv(lead, time) {
    const { rows, rate, n } = this.signal;
    return rows.get(lead)?.row[clamp(Math.round(time * rate), 0, n - 1)] ?? NaN;
  }

  // ---- drawing

  request() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      if (this.signal && this.root.clientWidth) this.draw();
    });
  }

  // The cursor alone: the paper below it stays.
  point() {
    if (this.pointing) return;
    this.pointing = requestAnimationFrame(() => {
      this.pointing = 0;
      if (this.g) this.drawTop();
    });
  }

  draw() {
    this.root.classList.toggle("narrow", this.root.clientWidth < NARROW);
    const started = performance.now();
    this.g = this.measure();
    const { wide, tall, px } = this.g;
    const [width, height] = [wide * px, tall * px];
    this.sheet.style.width = `${width}px`;
    this.sheet.style.height = `${height}px`;
    const pen = penOf(this.canvas, width, height);
    pen.fillStyle = PAPER;
    pen.fillRect(0, 0, width, height);
    pen.globalCompositeOperation = "multiply";
    this.ruled(pen, width, height);
    if (this.state.segments) this.tinted(pen);
    if (this.visibleMap) this.coloured(pen);
    pen.globalCompositeOperation = "source-over";
    this.written(pen); // below the trace, which nothing may hide
    for (const cell of this.cells()) this.traced(pen, cell);
    this.pulses(pen);
    this.controls.refresh();
    this.refreshPanel();
    this.root.dataset.drawMs = (performance.now() - started).toFixed(2);
    this.drawTop();
  }

  ruled(pen, width, height) {
    const { wide, tall, px } = this.g;
    const ratio = window.devicePixelRatio || 1;
    const snap = (at) => Math.round(at * ratio) / ratio;
    const thin = Math.max(1, Math.round(ratio * 0.75)) / ratio;
    for (const [every, colour] of [[1, LIGHT], [5, BOLD]]) {
      if (every * px < 2.5) continue;
      pen.fillStyle = colour;
      for (let mm = 0; mm <= wide; mm += every) pen.fillRect(snap(mm * px), 0, thin, height);
      for (let mm = 0; mm <= tall; mm += every) pen.fillRect(0, snap(mm * px), width, thin);
    }
  }

  tinted(pen) {
    const { row, px } = this.g;
    for (const cell of this.cells()) {
      for (const [start, end, label] of this.message.segments) {
        const a = Math.max(start, cell.start);
        const b = Math.min(end, cell.end);
        if (b <= a || !this.signal.rows.has(cell.lead)) continue;
        const top = this.base(cell.row) - (row / 2 - 1) * px;
        pen.fillStyle = TINTS[label];
        pen.fillRect(this.x(a), top, this.x(b) - this.x(a), (row - 2) * px);
      }
    }
  }

  // Behind the trace, one column of pixels at a time, so that colour never leaves its instant:
  // the trace widened to all sides, or the whole height of the row.
  coloured(pen) {
    const map = this.visibleMap;
    const { state, grouping } = this;
    const limit = map.limitOf(grouping);
    if (!(limit > 0)) return;
    const paints = map.paints(state.opacity, state.threshold);
    const { row, px } = this.g;
    const reach = 1.2 * px; // 1.2 mm above and below
    const aside = Math.max(1, Math.round(0.6 * px));
    for (const cell of this.cells()) {
      const kept = this.signal.rows.get(cell.lead);
      if (!kept) continue;
      const value = map.reader(cell.lead, grouping);
      const [x0, x1] = [Math.round(this.x(cell.start)), Math.round(this.x(cell.end))];
      const spans = state.style === "trace" ? this.columns(cell, x0, x1, aside) : null;
      const top = this.base(cell.row) - (row / 2 - 0.5) * px;
      for (let x = x0; x < x1; x++) {
        const v = value(this.timeAt(x + 0.5));
        if (Number.isNaN(v)) continue;
        const paint = paints[colourOf(v, limit, map.signed)[0]];
        if (!paint) continue;
        pen.fillStyle = paint;
        if (!spans) pen.fillRect(x, top, 1, (row - 1) * px);
        else if (spans[2 * (x - x0)] <= spans[2 * (x - x0) + 1]) {
          const high = spans[2 * (x - x0)] - reach;
          pen.fillRect(x, high, 1, spans[2 * (x - x0) + 1] + reach - high);
        }
      }
    }
  }

  // Highest and lowest y of the trace in each column of pixels and `aside` of them to each side.
  columns(cell, x0, x1, aside) {
    const n = x1 - x0;
    const own = new Float32Array(2 * n);
    const { rate, n: samples } = this.signal;
    const { row } = this.signal.rows.get(cell.lead);
    for (let i = 0; i < n; i++) {
      const first = Math.max(0, Math.floor(this.timeAt(x0 + i) * rate));
      const last = Math.min(samples - 1, Math.ceil(this.timeAt(x0 + i + 1) * rate));
      let [high, low] = [Infinity, -Infinity];
      for (let k = first; k <= last; k++) {
        if (Number.isNaN(row[k])) continue;
        const y = this.y(cell, row[k]);
        if (y < high) high = y;
        if (y > low) low = y;
      }
      own[2 * i] = high;
      own[2 * i + 1] = low;
    }
    const wide = new Float32Array(2 * n);
    for (let i = 0; i < n; i++) {
      let [high, low] = [Infinity, -Infinity];
      for (let k = Math.max(0, i - aside); k <= Math.min(n - 1, i + aside); k++) {
        if (own[2 * k] < high) high = own[2 * k];
        if (own[2 * k + 1] > low) low = own[2 * k + 1];
      }
      wide[2 * i] = high;
      wide[2 * i + 1] = low;
    }
    return wide;
  }

  // Every sample; where several share a pixel, the highest and the lowest of them.
  traced(pen, cell) {
    const kept = this.signal.rows.get(cell.lead);
    if (!kept) return;
    const { rate, n } = this.signal;
    const { row } = kept;
    const first = Math.max(0, Math.ceil(cell.start * rate - 1e-6));
    const last = Math.min(n - 1, Math.floor(cell.end * rate + 1e-6));
    const ratio = window.devicePixelRatio || 1;
    const bin = Math.max(1, Math.floor(rate / (this.g.speed * this.g.px * ratio * 2)));
    const scale = this.g.px * this.state.gain * cell.sign;
    const zero = this.base(cell.row) + kept.middle * scale;
    const x0 = this.x(0);
    const step = (this.g.speed * this.g.px) / rate;
    pen.beginPath();
    let down = false;
    const to = (k) => {
      const [x, y] = [x0 + k * step, zero - row[k] * scale];
      if (down) pen.lineTo(x, y);
      else pen.moveTo(x, y);
      down = true;
    };
    for (let k = first; k <= last; k += bin) {
      let [high, low] = [-1, -1];
      for (let i = k; i < k + bin && i <= last; i++) {
        if (Number.isNaN(row[i])) {
          if (high >= 0) for (const at of [Math.min(high, low), Math.max(high, low)]) to(at);
          [high, low, down] = [-1, -1, false];
          continue;
        }
        if (high < 0 || row[i] > row[high]) high = i;
        if (low < 0 || row[i] < row[low]) low = i;
      }
      if (high < 0) continue;
      to(Math.min(high, low));
      if (high !== low) to(Math.max(high, low));
    }
    pen.strokeStyle = TRACE;
    pen.lineWidth = Math.max(1.1, 0.3 * this.g.px);
    pen.lineJoin = "bevel";
    pen.stroke();
  }

  // 1 mV for 200 ms before every row.
  pulses(pen) {
    const { px, rows, speed } = this.g;
    const high = this.state.gain * px;
    pen.beginPath();
    for (let row = 0; row < rows.length; row++) {
      const y = this.base(row);
      const [a, b] = [2.5 * px, (2.5 + 0.2 * speed) * px];
      pen.moveTo(a - 1.5 * px, y);
      for (const [x, to] of [[a, y], [a, y - high], [b, y - high], [b, y], [b + 1.5 * px, y]]) {
        pen.lineTo(x, to);
      }
    }
    pen.strokeStyle = TRACE;
    pen.lineWidth = Math.max(1.1, 0.3 * px);
    pen.lineJoin = "miter";
    pen.stroke();
  }

  written(pen) {
    const { px, row, tall, wide, from, span, rows } = this.g;
    const size = clamp(3.4 * px, 10, 20);
    pen.textBaseline = "alphabetic";
    // The first of a row is named above its pulse, if there is room, where no complex hides it.
    const over = row / 2 - 2.6 > this.state.gain;
    for (const cell of this.cells()) {
      const first = over && cell.start < from + 1e-9;
      const x = first ? 2.5 * px - 4 : this.x(cell.start);
      const y = this.base(cell.row) - (row / 2 + (first ? 0.8 : 0)) * px + size;
      pen.textAlign = "left";
      pen.font = `600 ${size}px ${FONT}`;
      plate(pen, cell.name, x + 4, y, size);
      pen.fillStyle = TRACE;
      pen.fillText(cell.name, x + 4, y);
      if (cell.start > from + 1e-9) {
        pen.fillRect(x - 0.5, this.base(cell.row) - 3 * px, 1, 2 * px);
        pen.fillRect(x - 0.5, this.base(cell.row) + px, 1, 2 * px);
      }
      if (!this.signal.rows.has(cell.lead)) {
        pen.font = `400 ${size}px ${FONT}`;
        pen.textAlign = "center";
        pen.fillStyle = NOTE;
        pen.fillText("not recorded", (this.x(cell.start) + this.x(cell.end)) / 2, this.base(cell.row) + size / 3);
      } else if (this.state.segments && row >= 20) {
        this.named(pen, cell, size * 0.82);
      }
    }
    const { state, message, signal } = this;
    const foot = [
      `${state.speed} mm/s   ${state.gain} mm/mV   ${message.filter}`,
      `${trim(signal.rate, 1)} Hz   ${from.toFixed(1)}–${(from + span).toFixed(1)} s`,
    ];
    pen.font = `400 ${clamp(3.1 * px, 9.5, 18)}px ${FONT}`;
    pen.fillStyle = TRACE;
    pen.textAlign = "left";
    const y = (this.g.top + rows.length * row + 6) * px;
    plate(pen, foot[0], 2.5 * px, y, 3.1 * px);
    pen.fillStyle = TRACE;
    pen.fillText(foot[0], 2.5 * px, y);
    pen.textAlign = "right";
    plate(pen, foot[1], (wide - 2.5) * px, y, 3.1 * px);
    pen.fillStyle = TRACE;
    pen.fillText(foot[1], (wide - 2.5) * px, y);
    this.sheet.dataset.tall = tall;
  }

  // Names of the waves along the foot of a row, where there is room for them.
  named(pen, cell, size) {
    pen.font = `400 ${size}px ${FONT}`;
    pen.textAlign = "center";
    pen.fillStyle = NOTE;
    const y = this.base(cell.row) + (this.g.row / 2 - 1.6) * this.g.px;
    for (const [start, end, label] of this.message.segments) {
      if (start < cell.start || end > cell.end) continue;
      const room = this.x(end) - this.x(start);
      if (pen.measureText(label).width > room + 4) continue;
      pen.fillText(label, (this.x(start) + this.x(end)) / 2, y);
    }
  }

  // ---- cursor, calipers and what was clicked

  drawTop() {
    const { wide, tall, px, row, from, span, rows, top } = this.g;
    const pen = penOf(this.top, wide * px, tall * px);
    const { pick, cursor, caliper } = this.state;
    if (pick) {
      const found = this.around(this.message.segments, pick.time) ??
        this.around(this.message.beats, pick.time) ?? [pick.time, pick.time];
      const a = this.x(Math.max(found[0], from));
      const b = this.x(Math.min(found[1], from + span));
      if (b >= a && pick.time >= from && pick.time <= from + span) {
        pen.strokeStyle = PICKED;
        pen.lineWidth = 1.5;
        pen.setLineDash([5, 3]);
        for (let r = 0; r < rows.length; r++) {
          if (this.cellAt(pick.time, r)?.lead !== pick.lead) continue;
          pen.strokeRect(a, this.base(r) - (row / 2 - 1) * px, Math.max(1, b - a), (row - 2) * px);
        }
        pen.setLineDash([]);
      }
    }
    if (cursor && cursor.time >= from && cursor.time <= from + span) {
      const x = this.x(cursor.time);
      pen.fillStyle = "rgba(31, 90, 138, 0.5)";
      pen.fillRect(x - 0.5, top * px, 1, rows.length * row * px);
      const cell = this.cellAt(cursor.time, cursor.row);
      const mv = cell ? this.mv(cell.lead, cursor.time) : NaN;
      if (!Number.isNaN(mv)) {
        pen.fillStyle = CALIPER;
        pen.beginPath();
        pen.arc(x, this.y(cell, mv), 3, 0, 7);
        pen.fill();
      }
    }
    if (caliper) this.drawCaliper(pen, caliper);
    this.report();
  }

  drawCaliper(pen, { a, b }) {
    const { px, wide } = this.g;
    const { ms, mv, bpm } = this.measured();
    const [xa, xb] = [this.x(a.time), this.x(b.time)];
    const [ya, yb] = [a.mm * px, b.mm * px];
    pen.strokeStyle = CALIPER;
    pen.lineWidth = 1;
    const tall = 14 * px;
    const [low, high] = [Math.max(ya, yb) + tall / 2, Math.min(ya, yb) - tall / 2];
    pen.fillStyle = "rgba(11, 87, 164, 0.08)";
    pen.fillRect(Math.min(xa, xb), Math.min(ya, yb), Math.abs(xb - xa), Math.abs(yb - ya));
    pen.beginPath();
    for (const x of [xa, xb]) {
      pen.moveTo(x, high);
      pen.lineTo(x, low);
    }
    for (const y of [ya, yb]) {
      pen.moveTo(Math.min(xa, xb) - 8, y);
      pen.lineTo(Math.max(xa, xb) + 8, y);
    }
    pen.stroke();
    const words = `${Math.round(ms)} ms${bpm ? `  ${Math.round(bpm)} bpm` : ""}  ${minus(mv.toFixed(2))} mV`;
    pen.font = `600 13px ${FONT}`;
    pen.textAlign = "left";
    pen.textBaseline = "alphabetic";
    const long = pen.measureText(words).width;
    const x = clamp(Math.max(xa, xb) + 6, 4, wide * px - long - 8);
    const y = Math.max(16, high + 4);
    pen.fillStyle = "rgba(255, 255, 255, 0.92)";
    pen.fillRect(x - 4, y - 13, long + 8, 18);
    pen.fillStyle = CALIPER;
    pen.fillText(words, x, y);
  }

  // Of the calipers: ms from first to second in time, and mV from the first to the second.
  measured() {
    const { caliper, gain } = this.state;
    if (!caliper) return { ms: NaN, mv: NaN, bpm: null };
    const ms = Math.abs(caliper.b.time - caliper.a.time) * 1000;
    const mv = (caliper.a.mm - caliper.b.mm) / gain;
    // A rate is only meant where the calipers may span a cycle.
    return { ms, mv, bpm: ms >= 200 ? 60000 / ms : null };
  }

  around(intervals, time) {
    return intervals.find(([start, end]) => time >= start && time < end);
  }

  // ---- what is told to machines and to those who listen

  report() {
    const { state, message, root, g } = this;
    const { cursor } = state;
    const cell = cursor && this.cellAt(cursor.time, cursor.row);
    const mv = cell ? this.mv(cell.lead, cursor.time) : NaN;
    const map = this.visibleMap;
    const value = map && cell ? map.reader(cell.lead, this.grouping)(cursor.time) : NaN;
    const caliper = this.measured();
    Object.assign(root.dataset, {
      ready: "true",
      key: message.key,
      signal: message.digest,
      layout: state.layout,
      rows: g.rows.map((row) => row.map((c) => c.name).join("/")).join(" "),
      missing: [...new Set([...this.cells()].map((c) => c.lead))]
        .filter((lead) => !this.signal.rows.has(lead)).join(","),
      pxPerMm: trim(g.px, 5),
      zoom: trim(g.zoom, 4),
      map: [g.left * g.px, g.from, g.speed * g.px, g.top * g.px, g.row * g.px].join(","),
      span: trim(g.span, 4),
      speed: state.speed,
      gain: state.gain,
      lead: cell?.name ?? "",
      time: cell ? trim(cursor.time, 4) : "",
      mv: Number.isNaN(mv) ? "" : trim(cell.sign * mv, 5),
      value: Number.isNaN(value) ? "" : value,
      caliperMs: Number.isNaN(caliper.ms) ? "" : trim(caliper.ms, 2),
      caliperMv: Number.isNaN(caliper.mv) ? "" : trim(caliper.mv, 4),
      caliperBpm: caliper.bpm ? trim(caliper.bpm, 1) : "",
      overlay: map?.title ?? "",
      by: state.by,
      opacity: state.opacity,
      threshold: state.threshold,
      segments: state.segments,
    });
    this.reading.textContent = this.words(cell, mv, value);
    clearTimeout(this.speakTimer);
    this.speakTimer = setTimeout(() => {
      if (this.spoken.textContent !== this.reading.textContent) {
        this.spoken.textContent = this.reading.textContent;
      }
    }, 600);
  }

  words(cell, mv, value) {
    const { state, message } = this;
    const { ms, mv: rise, bpm } = this.measured();
    const parts = [];
    if (cell) {
      const { time } = state.cursor;
      const volt = Number.isNaN(mv) ? "no signal" : `${minus((cell.sign * mv).toFixed(3))} mV`;
      parts.push(`${cell.name}  ${time.toFixed(3)} s  ${volt}`);
      parts.push(this.around(message.beats, time)?.[2], this.around(message.segments, time)?.[2]);
      if (this.visibleMap) {
        parts.push(Number.isNaN(value)
          ? "no value here"
          : `${this.visibleMap.title} ${reading(value, this.visibleMap)}`);
      }
    } else {
      parts.push("Point at the trace for its time and voltage");
    }
    if (state.caliper) {
      parts.push(`Calipers ${Math.round(ms)} ms${bpm ? `, ${Math.round(bpm)} bpm` : ""}, ${minus(rise.toFixed(2))} mV`);
    }
    return parts.filter(Boolean).join("  ·  ");
  }

  // ---- the page around the paper

  build() {
    const { root } = this;
    root.replaceChildren();
    this.head = el("div", { className: "head" });
    this.bar = el("div", { className: "bar" });
    this.canvas = el("canvas", { className: "base" });
    this.top = el("canvas", { className: "top" });
    this.wait = el("div", { className: "wait", textContent: "Receiving the ECG …" });
    this.sheet = el("div", { className: "sheet", tabIndex: 0 }, this.canvas, this.top);
    this.sheet.setAttribute("role", "application");
    this.sheet.setAttribute("aria-label", "ECG paper. Left and right arrows move the cursor by a sample, with Shift by 1 mm, up and down choose the row, C starts and ends the calipers, Enter chooses the beat or wave.");
    this.stage = el("div", { className: "stage" }, this.sheet, this.wait);
    this.reading = el("p", { className: "reading" });
    this.scale = el("p", { className: "muted" });
    this.panel = el("div", { className: "panel" });
    this.spoken = el("div", { className: "spoken" });
    this.spoken.setAttribute("aria-live", "polite");
    this.calibrated = stored();
    root.append(
      this.head, this.bar,
      el("div", { className: "body" },
        el("div", { className: "main" }, this.stage, this.reading), this.panel),
      this.scale, this.calibrator(),
      helpLine([
        ["Drag", "calipers"], ["Click", "choose a beat or wave"], ["← →", "one sample"],
        ["Shift + ← →", "one small box (1 mm)"], ["↑ ↓", "row"], ["C", "calipers from here"],
        ["Enter", "choose"], ["O", "overlay"], ["Esc", "clear"],
      ]),
      this.spoken,
    );
    this.listen();
  }

  fill() {
    const { message, state } = this;
    this.head.replaceChildren(...(message.title ? [el("strong", { textContent: message.title })] : []),
      ...message.header.map(([label, text]) =>
        el("span", {}, el("span", { className: "muted", textContent: `${label} ` }), el("b", { textContent: text }))));
    this.controls = new Controls(state, (name) => {
      if (name === "title") state.overlay = true;
      this.request();
    });
    const { controls } = this;
    this.pages = el("div", { className: "group" });
    for (const [sign, words, hint] of [[-1, "◀", "Earlier"], [1, "▶", "Later"]]) {
      this.pages.append(button(words, hint, () => this.turn(sign)));
    }
    this.bar.replaceChildren(
      controls.select("Layout", "layout", message.layouts.map((one) => [one, LAYOUT_WORDS[one]])),
      controls.check("Cabrera order", "cabrera"),
      controls.select("Speed", "speed", [[12.5, "12.5 mm/s"], [25, "25 mm/s"], [50, "50 mm/s"]]),
      controls.select("Gain", "gain", [[5, "5 mm/mV"], [10, "10 mm/mV"], [20, "20 mm/mV"]]),
      controls.select("Size", "zoom", ZOOMS),
      this.pages,
      el("div", { className: "row end" },
        button("PNG", "Download the paper with its header", () => this.save())),
    );
    this.fillPanel();
  }

  fillPanel() {
    const { message, controls, panel } = this;
    panel.replaceChildren();
    if (this.maps.length) {
      this.note = el("p", { className: "muted" });
      this.colours = el("div", { className: "scale" });
      const overlay = controls.check("Overlay", "overlay");
      overlay.style.fontWeight = 600;
      const which = this.maps.length > 1
        ? controls.select("Which", "title", this.maps.map(({ title }) => [title, title]))
        : el("div", { textContent: this.map.title });
      if (this.maps.length > 1 && !this.state.title) this.state.title = this.maps[0].title;
      const limit = () => this.map.limitOf(this.grouping);
      const strongest = button("Go to strongest", "Move the cursor to the largest value (G)", () => this.strongest());
      panel.append(
        el("section", {}, overlay, which, this.note, this.colours, el("div", { className: "row" }, strongest)),
        el("section", {},
          controls.select("By", "by", this.intervals()),
          controls.select("Drawn", "style", [["trace", "along the trace"], ["row", "over the row"]]),
          controls.range("Opacity", "opacity", percent),
          controls.range("Hidden below", "threshold", (v) => `${percent(v)} of ${significant(limit())}`)),
      );
    }
    if (message.segments.length) {
      const legend = el("div", { className: "tints" });
      for (const label of new Set(message.segments.map((one) => one[2]))) {
        const swatch = el("span", { className: "swatch" });
        swatch.style.background = TINTS[label];
        legend.append(el("span", {}, swatch, label));
      }
      panel.append(el("section", {}, controls.check("Waves shaded", "segments"), legend));
    }
    panel.hidden = !panel.childElementCount;
  }

  refreshPanel() {
    const { g, map, state } = this;
    const off = this.calibrated ? "calibrated on this screen" : "true size at 96 dpi";
    const size = Math.abs(g.zoom - 1) < 5e-4 ? off : `${percent(g.zoom)} of true size`;
    this.scale.textContent =
      `1 mm = ${trim(1000 / g.speed, 1)} ms = ${trim(1 / state.gain, 2)} mV. ` +
      `${g.px.toFixed(2)} px/mm: ${size}. Each lead is placed by its median.`;
    const more = this.signal.seconds > g.span + 1e-6;
    this.pages.hidden = !more;
    const [back, on] = this.pages.children;
    back.disabled = g.from <= 0;
    on.disabled = g.from + g.span >= this.signal.seconds - 1e-6;
    if (!map) return;
    const limit = map.limitOf(this.grouping);
    this.note.textContent = map.limit > 0 ? map.note : `${map.note} Zero everywhere: nothing to draw.`;
    const paints = map.paints(state.opacity, state.threshold);
    colourBar(this.colours, { ...map, limit }, (i) => paints[i]);
  }

  // A bank card is 85.60 mm wide (ISO/IEC 7810 ID-1) and is at hand where a ruler is not.
  calibrator() {
    const card = el("div", { className: "card", textContent: "bank card" });
    const slider = el("input", { type: "range", min: 2.5, max: 12, step: 0.01 });
    slider.setAttribute("aria-label", "Pixels a millimetre");
    const value = el("span");
    const fit = () => {
      slider.value = this.pxPerMm;
      card.style.width = `${85.6 * this.pxPerMm}px`;
      value.textContent = `${this.pxPerMm.toFixed(2)} px/mm`;
      this.request();
    };
    slider.oninput = () => {
      this.calibrated = Number(slider.value);
      store(this.calibrated);
      fit();
    };
    const back = button("96 dpi", "Back to the size that CSS assumes", () => {
      this.calibrated = null;
      store(null);
      fit();
    });
    const home = el("details", { className: "calibrate" },
      el("summary", { textContent: "Calibrate this screen" }),
      el("p", { className: "muted", textContent: "Move the slider until the box is as wide as a bank card (85.6 mm)." }),
      el("div", { className: "row" }, slider, value, back), card);
    fit();
    return home;
  }

  turn(sign) {
    const last = Math.max(0, this.signal.seconds - this.g.span);
    this.state.from = clamp(this.g.from + sign * this.g.span, 0, last);
    this.request();
  }

  strongest() {
    const [lead, time] = this.map.peak;
    this.state.overlay = true;
    const span = Math.min(PAGE_MM / this.state.speed, this.signal.seconds);
    if (time < this.g.from || time >= this.g.from + span) {
      this.state.from = Math.floor(time / span) * span;
    }
    this.g = this.measure();
    const found = [...this.cells()].filter((cell) => cell.lead === lead);
    const here = found.find((cell) => time >= cell.start && time < cell.end);
    if (here) this.state.cursor = { time, row: here.row };
    else if (this.state.layout !== "12x1") {
      // In columns of 2.5 s the lead is not on the page at that time.
      this.state.layout = "12x1";
      this.strongest();
      return;
    }
    this.request();
  }

  // ---- mouse and keys

  listen() {
    const { top, sheet } = this;
    let drag = null;
    const at = (event) => {
      const box = top.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const { from, span, top: above, row, rows, px } = this.g;
      const time = this.timeAt(x);
      const index = clamp(Math.floor((y / px - above) / row), 0, rows.length - 1);
      const within = time >= from && time <= from + span && y / px < above + rows.length * row;
      return { x, y, time, mm: y / px, row: index, within };
    };
    top.addEventListener("pointerdown", (event) => {
      if (event.button || !this.g) return;
      event.preventDefault();
      sheet.focus({ preventScroll: true });
      top.setPointerCapture(event.pointerId);
      drag = { start: at(event), moved: false };
    });
    top.addEventListener("pointermove", (event) => {
      if (!this.g) return;
      const spot = at(event);
      this.state.cursor = spot.within ? { time: spot.time, row: spot.row } : null;
      if (drag) {
        drag.moved ||= Math.hypot(spot.x - drag.start.x, spot.y - drag.start.y) > CLICK_PX;
        if (drag.moved) {
          const mark = ({ time, mm }) => ({ time, mm });
          this.state.caliper = { a: mark(drag.start), b: mark(spot) };
        }
      }
      this.point();
    });
    top.addEventListener("pointerup", (event) => {
      if (drag && !drag.moved) {
        const spot = at(event);
        if (spot.within) this.pick({ time: spot.time, row: spot.row });
      }
      drag = null;
    });
    top.addEventListener("pointercancel", () => (drag = null));
    top.addEventListener("pointerleave", () => {
      if (drag) return;
      this.state.cursor = null;
      if (this.g) this.point();
    });
    sheet.addEventListener("keydown", (event) => this.onKey(event));
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.g) return;
    const { state, g } = this;
    const { rate, n } = this.signal;
    const cursor = state.cursor ?? { time: g.from, row: 0 };
    const last = Math.min(g.from + g.span, (n - 1) / rate);
    const move = (by) => () => {
      const index = Math.round(cursor.time * rate) + by;
      state.cursor = { ...cursor, time: clamp(index / rate, g.from, last) };
      this.follow();
    };
    const step = event.shiftKey ? Math.max(1, Math.round(rate / g.speed)) : 1;
    const row = (by) => () => {
      state.cursor = { ...cursor, row: clamp(cursor.row + by, 0, g.rows.length - 1) };
      this.follow();
    };
    const keys = {
      ArrowLeft: move(-step), ArrowRight: move(step), ArrowUp: row(-1), ArrowDown: row(1),
      PageUp: () => this.turn(-1), PageDown: () => this.turn(1),
      Enter: () => this.pick(cursor),
      Escape: () => {
        Object.assign(state, { caliper: null, cursor: null });
        this.anchor = false;
        this.point();
      },
      c: () => this.anchored(cursor),
      o: () => this.controls.set("overlay", !state.overlay),
      g: () => this.map && this.strongest(),
    };
    const act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation(); // Streamlit has shortcuts of its own, C among them
    act();
  }

  // The place of the cursor on the trace, as one end of the calipers.
  end(cursor) {
    const cell = this.cellAt(cursor.time, cursor.row);
    const mv = cell ? this.mv(cell.lead, cursor.time) : NaN;
    const y = Number.isNaN(mv) ? this.base(cursor.row) : this.y(cell, mv);
    return { time: cursor.time, mm: y / this.g.px };
  }

  anchored(cursor) {
    this.anchor = !this.anchor;
    if (this.anchor) this.state.caliper = { a: this.end(cursor), b: this.end(cursor) };
    this.point();
  }

  follow() {
    if (this.anchor && this.state.caliper) this.state.caliper.b = this.end(this.state.cursor);
    this.point();
  }

  // The one thing that goes to Python.
  pick(cursor) {
    const cell = this.cellAt(cursor.time, cursor.row);
    if (!cell) return;
    const mv = this.mv(cell.lead, cursor.time);
    const picked = {
      lead: cell.lead,
      time: trim(cursor.time, 4),
      mv: Number.isNaN(mv) ? null : trim(mv, 5),
      digest: this.message.digest,
    };
    this.state.pick = picked;
    this.root.dataset.picked = `${picked.lead},${picked.time}`;
    this.point();
    this.tell("picked", picked);
  }

  // ---- export

  save() {
    const ratio = window.devicePixelRatio || 1;
    const { message, canvas, top } = this;
    const [head, foot] = [52 * ratio, 28 * ratio];
    const out = el("canvas", { width: canvas.width, height: canvas.height + head + foot });
    const pen = out.getContext("2d");
    pen.fillStyle = "#ffffff";
    pen.fillRect(0, 0, out.width, out.height);
    pen.drawImage(canvas, 0, head);
    pen.drawImage(top, 0, head);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = TRACE;
    const wide = out.width / ratio - 16;
    const map = this.visibleMap;
    pen.font = `600 14px ${FONT}`;
    pen.fillText([message.title, map?.title].filter(Boolean).join(" · "), 8, 20, wide);
    pen.font = `400 13px ${FONT}`;
    pen.fillText(message.header.map((pair) => pair.join(" ")).join("   "), 8, 42, wide);
    const size = `${this.g.px.toFixed(2)} px/mm`;
    pen.fillText(`${message.notice}  ${size}${map ? `; ${map.note}` : ""}`, 8, out.height / ratio - 9, wide);
    download(out, fileName(message.title || "ecg", this.state.layout));
  }
}

// White behind words that lie on the grid.
function plate(pen, words, x, y, size) {
  const long = pen.measureText(words).width;
  const left = pen.textAlign === "right" ? x - long : x;
  pen.fillStyle = "rgba(255, 253, 252, 0.82)";
  pen.fillRect(left - 2, y - size * 0.85, long + 4, size * 1.1);
}

function stored() {
  try {
    const value = Number(localStorage.getItem(CALIBRATION));
    return value >= 2 && value <= 20 ? value : null;
  } catch {
    return null; // storage may be forbidden
  }
}

function store(value) {
  try {
    if (value === null) localStorage.removeItem(CALIBRATION);
    else localStorage.setItem(CALIBRATION, value);
  } catch {
    // as above: then it holds until the page is closed
  }
}
