// Echo loops. Frames come once as JPEG and are decoded here; one clock drives all views, so that
// each plays at the speed it was recorded at, whatever its frame rate and length.

const MESH = 96; // overlay cells are blended in value on this many squares, then coloured
const FULL_ALPHA = 0.5; // of the limit; below it the colours fade, so that weak values hide nothing
const INK = "#eef2f5";
const PLATE = "rgba(0, 0, 0, 0.55)";
const MARK = "#ffd978";
const ECG = "#7fe3a0";
const MARKS = { ED: "end-diastole", ES: "end-systole" };
const SPEEDS = [[0.25, "¼×", "A quarter of true speed"], [0.5, "½×", "Half of true speed"],
  [1, "1×", "True speed"]];
const LOST_MS = 1000; // a longer pause between two pictures is no playing (a hidden tab)
const taps = new Map();

export default function (component) {
  return attach(".echo", EchoCine, framesOf, 2, component);
}

// Bitmaps by view, which fill up as they are decoded.
function framesOf({ cines, blobs }) {
  const views = new Map();
  cines.forEach(({ view, ends }, i) => {
    const frames = new Array(ends.length - 1).fill(null);
    views.set(view, frames);
    frames.forEach((_, k) => {
      const part = new Blob([blobs[i].subarray(ends[k], ends[k + 1])], { type: "image/jpeg" });
      createImageBitmap(part).then((picture) => {
        frames[k] = picture;
        if (frames.every(Boolean)) for (const viewer of viewers.values()) viewer.arrived();
      });
    });
  });
  return views;
}

// ---------------------------------------------------------------- overlays

class LoopMap {
  constructor(overlay, blobs) {
    Object.assign(this, overlay);
    this.grids = new Map(Object.entries(this.views).map(([view, { blob, shape }]) =>
      [view, { shape, values: new Float32Array(blobs[blob].buffer) }]));
    this.stops = mixed(this.signed ? DIVERGING : INFERNO);
    this.kept = new Map(); // "view frame" -> canvas, for one table of colours
  }

  // The cells at a frame, blended in time; null where the model did not read it.
  at(view, frame) {
    const grid = this.grids.get(view);
    if (!grid) return null;
    const [n, h, w] = grid.shape;
    const place = (frame + 0.5 - this.first) / this.stride;
    if (place < 0 || place > n) return null;
    const low = clamp(Math.floor(place - 0.5), 0, n - 1);
    const high = Math.min(low + 1, n - 1);
    const share = clamp(place - 0.5 - low, 0, 1);
    const cells = new Float32Array(h * w);
    for (let i = 0; i < h * w; i++) {
      cells[i] = (1 - share) * grid.values[low * h * w + i] + share * grid.values[high * h * w + i];
    }
    return { cells, h, w };
  }

  // A canvas of MESH squares over the grid, linear between the middles of cells; made in the
  // first round of a loop and kept for the others. Null where the model did not read the frame.
  picture(view, frame, table) {
    if (this.tableOf !== table) this.kept.clear();
    this.tableOf = table;
    const name = `${view} ${frame}`;
    if (!this.kept.has(name)) this.kept.set(name, this.coloured(this.at(view, frame), table));
    return this.kept.get(name);
  }

