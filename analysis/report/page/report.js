"use strict";
const places = [...document.querySelectorAll("[data-plot]")];
const announcement = document.getElementById("announcement");
const config = {
  displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"],
  showSendToCloud: false, plotlyServerURL: "",  // nothing leaves this page
};

// Colours: the page's own, and those of curves made as light as they must be to be seen on it.
const dark = matchMedia("(prefers-color-scheme: dark)");
const color = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const channels = hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16) / 255);
function luminance(rgb) {  // relative, as WCAG defines it
  const [r, g, b] = rgb.map(c => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function visible(hex) {
  if (!dark.matches || !/^#[0-9a-f]{6}$/i.test(hex ?? "")) return hex;
  const ground = luminance(channels(color("paper")));
  let rgb = channels(hex);
  if (Math.max(...rgb) < 0.15) return color("ink");  // black is the colour of what is no category
  while ((luminance(rgb) + 0.05) / (ground + 0.05) < 4.5) rgb = rgb.map(c => c + 0.08 * (1 - c));
  return "#" + rgb.map(c => Math.round(c * 255).toString(16).padStart(2, "0")).join("");
}

function look({data, layout}) {
  const axis = {
    automargin: true, gridcolor: color("rule"), linecolor: color("soft"), zeroline: false, ticks: "outside",
    tickcolor: color("tick"), exponentformat: "power",
  };
  const onSquares = data.some(trace => trace.type === "heatmap");
  return [
    data.map(trace => (trace.line ? {...trace, line: {...trace.line, color: visible(trace.line.color)}} : {...trace})),
    {
      font: {family: 'system-ui, "Segoe UI", Helvetica, Arial, sans-serif', size: 12, color: color("ink")},
      margin: {l: 56, r: 12, t: 34, b: 12}, hovermode: "closest",
      paper_bgcolor: color("paper"), plot_bgcolor: color("paper"),
      modebar: {bgcolor: "rgba(0,0,0,0)", color: color("soft"), activecolor: color("accent")},
      ...layout,
      legend: {orientation: "h", x: 0, y: -0.2, yanchor: "top", ...layout.legend},
      ...Object.fromEntries(Object.keys(layout).filter(name => /^[xy]axis/.test(name)).map(
        name => [name, {...axis, ...layout[name]}],
      )),
      annotations: (layout.annotations ?? []).map(text => (
        text.font && !onSquares ? {...text, font: {...text.font, color: visible(text.font.color)}} : {...text}
      )),
    },
  ];
}

const described = place => JSON.parse(document.getElementById(place.dataset.plot).textContent);
const draw = place => Plotly.react(place, ...look(described(place)), config);

// A figure is drawn when it comes near, so that a page of a hundred opens at once.
const near = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    draw(target);
  }
}, {rootMargin: "800px"});
places.forEach(place => near.observe(place));
dark.addEventListener("change", () => places.filter(place => place.data).forEach(draw));

