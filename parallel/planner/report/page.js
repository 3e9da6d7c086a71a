function heading() {
  const { layout, memory_gib: memories } = plan;
  byId("title").textContent = `${plan.model} on ${whole(plan.world_size)} × ${plan.gpu}`;
  document.title = `Plan: ${plan.model}, ${plan.layout_name}`;
  byId("subtitle").textContent =
    `cluster ${plan.cluster}, engine ${plan.engine}, ${plan.precision}, ` +
    `${short(plan.parameters.total)} parameters, ` +
    `${plan.experts ? `${short(plan.parameters.active)} of a token, ` : ""}` +
    `${whole(plan.global_batch)} samples a step`;
  byId("layout").textContent =
    `layout ${plan.layout_name}: tensor ${layout.tensor} × pipeline ${layout.pipeline} × interleave ` +
    `${layout.interleave} × data ${layout.data}, micro-batch ${layout.micro_batch}, ZeRO ${layout.zero}, ` +
    `${plan.experts ? `expert ${layout.expert} × expert tensor ${layout.expert_tensor}, ` : ""}` +
    `recompute ${layout.recompute}${layout.sequence_parallel ? ", sequence parallel" : ""}` +
    `${layout.schedule === "standard" ? "" : `, ${layout.schedule}`}`;
  byId("verdict").textContent =
    `${plan.fits ? "Fits" : "Does not fit"}: ${gib(memories.peak)} of ${gib(memories.limit)} on stage ` +
    `${memories.fullest_stage}${plan.fits ? "" : "; nearest: plan.search=true"}`;
  byId("verdict").classList.toggle("bad", !plan.fits);
  const each = plan.device === "cuda" ? "GPU" : "rank";
  const numbers = {
    "step": `${round(plan.step_time_s)} s`,
    [`TFLOPS per ${each}`]: round(plan.tflops_per_gpu),
    "MFU": percent(plan.mfu),
    "bubble": percent(plan.bubble_fraction),
    "tokens a second": round(plan.tokens_per_s),
    "days": round(plan.days),
    [`${each}-hours`]: round(plan.gpu_hours),
    "dollars": plan.dollars === null ? "no price" : `$${round(plan.dollars)}`,
  };
  byId("numbers").replaceChildren(...Object.entries(numbers).map(([name, value]) => {
    const box = make("div");
    box.append(make("dt", {}, name), make("dd", {}, value));
    return box;
  }));
  const parts = plan.step_time_parts_s;
  byId("parts").textContent =
    `A step: pipeline ${round(parts.pipeline)} s (tensor collectives ` +
    `${round(parts.tensor_parallel_within_pipeline)} s of it` +
    `${plan.experts ? `, experts' ${round(parts.expert_parallel_within_pipeline)} s` : ""}), data-parallel collectives that nothing ` +
    `hides ${round(parts.data_parallel_exposed)} s, optimizer ${round(parts.optimizer)} s. The run: ${whole(plan.steps)} steps, ${short(plan.tokens)} tokens.`;
  byId("basis").textContent = `Times rest on ${plan.calibration.basis}.` +
    (plan.sustained_tflops === null ? "" : ` Days and price are at ${plan.sustained_tflops} TFLOPS sustained.`);
}

function search() {
  const found = plan.search;
  if (!found) return;
  byId("search-section").hidden = false;
  const drawn = candidates().length;
  byId("search-note").textContent =
    `${whole(found.tried)} layouts tried, ${whole(found.valid)} valid; the ${whole(drawn)} fastest that fit into ` +
    `${round(found.limit_gib)} of ${gib(plan.memory_gib.limit)}, the margin left free, are drawn. ` +
    `The front's times are estimates; the ${plan.played_through} fastest that fit are played through.`;
  const columns = ["engine", "layout", "micro-batch", "sequence", "ZeRO", "recompute", "schedule", "step s", "GiB"];
  table("best", columns, found.best.map(({ engine, layout, step_time_s: time, memory_gib: size }) => [
    engine, `${layout.tensor}x${layout.pipeline}x${layout.interleave}x${layout.data}`, layout.micro_batch,
    layout.sequence_parallel ? "yes" : "", layout.zero, layout.recompute, layout.schedule,
    round(time), round(size),
  ]), [2, 4, 7, 8], (_, number) => (number === 0 ? "chosen" : ""));
}

