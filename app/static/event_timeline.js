// Events on a time axis, a lane a kind of code. Sizes and colours are shares of a prediction.
// Streamlit calls the default function whenever its data change and keeps the elements; what the
// reader set (axis, zoom, hidden kinds) is kept here by the component's key.

const MONTH = 365.25 / 12;
const YEAR = 365.25;
const NICE = [
  0, 1 / 4, 1, 2, 3, 7, 14, MONTH, 2 * MONTH, 3 * MONTH, 6 * MONTH, YEAR, 2 * YEAR, 3 * YEAR,
  5 * YEAR, 10 * YEAR, 20 * YEAR, 40 * YEAR, 60 * YEAR, 80 * YEAR,
];
const STEPS = [
  1 / 24, 1 / 4, 1, 2, 7, 14, MONTH, 3 * MONTH, 6 * MONTH, YEAR, 2 * YEAR, 5 * YEAR, 10 * YEAR,
  20 * YEAR,
];
const GRID = "#E6EAEE";
const LEFT = 150, FACTS = 92, RIGHT = 92, TOP = 24, FOOT = 44;
const REACH = 66; // how far from its lane's middle an event may be moved to be seen

export default (component) => mount(Timeline, ".timeline", component);

class Timeline extends Picture {
  build() {
    const { root } = this;
    const bar = add(root, "div", "bar");
    const axis = add(bar, "div", "group axis");
    axis.setAttribute("role", "group");
    axis.setAttribute("aria-label", "Time axis");
    this.axisButtons = {};
    for (const [name, words] of [["recent", "Recent enlarged"], ["linear", "Linear"]]) {
      const button = add(axis, "button", "", words);
      button.type = "button";
      button.onclick = () => this.setAxis(name);
      this.axisButtons[name] = button;
    }
    this.whole = add(bar, "button", "", "Whole record");
    this.whole.type = "button";
    this.whole.title = "Show all dates again (or double-click the chart)";
    this.whole.onclick = () => this.zoom([0, 1]);
    this.kinds = add(bar, "div", "group kinds");
    this.kinds.setAttribute("role", "group");
    this.kinds.setAttribute("aria-label", "Kinds of code shown");
    this.stage();
  }

  everything() {
    this.zoom([0, 1]);
  }

  // ------------------------------------------------------------ data and settings

  give({ key, content, selected, stamp }) {
    const known = settings.get(key);
    if (!known || known.hash !== content.hash) {
      // The axis is a taste and stays; the rest belonged to other data.
      this.set = {
        hash: content.hash, axis: known?.axis ?? "recent", hidden: new Set(), span: [0, 1],
        selected, stamp,
      };
      settings.set(key, this.set);
      this.hover = null;
    } else {
      this.set = known;
      // A click that the server has not seen yet is newer than what it sends.
      if (stamp >= known.stamp) Object.assign(known, { selected, stamp });
    }
    if (this.content?.hash !== content.hash) {
      this.content = content;
      this.oldest = Math.max(1, ...content.days.filter((d) => d !== null));
      this.facts = content.days.some((d) => d === null);
      this.ranked = content.share.map((_, i) => i)
        .sort((a, b) => Math.abs(content.share[b]) - Math.abs(content.share[a]));
      this.plot.setAttribute("aria-label",
        `${content.title}: ${content.share.length} events on a time axis. Left and right arrows ` +
        "go through them in time, up and down by the size of their share; Enter selects.");
      this.chips();
      this.words();
    }
    this.arrange();
  }

