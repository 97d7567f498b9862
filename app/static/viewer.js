// What the ECG paper and the echo loops share: messages, content kept over reruns, buttons and
// colours. Put before the script of each, which calls attach() in its default export.
//
// Words from Python reach the page as textContent or canvas text, never as HTML.

const INFERNO = ["#000004", "#210c4a", "#57106e", "#8a226a", "#bc3754", "#e45a31", "#f98e09",
  "#f9cb35", "#fcffa4"];
const DIVERGING = ["#1d4ed8", "#4f86ee", "#a9c9fb", "#ffffff", "#fbb4a6", "#ee5c4a", "#c8102e"];
const COLOURS = 256;
const FONT = '"Source Sans", "Source Sans Pro", "Helvetica Neue", Arial, sans-serif';

const shelf = new Map(); // digest -> what a View made of the content, oldest first
const memory = new Map(); // viewer key -> what the reader set, over reruns and page changes
const viewers = new Map(); // root element -> View

// View: built on a root element; update(message, tell) takes a message from Python and a function
// that tells it something, arrived() that content came, close() ends it. prepare(message) makes
// of content what is kept; at most `most` of them.
function attach(name, View, prepare, most, { parentElement, data, setStateValue, setTriggerValue }) {
  const root = parentElement.querySelector(name);
  if (!root || !data) return undefined;
  const message = read(data);
  if (message.kind !== "view") {
    root.dataset.kind = "content";
    if (message.kind === "content") {
      if (!shelf.has(message.digest)) shelf.set(message.digest, prepare(message));
      for (const digest of [...shelf.keys()].slice(0, -most)) shelf.delete(digest);
      for (const viewer of viewers.values()) viewer.arrived();
    } else {
      askIfLost(message.digest, setTriggerValue);
    }
    return undefined;
  }
  if (!viewers.has(root)) viewers.set(root, new View(root));
  const viewer = viewers.get(root);
  viewer.update(message, setStateValue);
  return () => {
    viewer.close();
    viewers.delete(root);
  };
}

function read(bytes) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  // Copied: the message starts anywhere in the socket's buffer, typed arrays want even places.
  header.blobs = header.blobs.map(([start, size]) =>
    bytes.slice(4 + length + start, 4 + length + start + size),
  );
  return header;
}

// Python believes that this browser has the content. A rerun that overtook the message, or memory
// given back since, can make that wrong.
function askIfLost(digest, setTriggerValue) {
  if (shelf.has(digest)) return;
  setTimeout(() => shelf.has(digest) || setTriggerValue("lost", digest), 500);
}

// What the reader set under a key, starting from what is given.
function recall(key, fresh) {
  if (!memory.has(key)) memory.set(key, fresh);
  return memory.get(key);
}

// ---------------------------------------------------------------- elements

function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function button(text, hint, act) {
  const node = el("button", { type: "button", textContent: text, title: hint, onclick: act });
  // An arrow would be read as the name of its shape.
  node.setAttribute("aria-label", /[\p{L}\p{N}]/u.test(text) ? `${text}. ${hint}` : hint);
  return node;
}

// Controls bound to one state: each is drawn once and refreshed after every change.
class Controls {
  constructor(state, changed) {
    Object.assign(this, { state, changed, all: [] });
  }

  refresh() {
    for (const one of this.all) one();
  }

  set(name, value) {
    this.state[name] = value;
    this.changed(name);
  }

  check(text, name) {
    const input = el("input", { type: "checkbox" });
    input.onchange = () => this.set(name, input.checked);
    this.all.push(() => (input.checked = this.state[name]));
    return el("label", { className: "check" }, input, text);
  }

  range(text, name, say) {
    const input = el("input", { type: "range", min: 0, max: 100, step: 1 });
    input.setAttribute("aria-label", text);
    const value = el("span");
    input.oninput = () => this.set(name, Number(input.value) / 100);
    this.all.push(() => {
      input.value = Math.round(this.state[name] * 100);
      value.textContent = say(this.state[name]);
      input.setAttribute("aria-valuetext", value.textContent);
    });
    return el("label", { className: "slide" }, el("span", { textContent: text }), value, input);
  }

