// Attention as a picture with words on both axes. Rows look, columns are looked at.
// Streamlit calls the default function whenever it has data and keeps the elements; what the
// reader set (order, number of rows, zoom) is kept here by the component's key.

const MARK = "#D98200";
const NULL_ENDS = ["#FFFFFF", "#4A525A"];
const NULL_GAP = 10, NULL_WIDTH = 26;
const CELL = 17; // height of a row whose label can be read
const MOST = 620; // height of all cells when there are too many for labels
const RIGHT = 12, BELOW = 30;

export default (component) => mount(Matrix, ".matrix", component);

class Matrix extends Picture {
  build() {
    const { root } = this;
    const bar = add(root, "div", "bar");
    this.choices = {};
    const choice = (name, title, options, pick) => {
      const group = add(bar, "div", "group");
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", title);
      add(group, "span", "", title);
      this.choices[name] = options.map(([value, words]) => {
        const button = add(group, "button", "", words);
        button.type = "button";
        button.value = value;
        button.onclick = () => pick(value);
        return button;
      });
    };
    choice("order", "Order", [["weight", "By weight"], ["recorded", "As recorded"]], (value) => {
      this.set.order = value;
      this.whole();
    });
    choice("extent", "Show", [["top", "Top"], ["all", "All"]], (value) => {
      this.set.extent = value;
      this.whole();
    });
    this.choices.order[0].title =
      "Columns by the weight they receive, rows by their strongest weight";
    this.back = add(bar, "button", "", "Zoom out");
    this.back.type = "button";
    this.back.title = "Show the whole picture again (or double-click it)";
    this.back.onclick = () => this.whole();
    this.counts = add(bar, "span", "counts");
    this.stage();
  }

  fit() {
    const width = Math.round(this.root.clientWidth);
    if (width && width !== this.width) this.arrange();
  }

  everything() {
    this.whole();
  }

  // ------------------------------------------------------------ data and settings

  give(bytes) {
    const [view, from] = read(bytes, 0);
    const known = settings.get(view.key);
    if (!known || known.hash !== view.hash) {
      this.set = {
        hash: view.hash, order: known?.order ?? "weight", extent: known?.extent ?? "top",
        window: null, selected: view.selected, stamp: view.stamp,
      };
      settings.set(view.key, this.set);
      this.hover = null;
    } else {
      this.set = known;
      if (view.stamp >= known.stamp) {
        Object.assign(known, { selected: view.selected, stamp: view.stamp });
      }
    }
    if (this.hash !== view.hash) {
      this.hash = view.hash;
      this.unpack(bytes, from);
    }
    this.arrange();
  }

  unpack(bytes, from) {
    const [content, start] = read(bytes, from);
    this.content = content;
    const q = content.rows.length, k = content.columns.length;
    const floats = new Float32Array(bytes.slice(start).buffer);
    this.weights = floats.subarray(0, q * k);
    this.nulls = content.nothing ? floats.subarray(q * k, q * k + q) : null;
    // A column counts by what it receives; rows all give as much, so by their strongest look.
    const received = new Float64Array(k), strongest = new Float64Array(q);
    for (let r = 0; r < q; r++) {
      for (let c = 0; c < k; c++) {
        const w = this.weights[r * k + c];
        received[c] += w;
        if (w > strongest[r]) strongest[r] = w;
      }
    }
    this.ranks = { row: ranked(strongest), column: ranked(received) };
    this.colours = ramp(content.ramp);
    this.greys = ramp([[0, NULL_ENDS[0]], [1, NULL_ENDS[1]]]);
    this.choices.extent[0].textContent = `Top ${content.top}`;
    const small = q <= content.top && k <= content.top;
    for (const button of this.choices.extent) button.parentElement.hidden = small;
    this.plot.setAttribute("aria-label",
      `${content.rowTitle} looking at ${content.columnTitle}: ${q} rows, ${k} columns. Arrows move ` +
      "the cursor, Enter selects its row, Shift and Enter its column.");
    this.explain();
  }