  chips() {
    this.kinds.replaceChildren();
    if (this.content.lanes.length > 1) add(this.kinds, "span", "", "Show");
    this.content.lanes.forEach((lane, i) => {
      const chip = add(this.kinds, "button", "", `${lane.title} ${lane.count}`);
      chip.type = "button";
      chip.dataset.lane = lane.title;
      chip.title = "Click to hide or show; double-click to show only these";
      chip.onclick = () => {
        this.set.hidden.has(i) ? this.set.hidden.delete(i) : this.set.hidden.add(i);
        this.arrange();
      };
      chip.ondblclick = () => {
        this.set.hidden = new Set(this.content.lanes.keys());
        this.set.hidden.delete(i);
        this.arrange();
      };
    });
    this.all = add(this.kinds, "button", "", "Show all kinds");
    this.all.type = "button";
    this.all.onclick = () => { this.set.hidden.clear(); this.arrange(); };
  }

  words() {
    const { words, colours, limit, limitText } = this.content;
    this.legend.replaceChildren();
    const entry = (size, colour, text, hollow) => {
      const line = add(this.legend, "span");
      const dot = add(line, "i", "dot");
      dot.style.width = dot.style.height = `${size}px`;
      dot.style[hollow ? "border" : "background"] = hollow ? `1.5px solid ${colour}` : colour;
      add(line, "span", "", text);
    };
    entry(12, colours[0], words[0]);
    entry(12, colours[1], words[1]);
    entry(6, colours[2], "no share", true);
    if (limit > 0) add(this.legend, "span", "", `Larger dot: larger share, up to ${limitText}`);
    add(this.legend, "span", "", "Drag across dates to zoom in");
  }

  setAxis(name) {
    this.set.axis = name;
    this.set.span = [0, 1];
    this.arrange();
  }

  zoom(span) {
    this.set.span = span;
    this.arrange();
  }

  // ------------------------------------------------------------ where things are

  fit() {
    const width = Math.round(this.root.clientWidth);
    if (width && width !== this.width) this.arrange();
  }

  scale(days) {
    const f = this.set.axis === "linear" ? (d) => d : (d) => Math.log10(1 + d);
    return 1 - f(days) / f(this.oldest);
  }

  unscale(u) {
    const part = Math.min(Math.max(1 - u, 0), 1);
    return this.set.axis === "linear"
      ? part * this.oldest : 10 ** (part * Math.log10(1 + this.oldest)) - 1;
  }

  across(u) {
    const [a, b] = this.set.span;
    return this.x0 + ((u - a) / (b - a)) * (this.x1 - this.x0);
  }

  radius(share) {
    const { limit } = this.content;
    return share === 0 || !limit ? 2.5 : 3 + 9 * Math.sqrt(Math.abs(share) / limit);
  }

  arrange() {
    if (!this.content) return;
    this.width = Math.round(this.root.clientWidth) || 800;
    const { content, set, width } = this;
    const left = width < 640 ? 110 : LEFT;
    this.factsX = left;
    this.x0 = left + (this.facts ? FACTS + 14 : 14);
    this.x1 = width - RIGHT - 18;
    const shown = content.lanes.map((_, i) => i).filter((i) => !set.hidden.has(i));
    this.spots = new Map();
    this.lanes = [];
    let y = TOP;
    for (const lane of shown) {
      const members = this.ranked.filter((i) => content.lane[i] === lane);
      const placed = [];
      for (const i of members) {
        const days = content.days[i];
        const fact = days === null;
        const u = fact ? null : this.scale(days);
        if (!fact && (u < set.span[0] - 1e-9 || u > set.span[1] + 1e-9)) continue;
        const r = this.radius(content.share[i]);
        const x = fact ? this.factsX + FACTS / 2 : this.across(u);
        placed.push(settle({ i, x, r, fact, y: 0 }, placed));
      }
      // Room for names above and below the dots that are large enough to have one.
      const name = (s) => (s.r > 5 && !s.fact ? 15 : 0);
      const up = Math.max(16, ...placed.map((s) => s.r - s.y + name(s)));
      const down = Math.max(16, ...placed.map((s) => s.r + s.y + name(s)));
      const middle = y + up + 5;
      for (const spot of placed) {
        spot.y += middle;
        this.spots.set(spot.i, spot);
      }
      const end = middle + down + 5;
      this.lanes.push({ lane, top: y, middle, bottom: end });
      y = end;
    }
    this.bottom = Math.max(y, TOP + 40);
    this.height = this.bottom + FOOT;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.canvas.style.height = `${this.height}px`;
    if (this.hover !== null && !this.spots.has(this.hover)) this.hover = null;
    this.tell();
    this.draw();
  }

