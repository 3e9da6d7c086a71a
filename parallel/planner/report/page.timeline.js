/* The schedule on a canvas as wide as its box: only what is scrolled into sight is drawn. */
const timeline = { zoom: 1, top: 18, row: 22, drawn: 0, chunks: 1, shortest: 1 };

function view() {
  const { events, seconds } = plan.timeline;
  const box = byId("schedule"), width = Math.max(box.clientWidth, LEFT + 40);
  const scale = ((width - LEFT) * timeline.zoom) / seconds;  // pixels a second
  return { events, seconds, box, width, scale, scrolled: box.scrollLeft };
}

function mostZoom() {
  const room = Math.max(byId("schedule").clientWidth - LEFT, 40);
  return clamp((40 * plan.timeline.seconds) / timeline.shortest / room, 1, 500);
}

function drawTimeline() {
  const { events, width, scale, seconds, scrolled } = view();
  const { top, row } = timeline, canvas = byId("passes"), sharp = devicePixelRatio || 1;
  const height = top + events.length * row;
  canvas.width = Math.round(width * sharp);
  canvas.height = Math.round(height * sharp);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const style = getComputedStyle(document.documentElement);
  const names = ["--idle", "--back", "--soft", "--ink", "--forward", "--backward"];
  const paint = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(name).trim()]));
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  pen.font = `${row < 16 ? 10 : 12}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const at = (second) => LEFT + second * scale - scrolled;
  timeAxis(pen, at, paint, (width - LEFT) / scale, scrolled / scale, width);
  timeline.drawn = 0;
  events.forEach((passes, stage) => {
    const y = top + stage * row;
    pen.fillStyle = paint["--idle"];
    pen.fillRect(LEFT, y, Math.min(at(seconds), width) - LEFT, row - 3);
    pen.textAlign = "center";
    for (const pass of passes) {
      if (at(pass[4]) >= LEFT && at(pass[3]) <= width) drawPass(pen, pass, at, y, paint);
    }
    // What is scrolled away passes under the names.
    pen.fillStyle = paint["--back"];
    pen.fillRect(0, y, LEFT, row);
    pen.fillStyle = paint["--soft"];
    pen.textAlign = "left";
    pen.fillText(`stage ${stage}`, 0, y + row / 2 - 1);
  });
  canvas.dataset.drawn = timeline.drawn;
}

function drawPass(pen, [forward, chunk, microBatch, begin, end], at, y, paint) {
  const x = at(begin), long = at(end) - x, solid = 1 - (0.6 * chunk) / Math.max(timeline.chunks - 1, 3);
  pen.globalAlpha = solid;
  pen.fillStyle = paint[forward ? "--forward" : "--backward"];
  pen.fillRect(x, y, Math.max(long > 3 ? long - 0.8 : long, 0.4), timeline.row - 3);
  pen.globalAlpha = 1;
  timeline.drawn += 1;
  if (long < 18 || timeline.row < 16) return;
  pen.fillStyle = solid > 0.75 ? "#ffffff" : paint["--ink"];
  pen.fillText(microBatch, x + long / 2, y + timeline.row / 2 - 1);
}

function timeAxis(pen, at, paint, shown, from, width) {
  pen.fillStyle = paint["--soft"];
  const marks = ticks(from, Math.min(from + shown, plan.timeline.seconds), Math.max(2, width / 140));
  for (const second of marks) {
    pen.textAlign = at(second) > width - 30 ? "right" : at(second) < LEFT + 20 ? "left" : "center";
    pen.fillText(`${round(second, 6)} s`, at(second), 7);
  }
}

function zoomTo(zoom) {
  const { box, width, scale, scrolled, seconds } = view();
  const middle = (scrolled + (width - LEFT) / 2) / scale;
  timeline.zoom = clamp(zoom, 1, mostZoom());
  const wide = (width - LEFT) * timeline.zoom;
  byId("track").style.width = timeline.zoom > 1 ? `${LEFT + wide}px` : "auto";
  box.scrollLeft = (middle / seconds) * wide - (width - LEFT) / 2;
  byId("zoom-in").disabled = timeline.zoom >= mostZoom();
  byId("zoom-out").disabled = byId("zoom-all").disabled = timeline.zoom <= 1;
  drawTimeline();
}

/* The pass under the pointer, or between which moments the stage is idle. */
function passAt(x, y) {
  const { events, scale, scrolled, seconds } = view();
  const stage = Math.floor((y - timeline.top) / timeline.row), now = (x - LEFT + scrolled) / scale;
  if (x < LEFT || now > seconds || !events[stage]) return null;
  const pass = events[stage].find(([, , , , end]) => end >= now);
  if (pass && pass[3] <= now) {
    return `stage ${stage}: ${pass[0] ? "forward" : "backward"}, micro-batch ${pass[2]}, chunk ${pass[1]}\n` +
      `${round(pass[3])} to ${round(pass[4])} s`;
  }
  const before = events[stage].findLast(([, , , , end]) => end < now);
  return `stage ${stage} is idle\n${round(before ? before[4] : 0)} to ${round(pass ? pass[3] : seconds)} s`;
}

function timelineWords() {
  const { events, micro_batches: played, seconds, cut } = plan.timeline, chunks = timeline.chunks;
  const shorter = played < plan.micro_batches;
  byId("schedule-note").textContent =
    (shorter
      ? `A step of ${played} micro-batch${played > 1 ? "es" : ""}, not of all ${whole(plan.micro_batches)}` +
        (events.length > 1
          ? `: it fills and drains alike, so its idle share is larger than the whole step's ` +
            `${percent(plan.bubble_fraction)}.`
          : ".")
      : `The whole step of ${played} micro-batch${played > 1 ? "es" : ""}.`) +
    (cut ? ` Its first ${round(seconds)} s are drawn.` : "");
  legend("schedule-legend", [["forward", "var(--forward)"], ["backward", "var(--backward)"], ["idle", "var(--idle)"],
    ...(chunks > 1 ? [[`paler: later of ${chunks} chunks`, null]] : [])]);
  byId("passes").setAttribute("aria-label",
    `schedule: ${events.length} stages, ${played} micro-batches, ${round(seconds)} seconds; numbers follow`);
  byId("passes").dataset.passes = events.flat().length;
  const busy = events.map((passes) => passes.reduce((sum, [, , , begin, end]) => sum + end - begin, 0));
  table("schedule-table", ["stage", "passes drawn", "first begins, s", "last ends, s", "idle"],
    events.map((passes, p) => [p, passes.length, round(passes[0]?.[3] ?? 0), round(passes.at(-1)?.[4] ?? 0),
      percent(Math.max(0, 1 - busy[p] / seconds))]), [0, 1, 2, 3, 4]);
}

