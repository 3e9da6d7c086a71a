/* A row a stage, in it the data ranks side by side, each of its tensor ranks. */
function ranks() {
  const { tensor, pipeline, data } = plan.layout;
  const copies = clamp(Math.floor(64 / tensor), 1, data);
  const part = copies > 1 ? `data ranks 0 to ${copies - 1} of ${whole(data)} are` : `data rank 0 of ${whole(data)} is`;
  byId("ranks-note").textContent =
    `A row is a stage; in it stand the data ranks side by side, each of ${tensor} tensor ` +
    `rank${tensor > 1 ? "s" : ""}.${copies < data ? ` Only ${part} drawn: the others stand alike.` : ""}`;
  const row = pipeline > 32 ? 13 : 20, top = 20, gap = copies > 1 ? 6 : 0;
  const names = plan.layers.map((text) => (text.length > 34 ? `${text.slice(0, 32)}…` : text));
  const right = 64 + 7 * Math.max(...names.map((name) => name.length));
  const room = byId("ranks").clientWidth - LEFT - right - copies * gap;
  const cell = clamp(room / copies / tensor, 9, 44);
  const wide = tensor * cell + gap;
  const svg = picture("ranks", Math.ceil(LEFT + copies * wide + right), pipeline * row + top, "ranks by stage");
  for (let d = 0; d < copies; d += 1) {
    if (wide < 18 && d % 4) continue;
    svg.appendChild(shape("text", {
      x: LEFT + d * wide + (wide - gap) / 2, y: 12, class: "soft", "text-anchor": "middle",
    }, wide < 50 ? d : `data ${d}`));
  }
  const kind = row < 16 ? "soft small" : "soft";
  for (let p = 0; p < pipeline; p += 1) {
    const y = top + p * row;
    svg.appendChild(shape("text", { x: 0, y: y + row / 2 + 3, class: kind }, `stage ${p}`));
    for (let d = 0; d < copies; d += 1) {
      for (let t = 0; t < tensor; t += 1) {
        mark(svg, "rect", {
          x: LEFT + d * wide + t * cell, y, width: cell, height: row - 2, rx: 2, class: "cell",
          fill: `hsl(${Math.round(212 + (270 * p) / pipeline)} 48% var(--stage-light))`,
        }, rankTip(p, d, t));
      }
    }
    svg.appendChild(shape("text", {
      x: LEFT + copies * wide + 8, y: y + row / 2 + 3, class: kind,
    }, `layers ${names[p]}`));
  }
}

function rankTip(p, d, t) {
  const { tensor, data } = plan.layout;
  const rank = t + tensor * (d + data * p), node = plan.gpus_per_node;
  return `rank ${rank}: tensor ${t}, pipeline ${p}, data ${d}\n` +
    `node ${Math.floor(rank / node)}, its rank ${rank % node}\nlayers ${plan.layers[p]}\n` +
    `${whole(plan.parameters.per_rank[p])} parameters\n${gib(plan.memory_gib.stages[p].total)}`;
}

