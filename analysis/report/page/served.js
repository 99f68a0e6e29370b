// Loads the page again when a newer one was drawn, but not while someone reads a figure.
const served = document.getElementById("served");
setInterval(async () => {
  try {
    const newest = await (await fetch("version", {cache: "no-store"})).text();
    if (newest === served.dataset.version) return;
    if (document.querySelector("figure:hover, figure :focus-visible")) {
      served.textContent = "A newer page was drawn. It is loaded when the pointer leaves the figure.";
    } else location.reload();
  } catch {
    served.textContent = "memsweep report --watch has ended: this page stays as it is.";
  }
}, 2000);