  coloured(now, table) {
    if (!now) return null;
    const { cells, h, w } = now;
    const image = new ImageData(MESH, MESH);
    const pixels = new Uint32Array(image.data.buffer);
    const [down, across] = [tapsOf(h), tapsOf(w)];
    // As colourOf, written out: this runs millions of times in the first round.
    const slope = ((COLOURS - 1) / this.limit) * (this.signed ? 0.5 : 1);
    const zero = (this.signed ? (COLOURS - 1) / 2 : 0) + 0.5;
    for (let y = 0; y < MESH; y++) {
      const [above, below] = [down.low[y] * w, down.high[y] * w];
      const dy = down.share[y];
      for (let x = 0; x < MESH; x++) {
        const [x0, x1, dx] = [across.low[x], across.high[x], across.share[x]];
        const upper = cells[above + x0] * (1 - dx) + cells[above + x1] * dx;
        const lower = cells[below + x0] * (1 - dx) + cells[below + x1] * dx;
        const place = (upper * (1 - dy) + lower * dy) * slope + zero;
        pixels[y * MESH + x] = table[place < 0 ? 0 : place >= COLOURS ? COLOURS - 1 : place | 0];
      }
    }
    const canvas = el("canvas", { width: MESH, height: MESH });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  // Value at a place of a frame, from 0 to 1 across and down.
  value(view, frame, x, y) {
    const now = this.at(view, frame);
    const [left, top, right, bottom] = this.box;
    const [u, v] = [(x - left) / (right - left), (y - top) / (bottom - top)];
    if (!now || u < 0 || u > 1 || v < 0 || v > 1) return NaN;
    const { cells, h, w } = now;
    const part = (share, n) => {
      const place = clamp(share * n - 0.5, 0, n - 1);
      const low = Math.floor(place);
      return [low, Math.min(low + 1, n - 1), place - low];
    };
    const [y0, y1, dy] = part(v, h);
    const [x0, x1, dx] = part(u, w);
    const upper = cells[y0 * w + x0] * (1 - dx) + cells[y0 * w + x1] * dx;
    const lower = cells[y1 * w + x0] * (1 - dx) + cells[y1 * w + x1] * dx;
    return upper * (1 - dy) + lower * dy;
  }

  // Colours with their opacity, as ABGR words.
  table(opacity, threshold) {
    return Uint32Array.from(this.stops, ([r, g, b], i) => {
      const alpha = this.alpha(i, opacity, threshold);
      return ((Math.round(alpha * 255) << 24) | (b << 16) | (g << 8) | r) >>> 0;
    });
  }

  alpha(i, opacity, threshold) {
    const share = i / (COLOURS - 1);
    const strength = this.signed ? Math.abs(2 * share - 1) : share;
    return strength < threshold ? 0 : opacity * Math.min(1, strength / FULL_ALPHA);
  }

  // View and frame of the strongest value.
  get peak() {
    let best = [0, null, 0];
    for (const [view, { shape, values }] of this.grids) {
      const cell = shape[1] * shape[2];
      values.forEach((value, i) => {
        if (Math.abs(value) > best[0]) best = [Math.abs(value), view, Math.floor(i / cell)];
      });
    }
    return [best[1], Math.floor(this.first + (best[2] + 0.5) * this.stride)];
  }
}

// ---------------------------------------------------------------- the loops

class EchoCine {
  constructor(root) {
    this.root = root;
    this.cards = new Map();
    this.generation = 0;
    this.build();
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(root);
  }

  close() {
    this.watch.disconnect();
    cancelAnimationFrame(this.ticking);
    clearTimeout(this.speakTimer);
    this.closed = true;
  }

  update(message, tell) {
    this.tell = tell;
    this.message = message;
    this.generation += 1;
    this.maps = message.overlays.map((one) => new LoopMap(one, message.blobs));
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.state = recall(message.key, {
      playing: !still, speed: 1, time: 0, big: "", main: "", overlay: true, title: "",
      opacity: 0.55, threshold: 0.15, digest: "",
    });
    const { state } = this;
    if (state.digest !== message.digest) {
      Object.assign(state, { digest: message.digest, time: 0, big: "", main: "" });
    }
    if (!this.cine(state.main)) state.main = (this.moving()[0] ?? message.cines[0]).view;
    if (!this.cine(state.big)?.recorded) state.big = "";
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", `${message.alt}. ${summary(message.cines)}`);
    this.fill();
    this.arrived();
  }

  arrived() {
    this.frames = shelf.get(this.message?.digest) ?? null;
    const decoded = this.frames && [...this.frames.values()].every((one) => one.every(Boolean));
    this.wait.hidden = Boolean(decoded);
    if (decoded && !this.ready) {
      this.ready = true;
      this.fit();
    }
    if (!decoded) this.ready = false;
    if (decoded) this.run();
    this.report();
  }

  cine(view) {
    return this.message.cines.find((cine) => cine.view === view);
  }

  moving() {
    return this.message.cines.filter((cine) => cine.recorded && cine.frames > 1);
  }

  get map() {
    return this.maps.find((map) => map.title === this.state.title) ?? this.maps[0] ?? null;
  }