  where(i) {
    const spot = this.spots.get(i);
    return spot ? { x: spot.x, y: spot.y } : null;
  }

  tell() {
    const { root, set, content } = this;
    root.dataset.axis = set.axis;
    root.dataset.visible = this.spots.size;
    root.dataset.hidden = [...set.hidden].map((i) => content.lanes[i].title).join("|");
    root.dataset.lanes = this.lanes.map((l) => content.lanes[l.lane].title).join("|");
    root.dataset.selected = set.selected ?? "";
    root.dataset.span = set.span.map((u) => u.toFixed(4)).join(" ");
    for (const [name, button] of Object.entries(this.axisButtons)) {
      button.setAttribute("aria-pressed", String(name === set.axis));
    }
    this.whole.disabled = set.span[0] === 0 && set.span[1] === 1;
    [...this.kinds.querySelectorAll("[data-lane]")].forEach((chip, i) =>
      chip.setAttribute("aria-pressed", String(!set.hidden.has(i))));
    this.all.hidden = set.hidden.size === 0;
  }

  // ------------------------------------------------------------ what the reader does

  nearest(x, y) {
    let best = null, least = Infinity;
    for (const spot of this.spots.values()) {
      const away = Math.hypot(spot.x - x, spot.y - y) - spot.r;
      if (away < 5 && away < least) [best, least] = [spot.i, away];
    }
    return best;
  }

  move(event) {
    const [x, y] = this.at(event);
    if (this.drag) {
      this.drag.to = x;
      this.point(null);
      this.draw();
    } else {
      this.point(this.nearest(x, y));
    }
  }

  press(event) {
    if (event.button) return;
    const [x] = this.at(event);
    this.drag = { from: x, to: x };
    this.plot.setPointerCapture(event.pointerId);
  }

  release(event) {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    const [x, y] = this.at(event);
    if (Math.abs(x - drag.from) < 6) {
      const hit = this.nearest(x, y);
      this.point(hit);
      if (hit !== null) this.select(hit);
      else this.draw();
      return;
    }
    const clamp = (v) => Math.min(Math.max(v, this.x0), this.x1);
    const [a, b] = this.set.span;
    const ends = [clamp(drag.from), clamp(x)].sort((p, q) => p - q)
      .map((v) => a + ((v - this.x0) / (this.x1 - this.x0)) * (b - a));
    if (ends[1] - ends[0] > 0.002) this.zoom(ends);
    else this.draw();
  }

  select(i) {
    this.set.selected = this.set.selected === i ? null : i;
    this.set.stamp = Math.max(Date.now(), this.set.stamp + 1);
    this.tell();
    this.draw();
    this.send({ hash: this.set.hash, stamp: this.set.stamp, value: this.set.selected });
  }

