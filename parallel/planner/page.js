"use strict";
const plan = JSON.parse(document.getElementById("data").textContent);
const colour = (n) => `var(--c${n % 7})`;
const byId = (id) => document.getElementById(id);
const round = (value, digits = 3) => Number(value.toPrecision(digits)).toLocaleString("en");

/* Elements and SVG, text always as text, never as markup. */
function make(name, attributes = {}, text = null, svg = false) {
  const element = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}
const shape = (name, attributes, text = null) => make(name, attributes, text, true);
function picture(width, height, label) {
  return shape("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label,
  });
}
function tell(element, text) {
  element.setAttribute("data-tip", text);
  element.setAttribute("aria-label", text);
  return element;
}

function bytes(size) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 1000 || unit === "GB") return `${round(size, 4)} ${unit}`;
    size /= 1000;
  }
}

function table(where, headings, rows, numbers) {
  const element = make("table");
  const head = element.appendChild(make("thead")).appendChild(make("tr"));
  headings.forEach((heading, place) => {
    head.appendChild(make("th", numbers.includes(place) ? { class: "number" } : {}, heading));
  });
  const body = element.appendChild(make("tbody"));
  for (const row of rows) {
    const line = body.appendChild(make("tr"));
    row.forEach((cell, place) => {
      line.appendChild(make("td", numbers.includes(place) ? { class: "number" } : {}, String(cell)));
    });
  }
  byId(where).appendChild(element);
}

function heading() {
  const layout = plan.layout;
  byId("title").textContent = `${plan.model} on ${plan.world_size.toLocaleString("en")} × ${plan.gpu}`;
  document.title = `Plan: ${plan.model}, ${plan.layout_name}`;
  byId("subtitle").textContent =
    `layout ${plan.layout_name}: tensor ${layout.tensor} × pipeline ${layout.pipeline} × interleave ` +
    `${layout.interleave} × data ${layout.data}, micro-batch ${layout.micro_batch}, ZeRO ${layout.zero}, ` +
    `recompute ${layout.recompute}${layout.sequence_parallel ? ", sequence parallel" : ""}; ` +
    `${plan.engine}, ${plan.precision}`;
  const peak = plan.memory_gib.peak, limit = plan.memory_gib.limit;
  byId("verdict").textContent =
    `${plan.fits ? "Fits" : "Does not fit"}: ${round(peak)} of ${round(limit)} GiB on stage ` +
    `${plan.memory_gib.fullest_stage}`;
  byId("verdict").classList.toggle("bad", !plan.fits);
  const numbers = {
    "step": `${round(plan.step_time_s)} s`,
    "TFLOPS a rank": round(plan.tflops_per_gpu),
    "MFU": `${round(plan.mfu * 100)} %`,
    "bubble": `${round(plan.bubble_fraction * 100)} %`,
    "tokens a second": round(plan.tokens_per_s),
    "days": round(plan.days),
    "rank-hours": round(plan.gpu_hours),
    "dollars": plan.dollars === null ? "no price given" : `$${round(plan.dollars)}`,
  };
  for (const [name, value] of Object.entries(numbers)) {
    const box = byId("numbers").appendChild(make("div"));
    box.appendChild(make("dt", {}, name));
    box.appendChild(make("dd", {}, value));
  }
  byId("basis").textContent = `Constants: ${plan.calibration.basis}.`;
}

