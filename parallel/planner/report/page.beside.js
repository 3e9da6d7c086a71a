/* The step's time as a point on its interval; a second layout's under it, and both in numbers. */
const sides = [plan, ...(plan.beside ? [plan.beside] : [])];

function times() {
  const known = sides.some((side) => side.step_time_interval_s);
  byId("time-section").hidden = !known && !plan.beside;
  if (byId("time-section").hidden) return;
  const ends = sides.map(({ step_time_s: time, step_time_interval_s: within }) =>
    (within ? [within.low, time, within.high] : [time, time, time]));
  const end = Math.max(...ends.flat()) * 1.06;
  const width = byId("times").clientWidth, row = 34, bottom = sides.length * row + 6;
  const left = plan.beside ? 150 : LEFT, room = width - left - 12;
  const svg = picture("times", width, bottom + 40, "seconds of a step, with their intervals");
  const x = (seconds) => left + (seconds / end) * room;
  for (const tick of ticks(0, end, Math.max(3, width / 140))) {
    svg.appendChild(shape("line", { x1: x(tick), x2: x(tick), y1: 4, y2: bottom, class: "axis" }));
    svg.appendChild(shape("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle", class: "soft" }, round(tick)));
  }
  svg.appendChild(shape("text", { x: width - 4, y: bottom + 34, "text-anchor": "end", class: "soft" }, "seconds a step"));
  ends.forEach(([low, time, high], n) => {
    const y = n * row + 20;
    svg.appendChild(shape("text", { x: 0, y: y + 4, class: "soft" }, plan.beside ? sideName(n) : "a step"));
    svg.appendChild(shape("line", { x1: x(low), x2: x(high), y1: y, y2: y, class: "within", stroke: colour(n) }));
    for (const at of [low, high]) {
      svg.appendChild(shape("line", { x1: x(at), x2: x(at), y1: y - 6, y2: y + 6, class: "within", stroke: colour(n) }));
    }
    mark(svg, "circle", { cx: x(time), cy: y, r: 6, fill: colour(n), class: "time" },
      `${sides[n].layout_name}\n${round(time)} s planned\n${round(low)} to ${round(high)} s nine times in ten`);
  });
  const { nearest_runs: runs, level } = plan.step_time_interval_s ?? {};
  byId("time-note").textContent = runs
    ? `The bar is where the time lies with ${percent(level)}, by the errors of plans of published runs that the ` +
      `constants were not fitted to; the ${whole(runs)} nearest carry half of the weight.`
    : "What was measured on this machine.";
}

/* What each number of nodes comes to, where a goal was searched for. */
function goals() {
  const asked = plan.goals;
  if (!asked) return;
  byId("goals-section").hidden = false;
  const goal = [asked.days === null ? "" : `${round(asked.days)} days`, asked.dollars === null ? "" : `$${round(asked.dollars)}`]
    .filter((each) => each).join(" and ");
  byId("goals-note").textContent =
    `${goal ? `The goal is ${goal}. ` : ""}${whole(asked.chosen_nodes)} nodes are chosen, whose plan this page is; failures are included.`;
  table("goals", ["nodes", "layout", "engine", "days", "dollars", "on the front", "reaches the goal"],
    asked.options.map((each) => [
      whole(each.nodes), layoutName(each.layout), each.engine, round(each.expected_days),
      each.expected_dollars === null ? "no price" : round(each.expected_dollars),
      each.on_front ? "yes" : "", each.reaches ? "yes" : "",
    ]), [0, 3, 4], (_, n) => (asked.options[n].nodes === asked.chosen_nodes ? "chosen" : ""));
}

const sideName = (n) => (n === 0 ? "this layout" : "the other");

function beside() {
  if (!plan.beside) return;
  const spread = (side) => (side.step_time_interval_s
    ? `${round(side.step_time_interval_s.low)} to ${round(side.step_time_interval_s.high)}` : "");
  const lines = [
    ["model", (side) => side.model],
    ["on", (side) => side.gpu],
    ["precision", (side) => side.precision],
    ["layout", (side) => side.layout_name],
    ["GPUs or ranks", (side) => whole(side.world_size)],
    ["engine", (side) => side.engine],
    ["micro-batch", (side) => side.layout.micro_batch],
    ["ZeRO", (side) => side.layout.zero],
    ["recompute", (side) => side.layout.recompute],
    ["sequence parallel", (side) => (side.layout.sequence_parallel ? "yes" : "no")],
    ["fits", (side) => (side.fits ? "yes" : "no")],
    ["fullest rank, GiB", (side) => round(side.memory_gib.peak)],
    ["step, s", (side) => round(side.step_time_s)],
    ["nine times in ten, s", spread],
    ["pipeline, s", (side) => round(side.step_time_parts_s.pipeline)],
    ["tensor collectives in it, s", (side) => round(side.step_time_parts_s.tensor_parallel_within_pipeline)],
    ["data collectives exposed, s", (side) => round(side.step_time_parts_s.data_parallel_exposed)],
    ["optimizer, s", (side) => round(side.step_time_parts_s.optimizer)],
    ["bubble", (side) => percent(side.bubble_fraction)],
    ["TFLOPS each", (side) => round(side.tflops_per_gpu)],
    ["MFU", (side) => percent(side.mfu)],
    ["tokens a second", (side) => round(side.tokens_per_s)],
    ["days", (side) => round(side.days)],
    ["dollars", (side) => (side.dollars === null ? "no price" : round(side.dollars))],
  ];
  byId("beside-section").hidden = false;
  table("beside", ["what", ...sides.map((_, n) => sideName(n))],
    lines.map(([name, of]) => [name, ...sides.map((side) => of(side))]), [1, 2],
    (row) => (row[1] === row[2] ? "" : "differs"));
}