  explain() {
    const { content } = this;
    this.legend.replaceChildren();
    const scale = add(this.legend, "div", "scale");
    const bar = add(scale, "canvas");
    [bar.width, bar.height] = [220, 1];
    const pen = bar.getContext("2d");
    for (let x = 0; x < 220; x++) {
      pen.fillStyle = css(this.colours, x / 219);
      pen.fillRect(x, 0, 1, 1);
    }
    add(scale, "span", "", "0");
    const even = Math.min(content.even / content.limit, 1);
    pen.fillStyle = MARK;
    pen.fillRect(Math.round(219 * even) - 1, 0, 2, 1);
    const end = add(scale, "span", "end", `${content.largest > content.limit ? "≥ " : ""}${short(content.limit)}`);
    end.style.left = "220px";
    add(this.legend, "span", "", content.meaning);
    const compared = content.shares ? "an even spread would give" : "the map's mean,";
    add(this.legend, "span", "", `Orange mark: ${compared} ${short(content.even)}.`);
    if (this.nulls) {
      add(this.legend, "span", "", `The grey column is “${content.nothing}”, from white (0) to dark (1).`);
    }
    add(this.legend, "span", "", "Click a row or a column label to select it; drag over cells to zoom in.");
  }

  whole() {
    this.set.window = null;
    this.hover = null;
    this.tip.hidden = true;
    this.arrange();
  }

  // ------------------------------------------------------------ where things are

  listed(axis) {
    const { content, set } = this;
    const all = this.ranks[axis];
    const n = set.extent === "top" ? Math.min(content.top, all.length) : all.length;
    const kept = all.slice(0, n);
    const { selected } = set;
    if (selected?.axis === axis && !kept.includes(selected.index) && selected.index < all.length) {
      kept.push(selected.index);
    }
    return set.order === "recorded" ? kept.sort((a, b) => a - b) : kept;
  }

  arrange() {
    if (!this.content) return;
    const { content, set } = this;
    this.width = Math.round(this.root.clientWidth) || 800;
    const all = { row: this.listed("row"), column: this.listed("column") };
    const w = set.window ?? [0, all.row.length, 0, all.column.length];
    this.rows = all.row.slice(w[0], w[1]);
    this.columns = all.column.slice(w[2], w[3]);
    this.left = this.width < 900 ? 200 : 270;
    const extra = this.nulls ? NULL_GAP + NULL_WIDTH : 0;
    const free = this.width - this.left - extra - RIGHT;
    this.cellWidth = Math.min(free / this.columns.length, 46);
    this.cellHeight = Math.min(Math.max(MOST / this.rows.length, 0), this.rows.length <= 60 ? CELL : 26);
    if (this.rows.length <= 60) this.cellHeight = Math.max(this.cellHeight, CELL);
    if (this.rows.length <= 12) this.cellHeight = 26;
    this.cellsWidth = this.cellWidth * this.columns.length;
    this.cellsHeight = this.cellHeight * this.rows.length;
    this.nullX = this.left + this.cellsWidth + NULL_GAP;
    const pen = this.canvas.getContext("2d");
    this.family = getComputedStyle(this.root).fontFamily;
    this.font(pen);
    const longest = Math.max(...this.columns.map((c) => pen.measureText(content.columns[c]).width),
      this.nulls ? pen.measureText(content.nothing).width : 0);
    this.above = Math.min(longest, 168) + 30;
    this.height = Math.ceil(this.above + this.cellsHeight + BELOW);
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.canvas.style.height = `${this.height}px`;
    this.image = this.picture();
    this.tell(all);
    this.draw();
  }

  picture() {
    const { rows, columns, content } = this;
    const k = content.columns.length;
    const picture = new OffscreenCanvas(columns.length, rows.length);
    const pen = picture.getContext("2d");
    const pixels = pen.createImageData(columns.length, rows.length);
    rows.forEach((row, y) => columns.forEach((column, x) => {
      const colour = tint(this.colours, this.weights[row * k + column] / content.limit);
      pixels.data.set(colour, 4 * (y * columns.length + x));
    }));
    pen.putImageData(pixels, 0, 0);
    return picture;
  }