// By keyboard: along a curve, from curve to curve, hide it, return.
function steer(place) {
  let curve = 0, point = -1;
  const size = trace => (trace.type === "heatmap" ? trace.z.length * trace.z[0].length : trace.x.length);
  function show(trace) {
    const isGrid = trace.type === "heatmap", columns = isGrid ? trace.z[0].length : 1;
    const [row, column] = [Math.floor(point / columns), point % columns];
    const [x, y] = [trace.xaxis ?? "x", trace.yaxis ?? "y"];  // of its panel
    Plotly.Fx.hover(place, [{curveNumber: curve, pointNumber: isGrid ? [row, column] : point}], x + y);
    const text = value => (typeof value === "number" ? Number(value.toPrecision(4)).toString() : value ?? "none");
    const called = (value, axis) => {  // as the axis does, where it has a tick there
      const i = (axis.tickvals ?? []).findIndex(tick => Math.abs(tick - value) < 1e-6);
      return i < 0 ? text(value) : axis.ticktext[i];
    };
    const layout = described(place).layout;
    const [xaxis, yaxis] = [layout[`xaxis${x.slice(1)}`], layout[`yaxis${y.slice(1)}`]];
    const across = trace.customdata ? text(trace.customdata[point]) : isGrid ? "" : called(trace.x[point], xaxis);
    const middle = (edges, i, axis) => (
      axis.type === "log" ? Math.sqrt(edges[i] * edges[i + 1]) : (edges[i] + edges[i + 1]) / 2
    );
    announcement.textContent = isGrid
      ? `${text(trace.z[row][column])} at ${[
        called(middle(trace.x, column, xaxis), xaxis), called(middle(trace.y, row, yaxis), yaxis),
      ].join(", ")}`
      : `${trace.name ? `${trace.name}: ` : ""}${called(trace.y[point], yaxis)} at ${across}`;
  }
  const isShown = trace => size(trace) > 0 && (trace.visible ?? true) === true;
  function turn(by) {  // to the next curve that has points and is shown
    const count = place.data.length;
    for (let i = 1; i <= count; i++) {
      const next = (curve + by * i + count * i) % count;
      if (isShown(place.data[next])) { curve = next; return; }
    }
  }
  place.addEventListener("keydown", event => {
    // Plotly's buttons are within the figure and have keys of their own
    if (event.target !== place || !place.data?.length || event.ctrlKey || event.altKey || event.metaKey) return;
    const along = {ArrowRight: 1, ArrowLeft: -1}[event.key], across = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (along) {
      if (!isShown(place.data[curve])) turn(1);
      const last = size(place.data[curve]) - 1;
      point = Math.min(last, Math.max(0, point + along));
    } else if (across) {
      turn(across);
      point = Math.min(Math.max(point, 0), size(place.data[curve]) - 1);
    } else if (event.key === "Enter") {
      const shown = (place.data[curve].visible ?? true) === true;
      Plotly.restyle(place, {visible: shown ? "legendonly" : true}, [curve]);
      announcement.textContent = `${place.data[curve].name || "the curve"} ${shown ? "hidden" : "shown"}`;
    } else if (event.key === "Escape") {
      point = -1;
      draw(place);
      Plotly.Fx.unhover(place);
    } else return;
    event.preventDefault();
    if ((along || across) && isShown(place.data[curve])) show(place.data[curve]);
  });
  place.addEventListener("blur", () => place.data && Plotly.Fx.unhover(place));
}
places.forEach(steer);

// Contents: closed on small screens until asked for; the sweep in view is marked.
const contents = document.querySelector("nav details");
if (contents) {
  const wide = matchMedia("(min-width: 1100px)");
  const open = () => { contents.open = wide.matches; };
  wide.addEventListener("change", open);
  open();
  const links = new Map([...contents.querySelectorAll(":scope > ul > li > a")].map(a => [decodeURIComponent(a.hash.slice(1)), a]));
  contents.addEventListener("click", event => { if (event.target.closest("a") && !wide.matches) contents.open = false; });
  const inView = new IntersectionObserver(entries => {
    for (const {target, isIntersecting} of entries) {
      const link = links.get(target.id);
      if (!isIntersecting) link?.removeAttribute("aria-current");
      else link?.setAttribute("aria-current", "location");
    }
  }, {rootMargin: "-20% 0px -75% 0px"});
  document.querySelectorAll("main > section").forEach(section => inView.observe(section));
}

// On paper the figures are the files that a paper would take.
addEventListener("beforeprint", () => {
  for (const place of places) {
    const figure = place.closest("figure");
    if (figure.querySelector(".twin")) continue;
    const twin = document.createElement("img");
    twin.className = "twin";
    twin.alt = place.getAttribute("aria-label");
    twin.src = figure.querySelector("a[download$='.svg']").href;
    place.after(twin);
  }
});
