"use strict";
/* What the figures are made of. Text goes in as text always, never as markup. */
const plan = JSON.parse(document.getElementById("data").textContent);
const LEFT = 62;  // of a figure, for the names of its rows
const colour = (n) => `var(--c${n % 7})`;
const byId = (id) => document.getElementById(id);
const round = (value, digits = 4) => value.toLocaleString("en", { maximumSignificantDigits: digits });
const short = (value) =>
  value.toLocaleString("en", { notation: "compact", compactDisplay: "long", maximumSignificantDigits: 4 });
const percent = (share) => `${(share * 100).toFixed(1)} %`;
const whole = (value) => value.toLocaleString("en");
const gib = (size) => (size === 0 || size >= 0.1 ? `${round(size)} GiB` : `${round(size * 1024)} MiB`);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function make(name, attributes = {}, text = null) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

function shape(name, attributes, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

function picture(where, width, height, label) {
  const svg = shape("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label,
  });
  byId(where).replaceChildren(svg);
  return svg;
}

/* A mark with a tooltip. The first of a figure is a tab stop, arrows lead on to the others. */
function mark(svg, name, attributes, tip) {
  const tabindex = svg.querySelector("[data-tip]") ? -1 : 0;
  svg.appendChild(shape(name, {
    ...attributes, "data-tip": tip, "aria-label": tip, role: "img", tabindex,
  }));
}

function bytes(size) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; size >= 1000 && unit < units.length - 1; unit += 1) size /= 1000;
  return `${round(size)} ${units[unit]}`;
}

function legend(where, names) {
  byId(where).replaceChildren(...names.map(([name, paint]) => {
    const item = make("span");
    if (paint) item.appendChild(make("i", { style: `background:${paint}` }));
    item.appendChild(document.createTextNode(name));
    return item;
  }));
}

/* `numbers` are the columns set to the right; `kind` gives the class of a row. */
function table(where, headings, rows, numbers, kind = () => "") {
  const style = (place) => (numbers.includes(place) ? { class: "number" } : {});
  const element = make("table");
  const head = element.appendChild(make("thead")).appendChild(make("tr"));
  headings.forEach((name, place) => {
    head.appendChild(make("th", { ...style(place), scope: "col" }, name));
  });
  const body = element.appendChild(make("tbody"));
  rows.forEach((row, number) => {
    const line = body.appendChild(make("tr", { class: kind(row, number) }));
    row.forEach((cell, place) => line.appendChild(make("td", style(place), String(cell))));
  });
  byId(where).replaceChildren(element);
}

/* Round values between two others, about `count` of them; 1, 2, 5, 10 where they lie far apart. */
function ticks(low, high, count, logarithmic = false) {
  const found = [];
  if (logarithmic && high / low > 6) {
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
      found.push(...[1, 2, 5].map((digit) => digit * 10 ** power));
    }
    return found.filter((value) => value >= low && value <= high);
  }
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((digit) => digit * power >= rough) * power;
  const first = Math.ceil(low / step - 1e-9);
  for (let n = first; n * step <= high * (1 + 1e-9); n += 1) found.push(Number((n * step).toPrecision(9)));
  return found;
}

function showTip(text, x, top, bottom) {
  const tip = byId("tip");
  tip.textContent = text;
  tip.hidden = false;
  const own = tip.getBoundingClientRect();
  tip.style.left = `${clamp(x + 12, 8, Math.max(8, document.documentElement.clientWidth - own.width - 8))}px`;
  tip.style.top = `${top - own.height - 8 > 0 ? top - own.height - 8 : bottom + 8}px`;
}
const hideTip = () => { byId("tip").hidden = true; };

function tips() {
  const show = (event) => {
    const marked = event.target.closest("[data-tip]");
    if (!marked) return event.target.id === "passes" || hideTip();
    const box = marked.getBoundingClientRect();
    return showTip(marked.getAttribute("data-tip"), event.clientX ?? box.left, box.top, box.bottom);
  };
  const step = (event) => {
    if (event.key === "Escape") hideTip();
    const forward = ["ArrowRight", "ArrowDown"].includes(event.key);
    if (!event.target.matches("[data-tip]") || !(forward || ["ArrowLeft", "ArrowUp"].includes(event.key))) return;
    const marks = [...event.target.closest("svg").querySelectorAll("[data-tip]")];
    marks[marks.indexOf(event.target) + (forward ? 1 : -1)]?.focus();
    event.preventDefault();
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("focusin", show);
  document.addEventListener("focusout", hideTip);
  document.addEventListener("keydown", step);
}
