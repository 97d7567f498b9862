// What the timeline and the attention matrix share: a canvas with a tip, a legend and a voice for
// screen readers, kept over reruns. Put before the script of each.

const settings = new Map();
const INK = "#1B2733";
const MUTED = "#5F6B77";

function mount(View, name, { parentElement, data, setStateValue }) {
  const root = parentElement.querySelector(name);
  if (!root.view) root.view = new View(root);
  root.view.send = (value) => setStateValue("picked", value);
  root.view.give(data);
  return () => root.view.end();
}

// A view gives build, fit (its root changed size), move, point, press, release, everything, type, paint.
class Picture {
  constructor(root) {
    this.root = root;
    this.hover = null;
    this.drag = null;
    this.build();
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(root);
    root.where = (...place) => this.where(...place);
  }

  end() {
    this.watch.disconnect();
    this.root.view = undefined;
    this.root.replaceChildren();
  }

  stage() {
    const { root } = this;
    this.plot = add(root, "div", "plot");
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "application");
    this.canvas = add(this.plot, "canvas");
    this.tip = add(this.plot, "div", "tip");
    this.tip.hidden = true;
    this.legend = add(root, "div", "legend");
    this.spoken = add(root, "div", "spoken");
    this.spoken.setAttribute("aria-live", "polite");
    const { plot } = this;
    plot.onpointermove = (e) => this.move(e);
    plot.onpointerleave = () => { if (!this.drag) this.point(null); };
    plot.onpointerdown = (e) => this.press(e);
    plot.onpointerup = (e) => this.release(e);
    plot.onpointercancel = () => { this.drag = null; this.draw(); };
    plot.ondblclick = () => this.everything();
    plot.onkeydown = (e) => this.type(e);
    plot.onblur = () => this.point(null);
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      if (this.content) this.paint();
    });
  }

  pen() {
    const ratio = window.devicePixelRatio || 1;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    pen.textBaseline = "middle";
    return pen;
  }
}

function add(home, tag, name = "", text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  home.append(element);
  return element;
}