  where(axis, row, column) {
    const y = this.above + (this.rows.indexOf(row) + 0.5) * this.cellHeight;
    const x = this.left + (this.columns.indexOf(column) + 0.5) * this.cellWidth;
    const has = { row: this.rows.includes(row), column: this.columns.includes(column) };
    if (axis === "row") return has.row ? { x: this.left / 2, y } : null;
    if (axis === "column") return has.column ? { x, y: this.above - 20 } : null;
    if (axis === "null") return has.row && this.nulls ? { x: this.nullX + NULL_WIDTH / 2, y } : null;
    return has.row && has.column ? { x, y } : null;
  }

  tell(all) {
    const { root, set, content } = this;
    root.dataset.visibleRows = this.rows.length;
    root.dataset.visibleColumns = this.columns.length;
    root.dataset.firstRow = this.rows[0];
    root.dataset.firstColumn = this.columns[0];
    root.dataset.order = set.order;
    root.dataset.extent = set.extent;
    root.dataset.nullColumn = String(Boolean(this.nulls));
    this.tellSelected();
    for (const [name, buttons] of Object.entries(this.choices)) {
      for (const b of buttons) b.setAttribute("aria-pressed", String(b.value === set[name]));
    }
    this.back.disabled = !set.window;
    const part = (axis, n, of, title) => (n < of ? `${n} of ${of} ${title}` : `${of} ${title}`);
    this.counts.textContent =
      `${part("row", this.rows.length, content.rows.length, content.rowTitle)} look at ` +
      `${part("column", this.columns.length, content.columns.length, content.columnTitle)}`;
    this.all = all;
  }

  tellSelected() {
    const { selected } = this.set;
    this.root.dataset.selected = selected ? `${selected.axis} ${selected.index}` : "";
  }

  // ------------------------------------------------------------ what the reader does

  // What lies at a point: positions among the shown rows and columns, null where there is none.
  hit(x, y) {
    const row = Math.floor((y - this.above) / this.cellHeight);
    const column = Math.floor((x - this.left) / this.cellWidth);
    const inRows = row >= 0 && row < this.rows.length;
    const inColumns = x >= this.left && column < this.columns.length;
    if (inRows && this.nulls && x >= this.nullX && x <= this.nullX + NULL_WIDTH) {
      return { row, column: null, nothing: true };
    }
    if (inRows && inColumns) return { row, column };
    if (inRows && x < this.left) return { row, column: null };
    if (inColumns && y < this.above) return { row: null, column };
    return null;
  }

  move(event) {
    const [x, y] = this.at(event);
    if (this.drag) {
      this.drag.to = [x, y];
      this.point(null);
      this.draw();
    } else {
      this.point(this.hit(x, y));
    }
  }

  press(event) {
    if (event.button) return;
    const from = this.at(event);
    this.drag = { from, to: from };
    this.plot.setPointerCapture(event.pointerId);
  }

  release(event) {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    const to = this.at(event);
    if (Math.hypot(to[0] - drag.from[0], to[1] - drag.from[1]) < 6) {
      const hit = this.hit(...to);
      if (hit) this.select(hit, event.shiftKey);
      this.draw();
      return;
    }
    const part = (v, from, size, n) => Math.min(Math.max((v - from) / size, 0), n);
    const ys = [drag.from[1], to[1]].map((y) => part(y, this.above, this.cellHeight, this.rows.length));
    const xs = [drag.from[0], to[0]].map((x) => part(x, this.left, this.cellWidth, this.columns.length));
    const [r0, r1] = [Math.floor(Math.min(...ys)), Math.ceil(Math.max(...ys))];
    const [c0, c1] = [Math.floor(Math.min(...xs)), Math.ceil(Math.max(...xs))];
    if (r1 > r0 && c1 > c0) {
      const [a, , c] = this.set.window ?? [0, 0, 0, 0];
      this.set.window = [a + r0, a + r1, c + c0, c + c1];
      this.arrange();
    } else {
      this.draw();
    }
  }