function memory() {
  const { stages, limit } = plan.memory_gib;
  const names = Object.keys(stages[0]).filter((name) => name !== "total");
  legend("memory-legend", names.map((name, n) => [name, colour(n)]));
  const width = byId("memory").clientWidth, right = 76, room = width - LEFT - right;
  const row = stages.length > 32 ? 15 : 24, bottom = stages.length * row;
  const svg = picture("memory", width, bottom + 24, "memory of a rank by stage and category");
  // Where the limit is far off, bars that can be told apart matter more than its true place.
  const most = Math.max(...stages.map((stage) => stage.total));
  const end = Math.max(most, Math.min(limit, most * 20)) * 1.01, beyond = limit > end;
  stages.forEach((stage, p) => {
    const y = p * row + 2, middle = y + row / 2 + 2;
    svg.appendChild(shape("text", { x: 0, y: middle, class: "soft" }, `stage ${p}`));
    let x = LEFT;
    names.forEach((name, n) => {
      const long = (stage[name] / end) * room;
      if (long <= 0) return;
      mark(svg, "rect", { x, y, width: long, height: row - 4, fill: colour(n), class: "bar" },
        `stage ${p}, ${name}: ${gib(stage[name])}\nof ${gib(stage.total)}`);
      x += long;
    });
    svg.appendChild(shape("text", {
      x: width, y: middle, "text-anchor": "end", class: stage.total > limit ? "over" : "",
    }, gib(stage.total)));
  });
  const x = LEFT + Math.min(limit / end, 1) * room;
  if (!beyond) svg.appendChild(shape("line", { x1: x, x2: x, y1: 0, y2: bottom + 4, class: "limit" }));
  svg.appendChild(shape("text", { x, y: bottom + 18, "text-anchor": x > 130 ? "end" : "start", class: "limit-name" },
    `limit ${gib(limit)}${beyond ? ", beyond this edge →" : ""}`));
  table("memory-table", ["stage", "parameters held", ...names, "total"],
    stages.map((stage, p) => [
      p, whole(plan.parameters.per_rank[p]), ...[...names, "total"].map((name) => round(stage[name])),
    ]), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

function layoutName(layout) {
  const order = layout.schedule === "standard" ? "" : `, ${layout.schedule}`;
  return `${layout.tensor}x${layout.pipeline}x${layout.interleave}x${layout.data}, micro-batch ` +
    `${layout.micro_batch}, ZeRO ${layout.zero}, recompute ${layout.recompute}` +
    `${layout.sequence_parallel ? ", sequence parallel" : ""}${order}`;
}

/* The layouts that fit, as the page was given them: all, or only the best. */
function candidates() {
  const given = plan.candidates;
  if (!given) return plan.search.best;
  return given.rows.map((row) => ({
    layout: Object.fromEntries(given.fields.map((name, place) => [name, row[place]])),
    step_time_s: row[row.length - 2],
    memory_gib: row[row.length - 1],
  }));
}

function axes(svg, { x, y, sizes, times, width, height, left, bottom }) {
  const floor = height - bottom;
  for (const size of ticks(...sizes, Math.max(3, width / 120), true)) {
    svg.appendChild(shape("line", { x1: x(size), x2: x(size), y1: 8, y2: floor, class: "axis" }));
    svg.appendChild(shape("text", { x: x(size), y: floor + 16, "text-anchor": "middle", class: "soft" }, round(size)));
  }
  for (const time of ticks(...times, 6, true)) {
    svg.appendChild(shape("line", { x1: left, x2: width, y1: y(time), y2: y(time), class: "axis" }));
    svg.appendChild(shape("text", { x: left - 6, y: y(time) + 4, "text-anchor": "end", class: "soft" }, round(time)));
  }
  svg.appendChild(shape("text", { x: width - 4, y: height - 6, "text-anchor": "end", class: "soft" },
    "GiB of the fullest rank, logarithmic"));
  svg.appendChild(shape("text", { x: 12, y: floor / 2, transform: `rotate(-90 12 ${floor / 2})`,
    "text-anchor": "middle", class: "soft" }, "seconds a step, logarithmic"));
}

function front() {
  const found = plan.search;
  if (!found) return;
  const fitting = candidates(), all = [...found.front, ...fitting];
  const width = byId("front").clientWidth, height = 360, left = 64, bottom = 42;
  const svg = picture("front", width, height, "memory of a layout against the time of its step");
  const range = (values) => [Math.min(...values) / 1.08, Math.max(...values) * 1.08];
  const sizes = range([...all.map((each) => each.memory_gib), found.limit_gib]);
  const times = range(all.map((each) => each.step_time_s));
  const share = (value, [low, high]) => Math.log(value / low) / Math.log(high / low);
  const x = (size) => left + share(size, sizes) * (width - left);
  const y = (time) => height - bottom - share(time, times) * (height - bottom - 8);
  axes(svg, { x, y, sizes, times, width, height, left, bottom });
  const dot = (each, kind, r, said = "") => mark(svg, "circle", {
    cx: x(each.memory_gib), cy: y(each.step_time_s), r, class: `point ${kind}`,
  }, `${said}${layoutName(each.layout)}\n${round(each.step_time_s)} s, ${gib(each.memory_gib)}`);
  for (const each of [...fitting.slice(1)].reverse()) dot(each, "candidate", 3.5);
  const limit = x(found.limit_gib), atEnd = limit > width - 120;
  svg.appendChild(shape("line", { x1: limit, x2: limit, y1: 8, y2: height - bottom, class: "limit" }));
  svg.appendChild(shape("text", { x: limit + (atEnd ? -6 : 6), y: 20, class: "limit-name",
    "text-anchor": atEnd ? "end" : "start" }, `limit ${gib(found.limit_gib)}`));
  svg.appendChild(shape("polyline", { class: "frontline",
    points: found.front.map((each) => `${x(each.memory_gib)},${y(each.step_time_s)}`).join(" ") }));
  for (const each of found.front) {
    dot(each, "front", 4.5, each.memory_gib > found.limit_gib ? "does not fit: " : "");
  }
  if (found.best.length) dot(found.best[0], "winner", 7, "the fastest that fits: ");
  legend("front-legend", [["layouts that fit", "var(--dots)"],
    ["the front: none is both leaner and faster", "var(--c0)"], ["the fastest that fits", "var(--c3)"]]);
}