  type(event) {
    const { content } = this;
    const shown = [...this.spots.keys()];
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 };
    if (event.key in moves && shown.length) {
      const rank = new Map(this.ranked.map((i, n) => [i, n]));
      const when = (i) => content.days[i] ?? Infinity;
      const order = event.key === "ArrowUp" || event.key === "ArrowDown"
        ? shown.sort((a, b) => rank.get(a) - rank.get(b))
        : shown.sort((a, b) => when(b) - when(a) || a - b);
      const from = this.hover ?? this.set.selected;
      const at = order.indexOf(from);
      const next = at < 0 ? 0 : at + moves[event.key];
      if (order[next] !== undefined) this.point(order[next], true);
    } else if ((event.key === "Enter" || event.key === " ") && this.hover !== null) {
      this.select(this.hover);
    } else if (event.key === "Escape" && this.set.selected !== null) {
      this.select(this.set.selected);
    } else {
      return;
    }
    event.preventDefault();
  }

  point(i, speak = false) {
    if (i === this.hover) return;
    this.hover = i;
    this.root.dataset.hover = i ?? "";
    this.plot.classList.toggle("on", i !== null);
    this.draw();
    this.tip.hidden = i === null;
    if (i === null) return;
    const { content } = this;
    this.tip.replaceChildren();
    add(this.tip, "b", "", content.name[i]);
    if (content.value[i]) add(this.tip, "div", "", content.value[i]);
    add(this.tip, "div", "", content.when[i]);
    const share = add(this.tip, "div");
    const colours = content.colours;
    const value = add(share, "b", "", content.shareText[i]);
    value.style.color = content.share[i] > 0 ? colours[0] : content.share[i] < 0 ? colours[1] : MUTED;
    if (content.spreadText[i]) {
      add(share, "span", "muted", ` ${content.spreadText[i]} between two estimates`);
    }
    add(this.tip, "div", "muted", content.about[i]);
    const spot = this.spots.get(i);
    const { offsetWidth: w, offsetHeight: h } = this.tip;
    const x = spot.x + spot.r + 10 + w < this.width ? spot.x + spot.r + 10 : spot.x - spot.r - 10 - w;
    const y = Math.min(Math.max(spot.y - h / 2, 0), Math.max(this.height - h, 0));
    this.tip.style.transform = `translate(${Math.max(x, 0)}px, ${y}px)`;
    if (speak) this.spoken.textContent = this.tip.innerText.replaceAll("\n", ", ");
  }

  // ------------------------------------------------------------ drawing

  paint() {
    const pen = this.pen();
    this.family = getComputedStyle(this.root).fontFamily;
    this.paintLanes(pen);
    this.paintAxis(pen);
    this.paintEvents(pen);
    this.paintNames(pen);
    this.paintMarks(pen);
  }

  font(pen, size = 12, weight = 400) {
    pen.font = `${weight} ${size}px ${this.family}`;
  }

  paintLanes(pen) {
    const { content } = this;
    this.lanes.forEach(({ lane, top, middle, bottom }, n) => {
      if (n % 2 === 0) {
        pen.fillStyle = "#F8F9FB";
        pen.fillRect(0, top, this.width, bottom - top);
      }
      const entry = content.lanes[lane];
      pen.textAlign = "left";
      pen.fillStyle = INK;
      this.font(pen, 13, 600);
      const lines = wrap(pen, entry.title, this.factsX - 14);
      lines.forEach((line, k) => pen.fillText(line, 8, middle + (k - (lines.length - 1) / 2) * 16));
      pen.textAlign = "right";
      pen.fillStyle = entry.sign > 0 ? content.colours[0] : entry.sign < 0 ? content.colours[1] : MUTED;
      pen.fillText(entry.sum, this.width - 8, middle);
    });
    this.font(pen);
    pen.fillStyle = MUTED;
    pen.textAlign = "right";
    pen.fillText("Together", this.width - 8, TOP / 2);
    pen.textAlign = "center";
    if (this.facts) {
      pen.fillText("Lasting facts", this.factsX + FACTS / 2, TOP / 2);
      pen.strokeStyle = "#D9DFE5";
      line(pen, this.factsX + FACTS + 0.5, TOP, this.factsX + FACTS + 0.5, this.bottom);
      line(pen, this.factsX + 0.5, TOP, this.factsX + 0.5, this.bottom);
    }
  }

  ticks() {
    const [a, b] = this.set.span;
    const [most, least] = [this.unscale(a), this.unscale(b)];
    const width = this.x1 - this.x0;
    const step = STEPS.find((s) => (most - least) / s <= width / 90) ?? 40 * YEAR;
    const linear = [];
    for (let d = Math.ceil(least / step - 1e-9) * step; d <= most + 1e-9; d += step) linear.push(d);
    const wanted = this.set.axis === "linear" ? linear : [...NICE, ...linear];
    const kept = [];
    for (const day of wanted) {
      if (day < least - 1e-9 || day > most + 1e-9) continue;
      const x = this.across(this.scale(day));
      if (kept.every((k) => Math.abs(k.x - x) > 74)) kept.push({ day, x });
    }
    return kept;
  }

  paintAxis(pen) {
    this.font(pen);
    pen.textAlign = "center";
    for (const { day, x } of this.ticks()) {
      pen.strokeStyle = day === 0 ? "#8A949E" : GRID;
      line(pen, Math.round(x) + 0.5, TOP, Math.round(x) + 0.5, this.bottom + 5);
      pen.fillStyle = MUTED;
      pen.fillText(day === 0 ? "0" : span(day), x, this.bottom + 14);
    }
    pen.strokeStyle = "#8A949E";
    line(pen, this.x0 - 14, this.bottom + 0.5, this.x1 + 18, this.bottom + 0.5);
    pen.fillText(`Time before ${this.content.index}`, (this.x0 + this.x1) / 2, this.bottom + 33);
  }

  paintEvents(pen) {
    const { content } = this;
    // Large ones last: the small ones around them stay visible beside, not upon them.
    for (let n = this.ranked.length - 1; n >= 0; n--) {
      const spot = this.spots.get(this.ranked[n]);
      if (!spot) continue;
      const share = content.share[spot.i];
      pen.beginPath();
      pen.arc(spot.x, spot.y, spot.r, 0, 7);
      if (share === 0) {
        pen.strokeStyle = content.colours[2];
        pen.lineWidth = 1.2;
        pen.stroke();
      } else {
        const part = Math.sqrt(Math.abs(share) / content.limit);
        pen.fillStyle = blend(content.colours[2], content.colours[share > 0 ? 0 : 1], 0.12 + 0.88 * part);
        pen.fill();
        pen.strokeStyle = "#FFFFFF";
        pen.lineWidth = 0.8;
        pen.stroke();
      }
    }
    pen.lineWidth = 1;
  }

  paintNames(pen) {
    const { content } = this;
    const boxes = [...this.spots.values()].filter((s) => s.r > 4.5)
      .map((s) => [s.x - s.r, s.y - s.r, s.x + s.r, s.y + s.r, s.i]);
    const dots = [...this.spots.values()].filter((s) => s.r <= 4.5)
      .map((s) => [s.x - s.r, s.y - s.r, s.x + s.r, s.y + s.r]);
    const chosen = [];
    for (const sign of [1, -1]) {
      chosen.push(...this.ranked.filter((i) => content.share[i] * sign > 0 && this.spots.has(i)).slice(0, 6));
    }
    this.font(pen);
    let written = 0;
    for (const i of this.ranked.filter((r) => chosen.includes(r))) {
      const spot = this.spots.get(i);
      if (spot.fact) continue;
      const text = shorten(pen, content.label[i], 240);
      const wide = pen.measureText(text).width;
      const { top, bottom } = this.lanes.find((l) => l.lane === content.lane[i]);
      // Large dots and other names are never written upon; small dots as few as can be.
      const free = [
        [spot.x + spot.r + 4, spot.y], [spot.x - spot.r - 4 - wide, spot.y],
        [spot.x - wide / 2, spot.y - spot.r - 9], [spot.x - wide / 2, spot.y + spot.r + 9],
        [spot.x - 8, spot.y - spot.r - 9], [spot.x - 8, spot.y + spot.r + 9],
        [spot.x + 8 - wide, spot.y - spot.r - 9], [spot.x + 8 - wide, spot.y + spot.r + 9],
      ].map(([x, y]) => ({ x, y, box: [x - 2, y - 8, x + wide + 2, y + 8] }))
        .filter(({ box }) => box[0] > this.x0 - 12 && box[2] < this.x1 + 16
          && box[1] > top - 3 && box[3] < bottom + 3 && !boxes.some((b) => b[4] !== i && overlap(b, box)));
      for (const place of free) place.upon = dots.filter((d) => overlap(d, place.box)).length;
      const best = free.sort((a, b) => a.upon - b.upon)[0];
      if (!best || best.upon > 5) continue;
      pen.textAlign = "left";
      pen.lineWidth = 4;
      pen.strokeStyle = "rgba(255,255,255,0.88)";
      pen.lineJoin = "round";
      pen.strokeText(text, best.x, best.y);
      pen.fillStyle = INK;
      pen.fillText(text, best.x, best.y);
      boxes.push([...best.box, -1]);
      written += 1;
    }
    pen.lineWidth = 1;
    this.root.dataset.labelled = written;
  }

  paintMarks(pen) {
    const ring = (i, colour, width) => {
      const spot = this.spots.get(i);
      if (!spot) return;
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.beginPath();
      pen.arc(spot.x, spot.y, spot.r + 3, 0, 7);
      pen.stroke();
      pen.lineWidth = 1;
    };
    if (this.hover !== null) {
      const spot = this.spots.get(this.hover);
      if (spot && !spot.fact) {
        pen.strokeStyle = "rgba(27,39,51,0.25)";
        line(pen, Math.round(spot.x) + 0.5, TOP, Math.round(spot.x) + 0.5, this.bottom);
      }
      ring(this.hover, MUTED, 1.5);
    }
    if (this.set.selected !== null) ring(this.set.selected, INK, 2.5);
    if (this.drag && Math.abs(this.drag.to - this.drag.from) >= 6) {
      const [a, b] = [this.drag.from, this.drag.to].sort((p, q) => p - q);
      pen.fillStyle = "rgba(31,90,138,0.14)";
      pen.fillRect(a, TOP, b - a, this.bottom - TOP);
    }
  }
}