  get visibleMap() {
    return this.state.overlay && this.map?.limit > 0 ? this.map : null;
  }

  // ---- time

  // The frame of a view that is on at the shared time: the last one taken before it.
  frameOf(cine) {
    if (!(cine.duration > 0)) return 0;
    const time = (this.state.time + 1e-6) % cine.duration;
    let [low, high] = [0, cine.frames - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (cine.times[middle] <= time) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  run() {
    cancelAnimationFrame(this.ticking);
    this.last = null;
    this.measured = { since: null, shown: 0, ticks: 0, work: 0, time: this.state.time };
    const tick = (now) => {
      if (this.closed) return;
      if (this.last !== null && now - this.last < LOST_MS) {
        this.state.time += (now - this.last) * this.state.speed;
      }
      this.last = now;
      this.tock(now);
      if (this.state.playing) this.ticking = requestAnimationFrame(tick);
    };
    if (this.state.playing) this.ticking = requestAnimationFrame(tick);
    else this.draw();
  }

  // One picture while playing, and once a second what was reached.
  tock(now) {
    const { measured } = this;
    const before = this.shown;
    const started = performance.now();
    this.draw();
    measured.work += performance.now() - started;
    measured.ticks += 1;
    if (this.shown !== before) measured.shown += 1;
    measured.since ??= now;
    const wall = now - measured.since;
    if (wall < 1000) return;
    const { root, state } = this;
    root.dataset.fps = trim((measured.shown * 1000) / wall, 2);
    root.dataset.rate = trim((measured.ticks * 1000) / wall, 2);
    root.dataset.workMs = trim(measured.work / measured.ticks, 2);
    this.measured = { since: now, shown: 0, ticks: 0, work: 0, time: state.time };
  }

  play(on) {
    this.state.playing = on;
    this.run();
    this.report();
  }

  // To another frame of the main view; the other views follow in time.
  step(by) {
    const cine = this.cine(this.state.main);
    if (!cine.recorded || cine.frames < 2) return;
    this.show(cine, (this.frameOf(cine) + by + cine.frames) % cine.frames, by);
  }

  show(cine, frame, by = 0) {
    const { state } = this;
    const rounds = Math.floor((state.time + 1e-6) / cine.duration);
    let time = rounds * cine.duration + cine.times[frame];
    if (by > 0 && time < state.time) time += cine.duration;
    if (by < 0 && time > state.time) time = Math.max(time - cine.duration, cine.times[frame]);
    state.time = time;
    state.playing = false;
    this.run();
  }

  // ---- drawing

  fit() {
    if (!this.message || !this.root.clientWidth) return;
    const width = this.root.clientWidth;
    const columns = width >= 900 ? 4 : width >= 600 ? 3 : width >= 380 ? 2 : 1;
    this.grid.style.setProperty("--columns", this.state.big ? 1 : columns);
    this.root.dataset.columns = columns;
    for (const card of this.cards.values()) card.stale = true;
    this.generation += 1;
    this.draw();
  }

  draw() {
    if (!this.ready) return;
    this.shown = this.frameOf(this.cine(this.state.main));
    const map = this.visibleMap;
    const wanted = map && [map.title, this.state.opacity, this.state.threshold].join("/");
    if (map && this.tableOf !== wanted) {
      this.table = map.table(this.state.opacity, this.state.threshold);
      this.tableOf = wanted;
    }
    for (const card of this.cards.values()) this.drawCard(card, map);
    if (this.state.playing) this.reportFrame();
    else this.report();
  }

  drawCard(card, map) {
    const { cine, canvas, home } = card;
    if (!cine.recorded || home.hidden) return;
    const frame = this.frameOf(cine);
    const wanted = `${frame} ${this.state.playing} ${this.generation} ${map ? this.tableOf : ""}`;
    if (card.drawn === wanted) return;
    card.drawn = wanted;
    if (card.stale) {
      card.width = canvas.parentElement.clientWidth;
      card.height = canvas.parentElement.clientHeight;
      if (card.strip) this.drawStrip(card);
      card.stale = false;
    }
    const { width, height } = card;
    if (!width || !height) return;
    const pen = penOf(canvas, width, height);
    const picture = this.frames.get(cine.view)[frame];
    const place = placeOf(cine, width, height);
    card.place = place;
    // The best enlargement is too slow to play eleven views without a graphics card.
    pen.imageSmoothingQuality = this.state.playing ? "low" : "high";
    pen.drawImage(picture, place.x, place.y, place.width, place.height);
    const over = map?.picture(cine.view, frame, this.table);
    if (over) {
      pen.imageSmoothingQuality = "low"; // linear, as between the cells
      const [left, top, right, bottom] = map.box;
      pen.drawImage(over, place.x + left * place.width, place.y + top * place.height,
        (right - left) * place.width, (bottom - top) * place.height);
    }
    depthScale(pen, cine, place, width);
    const unread = map?.grids.has(cine.view) && !over;
    this.label(pen, card, frame, unread, height);
    home.dataset.frame = frame;
    home.dataset.place = [place.x, place.y, place.width, place.height].map((n) => trim(n, 3)).join(",");
  }

  label(pen, card, frame, unread, height) {
    const { cine } = card;
    const mark = markAt(cine, frame)?.name;
    if (mark) write(pen, mark, 8, 22, MARK, 15, 700);
    if (unread) write(pen, "frame not read by the model", 8, height - 9, INK, 11.5);
    const still = cine.frames < 2;
    card.count.textContent = still
      ? ""
      : `${frame + 1}/${cine.frames}  ${Math.round(cine.times[frame])} ms`;
    for (const needle of card.needles) {
      needle.style.left = `${(100 * cine.times[frame]) / cine.duration}%`;
    }
  }

  // ---- what is told to machines and to those who listen

  reportFrame() {
    const cine = this.cine(this.state.main);
    const { dataset } = this.root;
    const frame = this.shown;
    if (dataset.frame !== String(frame)) dataset.frame = frame;
    this.slider.value = frame;
    this.clock.textContent = cine.frames > 1 ? `frame ${frame + 1}/${cine.frames}` : "";
  }

  report() {
    if (!this.message) return;
    const { state, root, message } = this;
    const cine = this.cine(state.main);
    Object.assign(root.dataset, {
      ready: String(Boolean(this.ready)),
      key: message.key,
      study: message.digest,
      playing: state.playing,
      speed: state.speed,
      time: trim(state.time, 3),
      view: state.main,
      big: state.big,
      overlay: this.visibleMap?.title ?? "",
      opacity: state.opacity,
      threshold: state.threshold,
      missing: message.cines.filter((one) => !one.recorded).map((one) => one.view).join(","),
    });
    this.slider.max = Math.max(0, (cine.frames ?? 1) - 1);
    this.slider.disabled = !(cine.frames > 1);
    this.reportFrame();
    this.slider.setAttribute("aria-valuetext", this.told(cine));
    const words = state.playing ? "Pause" : "Play";
    if (this.playButton.textContent !== words) {
      this.playButton.textContent = words;
      this.playButton.setAttribute("aria-label", `${words}. Space`);
    }
    this.back.hidden = !state.big;
    this.controls?.refresh();
    for (const card of this.cards.values()) {
      card.home.classList.toggle("chosen", card.cine.view === state.main && card.cine.recorded);
    }
    clearTimeout(this.speakTimer);
    this.speakTimer = setTimeout(() => {
      const told = `${cine.title}, ${state.playing ? "playing" : this.told(cine)}`;
      if (this.spoken.textContent !== told) this.spoken.textContent = told;
    }, 600);
  }

  // The frame that is on, and what it is, for those who listen.
  told(cine) {
    if (!cine.recorded) return cine.missing;
    if (cine.frames < 2) return `${cine.aside || "still"}, not used by the model`;
    const mark = markAt(cine, this.shown);
    const over = this.visibleMap;
    const parts = [this.clock.textContent];
    if (mark) parts.push(`${MARKS[mark.name]} by ${mark.from}`);
    if (over?.grids.has(cine.view) && !over.at(cine.view, this.shown)) parts.push("not read by the model");
    return parts.join(", ");
  }

  // ---- the page around the loops

  build() {
    const { root } = this;
    root.replaceChildren();
    this.head = el("div", { className: "head" });
    this.bar = el("div", { className: "bar" });
    this.grid = el("div", { className: "grid", tabIndex: 0 });
    this.grid.setAttribute("role", "application");
    this.grid.setAttribute("aria-label", "Echo loops. Space plays and pauses, left and right arrows step, up and down choose the view, D and S go to end-diastole and end-systole, Enter enlarges.");
    this.wait = el("div", { className: "wait", textContent: "Receiving the echo loops …" });
    this.playButton = el("button", { type: "button", className: "play", title: "Play or pause (Space)" });
    this.playButton.onclick = () => this.play(!this.state.playing);
    this.slider = el("input", { type: "range", min: 0, step: 1 });
    this.slider.setAttribute("aria-label", "Frame");
    this.slider.oninput = () => this.show(this.cine(this.state.main), Number(this.slider.value));
    this.clock = el("span", { className: "clock" });
    this.back = button("All views", "Show all views again (Esc)", () => this.enlarge(""));
    this.spoken = el("div", { className: "spoken" });
    this.spoken.setAttribute("aria-live", "polite");
    this.reading = el("p", { className: "reading muted" });
    this.shrunk = el("p", { className: "muted" });
    this.overlays = el("div", { className: "overlays" });
    root.append(
      this.head, this.bar, this.overlays,
      el("div", { className: "stage" }, this.grid, this.wait),
      this.reading, this.shrunk,
      helpLine([
        ["Space", "play, pause"], ["← →", "frame by frame"], ["↑ ↓", "view"], ["D S", "end-diastole, end-systole"],
        ["Click, Enter", "enlarge"], ["Esc", "all views"], ["1 2 3", "speed"], ["O", "overlay"],
      ]),
      this.spoken,
    );
    root.addEventListener("keydown", (event) => this.onKey(event));
  }

  fill() {
    const { message, state } = this;
    this.head.hidden = !message.title;
    this.head.replaceChildren(el("strong", { textContent: message.title }));
    this.shrunk.textContent = message.shrunk;
    this.shrunk.hidden = !message.shrunk;
    this.controls = new Controls(state, (name) => {
      if (name === "title") state.overlay = true;
      if (name === "speed") this.run();
      this.draw();
      this.report();
    });
    const { controls } = this;
    this.bar.replaceChildren(
      this.playButton,
      el("div", { className: "group" },
        button("◀", "One frame back (←)", () => this.step(-1)),
        button("▶", "One frame on (→)", () => this.step(1))),
      this.slider, this.clock,
      controls.group("Speed", "speed", SPEEDS),
      this.back,
      el("div", { className: "row end" },
        button("PNG", "Download the loops as they stand", () => this.save())),
    );
    this.fillOverlays();
    const shape = JSON.stringify(message.cines);
    if (this.cardsOf !== shape) {
      this.cardsOf = shape;
      this.cards = new Map(message.cines.map((cine) => [cine.view, this.card(cine)]));
      this.grid.replaceChildren(...[...this.cards.values()].map((card) => card.home));
      this.ready = false;
    }
    this.hide();
  }

  fillOverlays() {
    const { controls, maps, overlays } = this;
    overlays.hidden = !maps.length;
    if (!maps.length) return;
    if (!this.state.title) this.state.title = maps[0].title;
    const check = controls.check("Overlay", "overlay");
    check.style.fontWeight = 600;
    const note = el("p", { className: "muted note" });
    const bar = el("div", { className: "scale" });
    controls.all.push(() => {
      const { map, state } = this;
      note.textContent = map.limit > 0 ? map.note : `${map.note} Zero everywhere: nothing to draw.`;
      const wanted = [map.title, map.limit, state.opacity, state.threshold].join("/");
      if (bar.dataset.of === wanted) return;
      bar.dataset.of = wanted;
      colourBar(bar, map, (i) => {
        const alpha = map.alpha(i, state.opacity, state.threshold);
        // As over a mid grey, the brightness of muscle.
        return alpha ? `rgb(${map.stops[i].map((c) => Math.round(c * alpha + 90 * (1 - alpha))).join(" ")})` : "";
      });
    });
    overlays.replaceChildren(
      el("div", { className: "which" }, check,
        maps.length > 1
          ? controls.select("Which", "title", maps.map(({ title }) => [title, title]))
          : el("span", { textContent: maps[0].title }),
        button("Go to strongest", "Pause at the frame with the largest value (G)", () => this.strongest())),
      bar,
      controls.range("Opacity", "opacity", percent),
      controls.range("Hidden below", "threshold", (v) => `${percent(v)} of ${significant(this.map.limit)}`),
      note,
    );
  }

  card(cine) {
    const home = el("div", { className: "card" });
    home.dataset.view = cine.view;
    const title = el("div", { className: "title" }, el("b", { textContent: cine.title }));
    if (cine.note) title.append(el("span", { className: "faint", textContent: cine.note }));
    home.append(title);
    const card = { cine, home, stale: true, needles: [] };
    if (!cine.recorded) {
      home.classList.add("missing");
      home.append(el("div", { className: "picture", textContent: cine.missing }));
      return card;
    }
    home.classList.toggle("aside", Boolean(cine.aside));
    card.canvas = el("canvas");
    card.canvas.setAttribute("role", "img");
    card.canvas.setAttribute("aria-label", cine.aside ? `${cine.title}, ${unused(cine)}` : cine.title);
    const picture = el("div", { className: "picture" }, card.canvas);
    picture.style.setProperty("--ratio", cine.size[0] / cine.size[1]);
    card.count = el("span");
    const foot = el("div", { className: "foot" }, card.count);
    if (cine.aside) foot.append(el("span", { className: "unused", textContent: unused(cine) }));
    if (cine.rate) foot.append(el("span", { textContent: `${Math.round(cine.rate)} bpm` }));
    home.append(picture);
    if (cine.frames > 1) home.append(this.track(card));
    if (cine.ecg) home.append(this.strip(card));
    home.append(foot);
    home.title = "Click to enlarge";
    picture.onclick = () => {
      this.grid.focus({ preventScroll: true });
      this.enlarge(this.state.big ? "" : cine.view);
    };
    picture.onpointermove = (event) => this.read(card, event);
    picture.onpointerleave = () => (this.reading.textContent = "");
    return card;
  }

  // Where in the loop it stands, with the marks of the cycle and the R waves that the file states.
  track(card) {
    const { cine } = card;
    const track = el("div", { className: "track" });
    const at = (time) => `${(100 * time) / cine.duration}%`;
    for (const time of cine.rWaves) {
      if (time < 0 || time > cine.duration) continue;
      const tick = el("span", { className: "tick", title: `R wave, ${Math.round(time)} ms` });
      tick.style.left = at(time);
      track.append(tick);
    }
    for (const { name, frame, from } of cine.marks) {
      const hint = `${name}, frame ${frame + 1}`;
      const mark = el("button", { type: "button", className: "mark", title: `${hint}: ${from}`, textContent: name });
      mark.setAttribute("aria-label", `${cine.title}: ${MARKS[name]}, frame ${frame + 1}, by ${from}`);
      mark.tabIndex = -1; // D and S go there by keys
      mark.style.left = at(cine.times[frame]);
      // Near its end a mark is written to the left of its place.
      mark.classList.toggle("late", cine.times[frame] > 0.85 * cine.duration);
      mark.onclick = () => this.mark(cine, frame);
      track.append(mark);
    }
    card.needles.push(el("span", { className: "needle" }));
    track.append(card.needles.at(-1));
    return track;
  }

  mark(cine, frame) {
    this.state.main = cine.view;
    this.show(cine, frame);
    this.report();
  }

  // To the next end-diastole or end-systole of the main view, round the loop's end.
  next(name) {
    const cine = this.cine(this.state.main);
    const frames = (cine.marks ?? []).filter((mark) => mark.name === name).map((mark) => mark.frame);
    if (!frames.length) return;
    const now = this.frameOf(cine);
    this.mark(cine, frames.find((frame) => frame > now) ?? frames[0]);
  }

  // The ECG that came with the file, along the same time as the track above it.
  strip(card) {
    const strip = el("div", { className: "strip" });
    card.strip = el("canvas");
    card.strip.setAttribute("role", "img");
    card.strip.setAttribute("aria-label", `ECG of ${card.cine.title}, from the file`);
    card.needles.push(el("span", { className: "needle" }));
    strip.append(card.strip, el("span", { className: "what", textContent: "ECG" }), card.needles.at(-1));
    return strip;
  }

  drawStrip({ cine, strip }) {
    const { clientWidth: width, clientHeight: height } = strip.parentElement;
    if (!width) return;
    const pen = penOf(strip, width, height);
    const { start, step, values } = cine.ecg;
    const [middle, high] = [height / 2, height / 2 - 2];
    pen.beginPath();
    values.forEach((value, k) => {
      const time = start + k * step;
      if (time < -step || time > cine.duration + step) return;
      pen.lineTo((time / cine.duration) * width, middle - value * high);
    });
    pen.strokeStyle = ECG;
    pen.lineWidth = 1.2;
    pen.lineJoin = "bevel";
    pen.stroke();
    strip.parentElement.dataset.drawn = `${width}x${height}`;
  }

  hide() {
    for (const { home, cine } of this.cards.values()) {
      home.hidden = Boolean(this.state.big) && cine.view !== this.state.big;
    }
    this.root.classList.toggle("one", Boolean(this.state.big));
    this.fit();
  }

  // What is under the mouse: place from the transducer's face, and the overlay there.
  read(card, event) {
    const { cine, place } = card;
    if (!place) return;
    const box = card.canvas.getBoundingClientRect();
    const x = (event.clientX - box.left - place.x) / place.width;
    const y = (event.clientY - box.top - place.y) / place.height;
    const inside = x >= 0 && x <= 1 && y >= 0 && y <= 1;
    const parts = [cine.title];
    if (inside && cine.mm) parts.push(`depth ${(((y * cine.size[1] - cine.zero) * cine.mm) / 10).toFixed(1)} cm`);
    const map = this.visibleMap;
    if (map && inside) {
      const value = map.value(cine.view, this.frameOf(cine), x, y);
      parts.push(Number.isNaN(value) ? "no value here" : `${map.title} ${reading(value, map)}`);
      this.root.dataset.value = Number.isNaN(value) ? "" : value;
    }
    this.reading.textContent = parts.join("  ·  ");
  }

  enlarge(view) {
    const { state, message } = this;
    state.big = view;
    if (view) state.main = view;
    this.hide();
    this.report();
    this.tell("enlarged", { view, digest: message.digest });
  }

  other(by) {
    const { state, message } = this;
    const all = message.cines.filter((cine) => cine.recorded);
    const at = all.findIndex((cine) => cine.view === state.main);
    state.main = all[(at + by + all.length) % all.length].view;
    if (state.big) this.enlarge(state.main);
    else this.draw();
    this.report();
  }

  strongest() {
    const [view, frame] = this.map.peak;
    const cine = view && this.cine(view);
    if (!cine?.recorded) return;
    Object.assign(this.state, { overlay: true, main: view });
    if (this.state.big && this.state.big !== view) this.enlarge(view);
    if (cine.duration > 0) this.show(cine, clamp(frame, 0, cine.frames - 1));
    this.report();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inGrid = event.target === this.grid;
    if (!inGrid && event.target.tagName !== "BODY" && event.key !== "Escape") return;
    const { state, controls } = this;
    const keys = {
      " ": () => this.play(!state.playing),
      ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1),
      ArrowUp: () => this.other(-1), ArrowDown: () => this.other(1),
      Enter: () => this.cine(state.main).recorded && this.enlarge(state.big ? "" : state.main),
      Escape: () => state.big && this.enlarge(""),
      o: () => controls.set("overlay", !state.overlay),
      d: () => this.next("ED"), s: () => this.next("ES"),
      g: () => this.map && this.strongest(),
    };
    SPEEDS.forEach(([speed], i) => (keys[i + 1] = () => controls.set("speed", speed)));
    const act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  // ---- export

  save() {
    const ratio = window.devicePixelRatio || 1;
    const outer = this.grid.getBoundingClientRect();
    const foot = 46;
    const out = el("canvas", {
      width: Math.round(outer.width * ratio), height: Math.round((outer.height + foot) * ratio),
    });
    const pen = out.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = "#11161a";
    pen.fillRect(0, 0, outer.width, outer.height + foot);
    for (const { cine, home, canvas, count } of this.cards.values()) {
      if (home.hidden) continue;
      const box = home.getBoundingClientRect();
      const [x, y] = [box.left - outer.left, box.top - outer.top];
      if (canvas) {
        const at = canvas.getBoundingClientRect();
        pen.drawImage(canvas, at.left - outer.left, at.top - outer.top, at.width, at.height);
      }
      const words = cine.recorded ? `${cine.title}  ${count.textContent}` : `${cine.title}: ${cine.missing}`;
      write(pen, words + (cine.aside ? ` (${unused(cine)})` : ""), x + 8, y + 17, INK, 12);
    }
    const { message } = this;
    const map = this.visibleMap;
    const words = [message.title, map?.title, map?.note, map && `colours to ${significant(map.limit)}`];
    write(pen, words.filter(Boolean).join(" · "), 8, outer.height + 18, INK, 12.5);
    write(pen, message.notice, 8, outer.height + 36, "#c9d2da", 12);
    download(out, fileName(message.title || "echo", this.state.big || "all views"));
  }
}

// ---------------------------------------------------------------- small things

function markAt(cine, frame) {
  return (cine.marks ?? []).find((mark) => mark.frame === frame);
}

// What the study holds, for those who cannot see the grid.
function summary(cines) {
  const loops = cines.filter((cine) => cine.recorded && !cine.aside);
  const parts = [`${loops.length} of the views are there`];
  const named = (which) => cines.filter(which).map((cine) => cine.title).join(", ");
  const missing = named((cine) => !cine.recorded);
  if (missing) parts.push(`not there: ${missing}`);
  const aside = cines.filter((cine) => cine.aside).length;
  if (aside) parts.push(`${aside} more not used by the model`);
  return `${parts.join("; ")}.`;
}

function unused(cine) {
  return `not used by the model: ${cine.aside}`;
}

// The two cells around the middle of each of MESH squares, and how far towards the second.
function tapsOf(n) {
  if (taps.has(n)) return taps.get(n);
  const found = { low: new Int32Array(MESH), high: new Int32Array(MESH), share: new Float32Array(MESH) };
  for (let i = 0; i < MESH; i++) {
    const place = clamp(((i + 0.5) / MESH) * n - 0.5, 0, n - 1);
    found.low[i] = Math.floor(place);
    found.high[i] = Math.min(found.low[i] + 1, n - 1);
    found.share[i] = place - found.low[i];
  }
  taps.set(n, found);
  return found;
}

// Where a frame lies in a canvas: whole, as large as it goes, its pixels square.
function placeOf(cine, width, height) {
  const scale = Math.min(width / cine.size[0], height / cine.size[1]);
  const [w, h] = [cine.size[0] * scale, cine.size[1] * scale];
  return { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h, scale };
}

// Marks every cm below the transducer's face along the right edge, longer ones every 5 cm.
function depthScale(pen, cine, place, width) {
  if (!cine.mm) return;
  const cm = (10 / cine.mm) * place.scale;
  const top = place.y + cine.zero * place.scale;
  const right = Math.round(Math.min(width, place.x + place.width)) - 4;
  const small = cm >= 4;
  for (let k = 0; top + k * cm <= place.y + place.height; k++) {
    const large = k % 5 === 0;
    if (!large && !small) continue;
    const long = large ? 9 : 5;
    const y = Math.round(top + k * cm);
    pen.fillStyle = "rgba(238, 242, 245, 0.8)";
    pen.fillRect(right - long, y, long, 1);
    if (large && k) write(pen, `${k}${k === 5 ? " cm" : ""}`, right - 12, y + 4, INK, 11, 400, "right");
  }
}

function write(pen, words, x, y, colour, size, weight = 400, align = "left") {
  pen.font = `${weight} ${size}px ${FONT}`;
  pen.textAlign = align;
  pen.textBaseline = "alphabetic";
  const long = pen.measureText(words).width;
  pen.fillStyle = PLATE;
  pen.fillRect((align === "right" ? x - long : x) - 3, y - size, long + 6, size * 1.3);
  pen.fillStyle = colour;
  pen.fillText(words, x, y);
}