  // options: [value, words]; values are text or numbers.
  select(text, name, options, hint = text) {
    const select = el("select", { title: hint });
    select.setAttribute("aria-label", text);
    for (const [value, words] of options) select.append(el("option", { value, textContent: words }));
    select.onchange = () => {
      this.set(name, options.find(([value]) => String(value) === select.value)[0]);
    };
    this.all.push(() => (select.value = this.state[name]));
    return el("label", { className: "choice" }, el("span", { textContent: text }), select);
  }

  // A row of buttons of which one is pressed. options: [value, words, hint].
  group(text, name, options) {
    const home = el("div", { className: "group" });
    home.setAttribute("role", "group");
    home.setAttribute("aria-label", text);
    for (const [value, words, hint] of options) {
      const one = button(words, hint, () => this.set(name, value));
      this.all.push(() => one.setAttribute("aria-pressed", String(this.state[name] === value)));
      home.append(one);
    }
    return home;
  }
}

function helpLine(parts) {
  const line = el("p", { className: "muted help" });
  parts.forEach(([keys, does], i) => {
    line.append(el("kbd", { textContent: keys }), ` ${does}${i < parts.length - 1 ? "  ·  " : ""}`);
  });
  return line;
}

// A canvas of this size in CSS pixels, its pen scaled to the screen; cleared.
function penOf(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

function download(canvas, name) {
  canvas.toBlob((blob) => {
    const link = el("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }, "image/png");
}

// ---------------------------------------------------------------- colours

function rgb(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
}

// COLOURS times red, green, blue between stops that are equally far apart.
function mixed(stops) {
  const ends = stops.map(rgb);
  return Array.from({ length: COLOURS }, (_, i) => {
    const place = (i / (COLOURS - 1)) * (ends.length - 1);
    const low = Math.min(Math.floor(place), ends.length - 2);
    return [0, 1, 2].map((c) =>
      Math.round(ends[low][c] + (ends[low + 1][c] - ends[low][c]) * (place - low)));
  });
}

// Index of a value among the colours, and how strong it is from 0 to 1 of the limit.
function colourOf(value, limit, signed) {
  const share = Math.max(-1, Math.min(1, value / limit));
  const place = signed ? share / 2 + 0.5 : Math.max(0, share);
  return [Math.round(place * (COLOURS - 1)), Math.abs(share)];
}

// A bar from low to high with its numbers. paint(i): CSS colour of colour i, "" where hidden.
function colourBar(home, { limit, signed, ends }, paint) {
  const wide = 200;
  const canvas = el("canvas", { className: "colours" });
  const pen = penOf(canvas, wide, 12);
  for (let x = 0; x < wide; x++) {
    const colour = paint(Math.round((x / (wide - 1)) * (COLOURS - 1)));
    if (!colour) continue;
    pen.fillStyle = colour;
    pen.fillRect(x, 0, 1.5, 12);
  }
  const marks = signed ? [-limit, 0, limit] : [0, limit];
  const numbers = el("div", { className: "marks" },
    ...marks.map((value) => el("span", { textContent: significant(value, signed) })));
  const words = el("div", { className: "marks muted" },
    ...ends.map((word) => el("span", { textContent: word })));
  home.replaceChildren(canvas, numbers, ...(ends.some(Boolean) ? [words] : []));
}

// ---------------------------------------------------------------- words

function significant(value, signed = false) {
  const text = value === 0 ? "0" : String(Number(value.toPrecision(3)));
  return (signed && value > 0 ? "+" : "") + minus(text);
}

// A value of an overlay; what is too small for its colours is told as none.
function reading(value, { limit, signed }) {
  return significant(Math.abs(value) < limit / 1000 ? 0 : value, signed);
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

function fileName(...words) {
  return `${words.join(" ").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "")}.png`;
}