/* One data rank is drawn, a row a stage and a column a tensor rank; the others are like it. */
function ranks() {
  const { tensor, pipeline, data } = plan.layout;
  byId("ranks-note").textContent =
    `A row is a stage, a column a tensor rank; drawn is data rank 0` +
    (data > 1 ? `, and ${data - 1} more ${data > 2 ? "are" : "is"} like it.` : ".");
  const width = Math.max(18, Math.min(64, Math.floor(640 / tensor))), height = 20, left = 64;
  const svg = picture(left + tensor * width + 4, pipeline * height + 22, "ranks by stage");
  for (let t = 0; t < tensor; t += 1) {
    svg.appendChild(shape("text", { x: left + t * width + width / 2, y: 12, class: "soft", "text-anchor": "middle" }, t));
  }
  for (let p = 0; p < pipeline; p += 1) {
    svg.appendChild(shape("text", { x: 0, y: p * height + 34, class: "soft" }, `stage ${p}`));
    for (let t = 0; t < tensor; t += 1) {
      const rank = t + tensor * data * p;
      const cell = shape("rect", {
        x: left + t * width, y: p * height + 20, width: width - 2, height: height - 2, rx: 2,
        fill: colour(p % 6), class: "cell", tabindex: t === 0 ? 0 : -1,
      });
      tell(cell,
        `rank ${rank}: tensor ${t}, pipeline ${p}, data 0\nlayers ${plan.layers[p]}\n` +
        `${plan.parameters.per_rank[p].toLocaleString("en")} parameters\n` +
        `${round(plan.memory_gib.stages[p].total, 4)} GiB`);
      svg.appendChild(cell);
    }
  }
  byId("ranks").appendChild(svg);
}

function legend(where, names) {
  const list = byId(where).appendChild(make("div", { class: "legend" }));
  names.forEach(([name, paint]) => {
    const item = list.appendChild(make("span"));
    item.appendChild(make("i", { style: `background:${paint}` }));
    item.appendChild(document.createTextNode(name));
  });
}

function memory() {
  const stages = plan.memory_gib.stages;
  const names = Object.keys(stages[0]).filter((name) => name !== "total");
  legend("memory", names.map((name, n) => [name, colour(n)]));
  const width = Math.min(1100, document.documentElement.clientWidth - 40);
  const left = 64, right = 62, row = 24, room = width - left - right;
  const svg = picture(width, stages.length * row + 24, "memory of a rank by stage and category");
  const limit = plan.memory_gib.limit;
  const most = Math.max(...stages.map((stage) => stage.total));
  const end = Math.max(most, Math.min(limit, most * 4)) * 1.02;
  stages.forEach((stage, p) => {
    const y = p * row + 2;
    svg.appendChild(shape("text", { x: 0, y: y + 14, class: "soft" }, `stage ${p}`));
    let x = left;
    names.forEach((name, n) => {
      const long = (stage[name] / end) * room;
      if (long <= 0) return;
      const bar = shape("rect", { x, y, width: long, height: row - 5, fill: colour(n), class: "bar", tabindex: -1 });
      tell(bar, `stage ${p}, ${name}: ${round(stage[name], 4)} GiB`);
      svg.appendChild(bar);
      x += long;
    });
    svg.appendChild(shape("text", { x: x + 5, y: y + 14 }, round(stage.total)));
  });
  if (limit <= end) {
    const x = left + (limit / end) * room;
    svg.appendChild(shape("line", { x1: x, x2: x, y1: 0, y2: stages.length * row, class: "limit" }));
    svg.appendChild(shape("text", { x, y: stages.length * row + 16, "text-anchor": "middle" }, `${round(limit)} GiB`));
  } else {
    svg.appendChild(shape("text", { x: left, y: stages.length * row + 16, class: "soft" },
      `the limit, ${round(limit)} GiB, is beyond the right edge`));
  }
  byId("memory").appendChild(svg);
}