// ---------------------------------------------------------------- helpers

function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

// Where a new dot touches none of the placed ones: the least move, upwards or downwards first.
const MOVES = [];
for (let dy = -REACH; dy <= REACH; dy += 2) {
  for (let dx = -12; dx <= 12; dx += 4) MOVES.push([dx, dy, Math.abs(dy) + 2.5 * Math.abs(dx)]);
}
MOVES.sort((a, b) => a[2] - b[2]);

function settle(spot, placed) {
  const near = placed.filter((p) => Math.abs(p.x - spot.x) < p.r + spot.r + 13);
  for (const [dx, dy] of MOVES) {
    const x = spot.x + dx;
    if (near.every((p) => (p.x - x) ** 2 + (p.y - dy) ** 2 >= (p.r + spot.r + 0.5) ** 2)) {
      return { ...spot, x, y: dy };
    }
  }
  const [dx, dy] = MOVES[(spot.i * 7919) % MOVES.length];
  return { ...spot, x: spot.x + dx, y: dy };
}

function overlap(a, b) {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
}

function span(days) {
  const written = (n, unit) => {
    const text = Number(n.toFixed(1)).toLocaleString("en-GB");
    return `${text} ${unit}${text === "1" ? "" : "s"}`;
  };
  if (days < 0.99) return written(days * 24, "hour");
  if (days < 29) return written(days, "day");
  if (days < YEAR - 1) return written(days / MONTH, "month");
  return written(days / YEAR, "year");
}

function shorten(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let short = text;
  while (short && pen.measureText(`${short}…`).width > width) short = short.slice(0, -1);
  return `${short.trimEnd()}…`;
}

function wrap(pen, text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (pen.measureText(longer).width <= width || !lines.at(-1)) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines.map((l) => shorten(pen, l, width)).slice(0, 3);
}

function blend(from, to, part) {
  const channel = (c, k) => parseInt(c.slice(1 + 2 * k, 3 + 2 * k), 16);
  const mixed = [0, 1, 2].map((k) => Math.round(channel(from, k) * (1 - part) + channel(to, k) * part));
  return `rgb(${mixed.join(",")})`;
}