function schedule() {
  const passes = plan.timeline.events.flat();
  timeline.chunks = 1 + Math.max(...passes.map(([, chunk]) => chunk));
  timeline.shortest = Math.min(...passes.map(([, , , begin, end]) => end - begin));
  if (plan.timeline.events.length > 32) timeline.row = 12;
  timelineWords();
  const box = byId("schedule"), canvas = byId("passes");
  byId("zoom-in").addEventListener("click", () => zoomTo(timeline.zoom * 2));
  byId("zoom-out").addEventListener("click", () => zoomTo(timeline.zoom / 2));
  byId("zoom-all").addEventListener("click", () => zoomTo(1));
  box.addEventListener("keydown", ({ key }) => {
    if (key === "+" || key === "-") zoomTo(timeline.zoom * (key === "+" ? 2 : 0.5));
  });
  box.addEventListener("scroll", () => requestAnimationFrame(drawTimeline));
  canvas.addEventListener("pointermove", (event) => {
    const area = canvas.getBoundingClientRect(), text = passAt(event.clientX - area.x, event.clientY - area.y);
    if (text) showTip(text, event.clientX, event.clientY - 10, event.clientY + 10);
    else hideTip();
  });
  canvas.addEventListener("pointerleave", hideTip);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTimeline);
  zoomTo(1);
}