function schedule() {
  const { events, micro_batches: drawn, seconds } = plan.timeline;
  byId("schedule-note").textContent =
    `${drawn} of ${plan.micro_batches} micro-batches, ${round(seconds)} s; light where a stage is idle.`;
  legend("schedule-note", [["forward", "var(--c0)"], ["backward", "var(--c1)"], ["idle", "var(--idle)"]]);
  const row = 22, left = 64;
  const shortest = Math.min(...events.flat().map(([, , , begin, end]) => end - begin));
  const visible = document.documentElement.clientWidth - 60;
  const scale = Math.min(Math.max(visible / seconds, 9 / shortest), 12000 / seconds);
  const svg = picture(left + seconds * scale + 4, events.length * row + 4, "schedule of the pipeline");
  events.forEach((passes, stage) => {
    const y = stage * row + 2;
    svg.appendChild(shape("text", { x: 0, y: y + 14, class: "soft" }, `stage ${stage}`));
    svg.appendChild(shape("rect", { x: left, y, width: seconds * scale, height: row - 4, fill: "var(--idle)" }));
    for (const [forward, chunk, microBatch, begin, end] of passes) {
      const long = Math.max((end - begin) * scale - 0.6, 0.6);
      const pass = shape("rect", {
        x: left + begin * scale, y, width: long, height: row - 4, class: "pass",
        fill: forward ? "var(--c0)" : "var(--c1)", "fill-opacity": 1 - 0.18 * (chunk % 4),
      });
      tell(pass, `stage ${stage}, chunk ${chunk}: micro-batch ${microBatch} ${forward ? "forward" : "backward"}\n` +
        `${round(begin)} to ${round(end)} s`);
      svg.appendChild(pass);
      if (long > 18) {
        svg.appendChild(shape("text", {
          x: left + begin * scale + long / 2, y: y + 13, "text-anchor": "middle",
          style: "fill:#fff;pointer-events:none;font-size:10px",
        }, microBatch));
      }
    }
  });
  byId("schedule").appendChild(svg);
}

const layoutName = (each) => {
  const l = each.layout;
  return `${l.tensor}x${l.pipeline}x${l.interleave}x${l.data} micro-batch ${l.micro_batch}, ZeRO ${l.zero}, ` +
    `recompute ${l.recompute}${l.sequence_parallel ? ", sequence parallel" : ""}`;
};

function search() {
  const found = plan.search;
  if (!found) return;
  byId("search-section").hidden = false;
  byId("search-note").textContent =
    `${found.tried.toLocaleString("en")} layouts tried, ${found.valid.toLocaleString("en")} valid, ` +
    `${found.fit.toLocaleString("en")} fit into ${round(found.limit_gib)} GiB.`;
  const width = Math.min(1100, document.documentElement.clientWidth - 40), height = 320;
  const left = 60, bottom = 40, top = 10, right = 16;
  const svg = picture(width, height, "memory against the time of a step");
  const all = [...found.front, ...found.best];
  const memories = [...all.map((each) => each.memory_gib), found.limit_gib];
  const times = all.map((each) => each.step_time_s);
  const log = (value, values, from, to) => {
    const low = Math.log(Math.min(...values) * 0.9), high = Math.log(Math.max(...values) * 1.1);
    return from + ((Math.log(value) - low) / (high - low)) * (to - from);
  };
  const x = (each) => log(each.memory_gib, memories, left, width - right);
  const y = (each) => log(each.step_time_s, times, height - bottom, top);
  const axes = { x1: left, y1: height - bottom, class: "axis" };
  svg.appendChild(shape("line", { ...axes, x2: width - right, y2: height - bottom }));
  svg.appendChild(shape("line", { ...axes, x2: left, y2: top }));
  svg.appendChild(shape("text", { x: width - right, y: height - 8, "text-anchor": "end", class: "soft" }, "GiB of a rank (logarithmic)"));
  svg.appendChild(shape("text", { x: left + 6, y: top + 10, class: "soft" }, "seconds a step (logarithmic)"));
  for (const end of [Math.min, Math.max]) {
    const time = end(...times), size = end(...memories);
    svg.appendChild(shape("text", { x: left - 6, y: log(time, times, height - bottom, top) + 4, "text-anchor": "end" }, round(time)));
    svg.appendChild(shape("text", { x: log(size, memories, left, width - right), y: height - bottom + 16, "text-anchor": "middle" }, round(size)));
  }
  const limit = log(found.limit_gib, memories, left, width - right);
  svg.appendChild(shape("line", { x1: limit, x2: limit, y1: top, y2: height - bottom, class: "limit" }));
  svg.appendChild(shape("polyline", { points: found.front.map((each) => `${x(each)},${y(each)}`).join(" "), class: "frontline" }));
  found.front.forEach((each) => {
    svg.appendChild(tell(shape("circle", { cx: x(each), cy: y(each), r: 4.5, fill: "var(--c0)", class: "point front", tabindex: -1 }),
      `${layoutName(each)}\n${round(each.step_time_s)} s, ${round(each.memory_gib)} GiB`));
  });
  [...found.best.entries()].reverse().forEach(([place, each]) => {  // the first drawn on top
    const kind = place === 0 ? "point winner" : "point";
    svg.appendChild(tell(shape("circle", { cx: x(each), cy: y(each), r: place === 0 ? 7 : 4.5, fill: "var(--c3)", class: kind, tabindex: -1 }),
      `${place === 0 ? "the fastest that fits: " : ""}${layoutName(each)}\n${round(each.step_time_s)} s, ${round(each.memory_gib)} GiB`));
  });
  byId("front").appendChild(svg);
  legend("front", [["Pareto front", "var(--c0)"], ["the fastest that fit, the first outlined", "var(--c3)"], ["limit", "var(--bad)"]]);
  table("best", ["layout", "step s", "GiB"],
    found.best.map((each) => [layoutName(each), round(each.step_time_s, 4), round(each.memory_gib, 4)]), [1, 2]);
}

