// Saves the chart drawn beside this component. Plotly draws the file itself, in this browser:
// its own image button reads the wanted format from the chart's settings when it is pressed.
export default function ({ parentElement, data }) {
  const home = parentElement.querySelector(".images");
  home.replaceChildren();
  for (const format of ["png", "svg"]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = format.toUpperCase();
    button.setAttribute("aria-label", `Download this figure as ${format.toUpperCase()}`);
    button.onclick = () => save(data.chart, format);
    home.append(button);
  }
}

function save(chart, format) {
  const plot = document.querySelector(`.st-key-${CSS.escape(chart)} .js-plotly-plot`);
  const camera = plot?.querySelector(".modebar-btn");
  if (!camera) return;
  const options = plot._context.toImageButtonOptions;
  const before = options.format;
  options.format = format;
  camera.click();
  options.format = before;
}