/* 0, 1, 2, 5 as 0-2, 5. */
function spans(numbers) {
  const found = [];
  for (const number of numbers) {
    const last = found[found.length - 1];
    if (last && last[1] === number - 1) last[1] = number;
    else found.push([number, number]);
  }
  return found.map(([first, last]) => (first === last ? first : `${first}-${last}`)).join(", ");
}

function traffic() {
  const alike = new Map();  // what stages take part in, to the stages
  for (let p = 0; p < plan.layout.pipeline; p += 1) {
    const lines = plan.collectives.filter((each) => each.stage === p).map((each) => [
      each.group, each.kind, each.link, each.overlapped ? "hidden" : "exposed",
      whole(each.count), bytes(each.bytes), whole(each.bytes),
    ]);
    const key = JSON.stringify(lines);
    alike.set(key, [...(alike.get(key) ?? []), p]);
  }
  const rows = [...alike].flatMap(([key, stages]) => {
    const lines = JSON.parse(key);
    return lines.map((line, number) => [number === 0 ? spans(stages) : "", ...line]);
  });
  byId("traffic-note").textContent = rows.length
    ? "Stages with the same traffic share their lines. Hidden is what goes on behind compute."
    : "None: there is nobody to talk to.";
  if (!rows.length) return;
  table("traffic", ["stages", "group", "collective", "link", "time", "count", "size", "bytes"], rows, [5, 6, 7],
    (row) => (row[0] === "" ? "" : "first"));
}

function difference(mine, its) {
  if (mine === its) return "same";
  if (its === 0) return "only in the plan";
  return mine === 0 ? "only in the trace" : `${round((mine / its - 1) * 100, 3)} %`;
}

function trace() {
  if (!plan.trace) return;
  byId("trace-section").hidden = false;
  const rows = [];
  for (const rank of plan.trace) {
    const add = (what, mine, its) =>
      rows.push([rank.rank, rank.stage, what, whole(mine), whole(its), difference(mine, its)]);
    const stage = plan.memory_gib.stages[rank.stage], mib = (size) => Math.round(size * 1024);
    add("parameters", plan.parameters.per_rank[rank.stage], rank.parameters);
    add("peak memory, MiB", mib(stage.total - stage.framework), mib(rank.peak_gib));
    const key = (each) => `${each.group} ${each.kind}`;
    const ours = plan.collectives.filter((each) => each.stage === rank.stage);
    const planned = new Map(ours.map((each) => [key(each), each]));
    const seen = new Map(rank.collectives.map((each) => [key(each), each]));
    for (const name of [...new Set([...planned.keys(), ...seen.keys()])].sort()) {
      for (const what of ["count", "bytes"]) {
        add(`${name}, ${what}`, planned.get(name)?.[what] ?? 0, seen.get(name)?.[what] ?? 0);
      }
    }
  }
  table("trace", ["rank", "stage", "what", "plan", "trace", "difference"], rows, [0, 1, 3, 4, 5],
    (row) => (row[2] === "parameters" ? "first" : ""));
}

for (const draw of [heading, goals, times, beside, ranks, memory, schedule, search, front, traffic, trace, tips]) draw();

let drawnWidth = document.documentElement.clientWidth;
addEventListener("resize", () => {
  if (document.documentElement.clientWidth === drawnWidth) return;
  drawnWidth = document.documentElement.clientWidth;
  for (const draw of [times, ranks, memory, front]) draw();
  zoomTo(timeline.zoom);
});