function traffic() {
  const last = plan.layout.pipeline - 1;
  const shown = [0, Math.floor((last + 1) / 2), last];
  byId("traffic-note").textContent = last > 2 ? `Stages ${shown.join(", ")}.` : "";
  table("traffic", ["stage", "group", "collective", "link", "time", "count", "bytes"],
    plan.collectives.filter((each) => shown.includes(each.stage)).map((each) => [each.stage, each.group, each.kind, each.link,
      each.overlapped ? "hidden" : "exposed", each.count.toLocaleString("en"), bytes(each.bytes)]), [0, 5, 6]);
}

function trace() {
  if (!plan.trace) return;
  byId("trace-section").hidden = false;
  const rows = [];
  for (const rank of plan.trace) {
    const add = (what, mine, its) => rows.push([rank.rank, rank.stage, what, mine.toLocaleString("en"), its.toLocaleString("en"),
      mine === its ? "same" : `${round((mine / its - 1) * 100)} %`]);
    add("parameters", plan.parameters.per_rank[rank.stage], rank.parameters);
    const stage = plan.memory_gib.stages[rank.stage];
    add("peak memory, MiB", Math.round((stage.total - stage.framework) * 1024), Math.round(rank.peak_gib * 1024));
    for (const seen of rank.collectives) {
      const told = plan.collectives.find((each) => each.stage === rank.stage && each.group === seen.group && each.kind === seen.kind);
      add(`${seen.group} ${seen.kind}, count`, told ? told.count : 0, seen.count);
      add(`${seen.group} ${seen.kind}, bytes`, told ? told.bytes : 0, seen.bytes);
    }
  }
  table("trace", ["rank", "stage", "what", "plan", "trace", "difference"], rows, [0, 1, 3, 4, 5]);
}

function tips() {
  const tip = byId("tip");
  const show = (event) => {
    const marked = event.target.closest("[data-tip]");
    if (!marked) return hide();
    tip.textContent = marked.getAttribute("data-tip");
    tip.hidden = false;
    const box = marked.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const x = Math.min(Math.max(8, (event.clientX ?? box.left) + 12), innerWidth - own.width - 8);
    const above = box.top - own.height - 8;
    tip.style.left = `${x}px`;
    tip.style.top = `${above > 0 ? above : box.bottom + 8}px`;
  };
  const hide = () => { tip.hidden = true; };
  document.addEventListener("pointerover", show);
  document.addEventListener("focusin", show);
  document.addEventListener("focusout", hide);
}

for (const draw of [heading, ranks, memory, schedule, search, traffic, trace, tips]) draw();