  select(hit, byColumn) {
    const axis = hit.row === null || (byColumn && hit.column !== null) ? "column" : "row";
    const index = axis === "row" ? this.rows[hit.row] : this.columns[hit.column];
    const before = this.set.selected;
    const same = before?.axis === axis && before.index === index;
    this.choose(same ? null : { axis, index });
  }

  choose(selected) {
    this.set.selected = selected;
    this.set.stamp = Math.max(Date.now(), this.set.stamp + 1);
    this.tellSelected();
    this.draw();
    this.send({ hash: this.set.hash, stamp: this.set.stamp, value: selected });
  }

  type(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key in moves) {
      const [dr, dc] = moves[event.key];
      const from = this.hover;
      const clamp = (v, n) => Math.min(Math.max(v, 0), n - 1);
      this.point(from ? {
        row: clamp((from.row ?? 0) + dr, this.rows.length),
        column: clamp((from.column ?? 0) + dc, this.columns.length),
      } : { row: 0, column: 0 }, true);
    } else if ((event.key === "Enter" || event.key === " ") && this.hover) {
      this.select(this.hover, event.shiftKey);
    } else if (event.key === "Escape" && this.set.selected) {
      this.choose(null);
    } else {
      return;
    }
    event.preventDefault();
  }

  point(hit, speak = false) {
    const name = hit ? `${hit.row ?? ""} ${hit.nothing ? "nothing" : hit.column ?? ""}` : "";
    if (name === this.hoverName) return;
    this.hoverName = name;
    this.hover = hit;
    this.draw();
    this.tip.hidden = !hit;
    const { content } = this;
    const row = hit && hit.row !== null ? this.rows[hit.row] : null;
    const column = hit && hit.column !== null ? this.columns[hit.column] : null;
    this.root.dataset.hover = hit ? `${row ?? ""} ${hit.nothing ? "nothing" : column ?? ""}` : "";
    if (!hit) return;
    this.tip.replaceChildren();
    if (row !== null) add(this.tip, "b", "", content.rows[row]);
    if (hit.nothing) {
      add(this.tip, "div", "", content.nothing);
      this.number(this.nulls[row], false);
    } else if (row !== null && column !== null) {
      add(this.tip, "div", "muted", "looks at");
      add(this.tip, "b", "", content.columns[column]);
      this.number(this.weights[row * content.columns.length + column], true);
    } else if (column !== null) {
      add(this.tip, "b", "", content.columns[column]);
      add(this.tip, "div", "muted", "click to select the column");
    } else {
      add(this.tip, "div", "muted", "click to select the row");
    }
    const { offsetWidth: w, offsetHeight: h } = this.tip;
    const px = hit.nothing ? this.nullX
      : column === null ? this.left - 40 : this.left + (hit.column + 1) * this.cellWidth;
    const py = hit.row === null ? this.above : this.above + (hit.row + 1) * this.cellHeight;
    const x = px + 12 + w < this.width ? px + 12 : px - w - this.cellWidth - 12;
    const y = py + 8 + h < this.height ? py + 8 : py - h - this.cellHeight - 8;
    this.tip.style.transform = `translate(${Math.max(x, 0)}px, ${Math.max(y, 0)}px)`;
    if (speak) this.spoken.textContent = this.tip.innerText.replaceAll("\n", ", ");
  }

  number(weight, compared) {
    const { content } = this;
    const line = add(this.tip, "div");
    line.dataset.weight = weight;
    add(line, "span", "", "weight ");
    add(line, "b", "", short(weight));
    if (!compared || !content.even) return;
    const times = weight / content.even;
    const text = times >= 10 ? times.toFixed(0) : times >= 0.1 ? times.toFixed(1) : "less than 0.1";
    add(line, "span", "muted", content.shares ? `, ${text} × an even spread` : `, ${text} × the map's mean`);
  }

  // ------------------------------------------------------------ drawing

  font(pen, weight = 400) {
    pen.font = `${weight} 12px ${this.family}`;
  }

  paint() {
    const pen = this.pen();
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.image, this.left, this.above, this.cellsWidth, this.cellsHeight);
    if (this.cellWidth > 8 && this.cellHeight > 8) this.paintGrid(pen);
    pen.strokeStyle = "#C9D2DA";
    pen.strokeRect(this.left - 0.5, this.above - 0.5, this.cellsWidth + 1, this.cellsHeight + 1);
    if (this.nulls) this.paintNulls(pen);
    this.paintMarks(pen);
    this.paintRowLabels(pen);
    this.paintColumnLabels(pen);
    this.paintTitles(pen);
  }

  paintGrid(pen) {
    pen.fillStyle = "#FFFFFF";
    for (let c = 1; c < this.columns.length; c++) {
      pen.fillRect(this.left + c * this.cellWidth - 0.5, this.above, 1, this.cellsHeight);
    }
    for (let r = 1; r < this.rows.length; r++) {
      pen.fillRect(this.left, this.above + r * this.cellHeight - 0.5, this.cellsWidth, 1);
    }
  }

  paintNulls(pen) {
    this.rows.forEach((row, r) => {
      pen.fillStyle = css(this.greys, this.nulls[row]);
      const gap = this.cellHeight > 8 ? 1 : 0;
      pen.fillRect(this.nullX, this.above + r * this.cellHeight, NULL_WIDTH, this.cellHeight - gap + 0.3);
    });
    pen.strokeStyle = "#C9D2DA";
    pen.strokeRect(this.nullX - 0.5, this.above - 0.5, NULL_WIDTH + 1, this.cellsHeight + 1);
  }

  // Every nth label, so that none lies upon the next; what is pointed at or selected always has one.
  labelled(axis, count, size) {
    const step = Math.max(1, Math.ceil(14 / size));
    const { selected } = this.set;
    const list = axis === "row" ? this.rows : this.columns;
    const must = [this.hover?.[axis], selected?.axis === axis ? list.indexOf(selected.index) : null]
      .filter((v) => v !== null && v !== undefined && v >= 0);
    const taken = [...must];
    for (let n = 0; n < count; n += step) {
      if (taken.every((t) => Math.abs(t - n) * size >= 13.5 || t === n)) taken.push(n);
    }
    return new Set(taken);
  }

  strong(axis, position) {
    const { selected } = this.set;
    const list = axis === "row" ? this.rows : this.columns;
    if (selected?.axis === axis && list[position] === selected.index) return "selected";
    return this.hover?.[axis] === position ? "hover" : "";
  }

  paintRowLabels(pen) {
    pen.textAlign = "right";
    for (const r of this.labelled("row", this.rows.length, this.cellHeight)) {
      const state = this.strong("row", r);
      this.font(pen, state ? 600 : 400);
      pen.fillStyle = state === "selected" ? "#8A5200" : INK;
      const text = shorten(pen, this.content.rows[this.rows[r]], this.left - 14);
      pen.fillText(text, this.left - 8, this.above + (r + 0.5) * this.cellHeight + 0.5);
    }
  }

  paintColumnLabels(pen) {
    const write = (text, x, state) => {
      pen.save();
      pen.translate(x, this.above - 8);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
      this.font(pen, state ? 600 : 400);
      pen.fillStyle = state === "selected" ? "#8A5200" : state === "null" ? MUTED : INK;
      pen.fillText(shorten(pen, text, this.above - 30), 0, 0.5);
      pen.restore();
    };
    for (const c of this.labelled("column", this.columns.length, this.cellWidth)) {
      write(this.content.columns[this.columns[c]], this.left + (c + 0.5) * this.cellWidth, this.strong("column", c));
    }
    if (this.nulls) write(this.content.nothing, this.nullX + NULL_WIDTH / 2, "null");
  }

  paintTitles(pen) {
    this.font(pen, 600);
    pen.fillStyle = MUTED;
    pen.textAlign = "left";
    pen.fillText(shorten(pen, `${this.content.columnTitle} →`, this.cellsWidth), this.left, 9);
    pen.textAlign = "right";
    pen.fillText(shorten(pen, `${this.content.rowTitle} ↓`, this.left - 14), this.left - 8, this.above - 12);
  }

  paintMarks(pen) {
    const band = (axis, position, colour, width) => {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      if (axis === "row") {
        const right = this.nulls ? this.nullX + NULL_WIDTH : this.left + this.cellsWidth;
        pen.strokeRect(this.left - 1, this.above + position * this.cellHeight - 0.5,
          right - this.left + 2, Math.max(this.cellHeight, 2));
      } else {
        pen.strokeRect(this.left + position * this.cellWidth - 0.5, this.above - 1,
          Math.max(this.cellWidth, 2), this.cellsHeight + 2);
      }
      pen.lineWidth = 1;
    };
    const { selected } = this.set;
    if (selected) {
      const list = selected.axis === "row" ? this.rows : this.columns;
      const position = list.indexOf(selected.index);
      if (position >= 0) band(selected.axis, position, MARK, 3);
    }
    if (this.hover) {
      if (this.hover.row !== null) band("row", this.hover.row, "rgba(27,39,51,0.55)", 1);
      if (this.hover.column !== null) band("column", this.hover.column, "rgba(27,39,51,0.55)", 1);
    }
    if (this.drag && Math.hypot(this.drag.to[0] - this.drag.from[0], this.drag.to[1] - this.drag.from[1]) >= 6) {
      const { from, to } = this.drag;
      pen.fillStyle = "rgba(31,90,138,0.18)";
      pen.fillRect(from[0], from[1], to[0] - from[0], to[1] - from[1]);
    }
  }
}

