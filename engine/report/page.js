// Draws the figures of a report in the colours of the reader's theme, and in light ones for print.
(() => {
  const read = (name) => JSON.parse(document.getElementById(name).textContent);
  const colours = read("colours"), figures = read("figures");
  const dark = matchMedia("(prefers-color-scheme: dark)"), onPaper = matchMedia("print");
  const PAPER_WIDTH = 680;  // of an A4 page without its margins, in CSS pixels
  let printing = onPaper.matches;

  const coloured = (value, palette) => {
    if (typeof value === "string") return value in palette ? palette[value] : value;
    if (Array.isArray(value)) return value.map((item) => coloured(item, palette));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, palette)]));
    return value;
  };

  const draw = () => {
    const palette = colours[dark.matches && !printing ? "dark" : "light"];
    for (const figure of figures) {
      const place = document.getElementById(figure.id);
      const layout = coloured(figure.layout, palette), narrow = place.clientWidth < 480 && !printing;
      if (printing) layout.width = Math.round(PAPER_WIDTH * (figure.share || 1));
      if (narrow && figure.bottom) {
        layout.height -= layout.margin.b - figure.bottom;
        layout.margin.b = figure.bottom;
      }
      place.style.height = layout.height + "px";
      Plotly.react(place, coloured(figure.data, palette), layout, {
        responsive: true, displaylogo: false, scrollZoom: false, displayModeBar: narrow || printing ? false : "hover",
        modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
        toImageButtonOptions: { scale: 2, filename: figure.id },
      });
    }
  };

  const print = (now) => { if (now !== printing) { printing = now; draw(); } };
  if (window.Plotly && figures.length) {
    document.documentElement.classList.add("drawn");
    for (const numbers of document.querySelectorAll("details.numbers")) numbers.open = false;
    draw();
    dark.addEventListener("change", draw);
    onPaper.addEventListener("change", (event) => print(event.matches));
    addEventListener("beforeprint", () => print(true));
    addEventListener("afterprint", () => print(false));
  }

  // The first and the last picture of each seed, one over the other; the slider says how much of the last is seen.
  for (const slider of document.querySelectorAll("input.reveal")) {
    const gallery = slider.closest("section").querySelector(".gallery"), control = slider.closest(".control");
    const over = control.querySelector("input[type=checkbox]");
    const show = () => {
      gallery.classList.toggle("over", over.checked);
      slider.disabled = !over.checked;
      gallery.style.setProperty("--reveal", 100 - slider.value + "%");
    };
    for (const input of [slider, over]) input.addEventListener("input", show);
    control.hidden = false;
    show();
  }
})();
