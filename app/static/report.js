// Draws the figures of a report, each from the data beside it.
for (const data of document.querySelectorAll("script[data-figure]")) {
  const place = document.getElementById(data.dataset.figure);
  const { data: traces, layout } = JSON.parse(data.textContent);
  Plotly.newPlot(place, traces, layout, { displayModeBar: false, responsive: false }).then(
    () => place.classList.add("drawn"),
    (error) => {
      place.textContent = `This figure could not be drawn: ${error.message}`;
    },
  );
}
