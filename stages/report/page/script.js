"use strict";

// Text from the data set is only ever set as text or as an attribute's value, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function filterGallery() {
  const form = document.getElementById("filters");
  const cards = [...document.querySelectorAll("#cards .card")];
  const show = () => {
    const { outcome, label, disputed } = form.elements;
    let num = 0;
    for (const card of cards) {
      const fits = (!outcome.value || card.dataset.outcome === outcome.value)
        && (!label.value || card.dataset.label === label.value)
        && (!disputed.checked || card.dataset.disputed === "yes");
      card.hidden = !fits;
      num += fits;
    }
    document.getElementById("num-shown").textContent = `${num} shown`;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show(); // a browser that goes back keeps what was chosen
}

function copyFixes() {
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.dataset.text);
        button.textContent = "Copied";
      } catch {
        const range = document.createRange(); // no permission: mark the line, so that it can be copied by hand
        range.selectNodeContents(button.closest("li").querySelector(".fix"));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        button.textContent = "Marked below";
      }
    });
  }
}

function drawMap() {
  const { classes, points } = JSON.parse(document.getElementById("map-data").textContent);
  const svg = document.getElementById("points");
  const form = document.getElementById("map-controls");
  const note = document.getElementById("point");
  let chosen = -1;

  // Golden angle from blue on: neighbouring numbers get colours far apart, the first two also to the colour-blind.
  const colour = new Map(classes.map((name, number) => [name, `hsl(${(210 + number * 137.508) % 360} 65% 50%)`]));
  if (classes.length <= 20) {
    document.getElementById("map-legend").replaceChildren(...classes.map((name) => {
      const entry = document.createElement("span");
      entry.textContent = name;
      entry.style.setProperty("--dot", colour.get(name));
      return entry;
    }));
  }
  const circles = points.map((point, number) => {
    const circle = document.createElementNS(SVG, "circle");
    circle.setAttribute("r", point.split === "test" ? 0.95 : 0.7);
    circle.setAttribute("fill", colour.get(point.label) ?? "gray");
    circle.dataset.number = number;
    svg.append(circle);
    return circle;
  });

  const line = (text) => {
    const element = document.createElement("p");
    element.textContent = text;
    return element;
  };
  const choose = (number) => {
    if (number === chosen) return;
    circles[chosen]?.classList.remove("chosen");
    chosen = number;
    const point = points[number];
    circles[number].classList.add("chosen");
    const lines = [line(point.path), line(`is ${point.label}`), line(point.split === "test" ? `test: ${point.outcome}` : point.split)];
    if (point.picture) {
      const image = document.createElement("img");
      image.src = point.picture;
      image.alt = point.path;
      lines.unshift(image);
    }
    note.replaceChildren(...lines);
  };

  const place = () => {
    const first = Number(form.elements.projection.value);
    points.forEach((point, number) => {
      circles[number].setAttribute("cx", 100 * point.places[first]);
      circles[number].setAttribute("cy", 100 - 100 * point.places[first + 1]);
      const fits = (!form.elements.label.value || point.label === classes[Number(form.elements.label.value)])
        && (!form.elements.split.value || point.split === form.elements.split.value);
      circles[number].style.display = fits ? "" : "none";
    });
  };
  form.addEventListener("input", place);
  form.addEventListener("submit", (event) => event.preventDefault());
  svg.addEventListener("pointerover", (event) => {
    if (event.target.dataset.number !== undefined) choose(Number(event.target.dataset.number));
  });

  // The nearest image on the side that the arrow points to.
  const sides = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  svg.addEventListener("keydown", (event) => {
    const side = sides[event.key];
    if (!side || !points.length) return;
    event.preventDefault();
    const first = Number(form.elements.projection.value);
    const visible = points.map((_, number) => number).filter((number) => circles[number].style.display !== "none");
    if (!visible.includes(chosen)) {
      if (visible.length) choose(visible[0]);
      return;
    }
    const here = points[chosen].places;
    let best = -1;
    let least = Infinity;
    for (const number of visible) {
      const dx = points[number].places[first] - here[first];
      const dy = points[number].places[first + 1] - here[first + 1];
      const along = dx * side[0] + dy * side[1];
      const across = Math.abs(dx * side[1]) + Math.abs(dy * side[0]);
      if (number !== chosen && along > 0 && along >= across && along + across < least) {
        least = along + across;
        best = number;
      }
    }
    if (best >= 0) choose(best);
  });
  place();
}

filterGallery();
copyFixes();
drawMap();