// ---------------------------------------------------------------- helpers

// A length, and JSON of that length; returns it and where it ends.
function read(bytes, at) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
  const text = new TextDecoder().decode(bytes.subarray(at + 4, at + 4 + length));
  return [JSON.parse(text), at + 4 + length];
}

function ranked(values) {
  return [...values.keys()].sort((a, b) => values[b] - values[a] || a - b);
}

function ramp(stops) {
  return stops.map(([at, colour]) => [at, [0, 1, 2].map((k) => parseInt(colour.slice(1 + 2 * k, 3 + 2 * k), 16))]);
}

function tint(colours, value) {
  const at = Math.min(Math.max(value, 0), 1);
  const upper = Math.max(1, colours.findIndex(([stop]) => stop >= at));
  const [[a, from], [b, to]] = [colours[upper - 1], colours[upper]];
  const part = (at - a) / (b - a);
  return [...from.map((channel, k) => Math.round(channel + part * (to[k] - channel))), 255];
}

function css(colours, value) {
  return `rgb(${tint(colours, value).slice(0, 3).join(",")})`;
}

function short(value) {
  if (!value) return "0";
  return value >= 0.0995 ? value.toFixed(3) : value >= 0.0001 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}

// The middle goes first: names differ at their ends (a date, a slice).
function shorten(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  for (let kept = text.length - 1; kept > 4; kept--) {
    const head = Math.ceil(kept * 0.55);
    const from = text.length - kept + head;
    // The end starts with a whole word: "… 39 days before", not "9 days before".
    const word = text.lastIndexOf(" ", from - 1) + 1;
    const tail = text.slice(from - word < 9 && word > head ? word : from);
    const shorter = `${text.slice(0, head).trimEnd()}… ${tail}`;
    if (pen.measureText(shorter).width <= width) return shorter;
  }
  return text.slice(0, 3);
}
