// What happened, on one clock: consoles, packets and events, with what explaining the captures has found.

const KEPT = 2000;
const EXPLAINED = 4; // captures, the newest
const GAP = 1; // seconds without an event that are told
const ALARMS = new Set(["guest_ended", "guest_halted", "dropped", "link_down", "link_removed", "link_no_carrier",
  "link_missed", "GUEST_PANICKED", "RESET", "SHUTDOWN", "BLOCK_IO_ERROR", "WATCHDOG"]);
const LANES = ["console", "packet", "event", "qmp"];

let given = {};
let events = [];
let left = 0; // events that are kept no more
let cursor = null;
let marks = new Map(); // by "capture number"
const judged = new Map(); // captures: what explaining said, and whether they had ended by then
const hidden = new Set();

const following = new Following(part("follow"), part("state"), more);

const key = (event) => (event.source === "packet" ? `${event.capture} ${event.number}` : "");
const alarming = (event) => ALARMS.has(event.kind);

function row(event) {
  const found = marks.get(key(event)) ?? [];
  const classes = ["row", event.source, alarming(event) ? "alarm" : "", found.length ? `marked ${kind(found)}` : ""];
  const whose = event.source === "packet" ? `${event.capture} #${event.number}` : (event.guest ?? event.capture ?? event.source);
  const text = event.source === "qmp" ? `${event.kind} ${event.text}` : event.text;
  return made(
    "div",
    { class: classes.join(" "), title: event.source, "data-packet": key(event) || undefined },
    made("span", { class: "time", text: seconds(event.time) }),
    made("span", { class: "who data", text: whose }),
    made(
      "span",
      { class: "data text", text: text + (event.unfinished ? " …" : "") },
      ...found.map((each) => made("div", { class: "mark", text: `▲ ${each.what}: ${each.says}` })),
    ),
  );
}

/** That nothing happened for a while. */
function gap(before, event) {
  const passed = before ? event.time - before.time : 0;
  return passed > GAP ? [made("div", { class: "gap", text: `${passed.toFixed(1)} s later` })] : [];
}

function overview() {
  const shown = events.filter((each) => !hidden.has(each.source));
  const [first, end] = shown.length ? [shown[0].time, shown[shown.length - 1].time] : [0, 1];
  const scale = 900 / Math.max(end - first, 0.001);
  const nodes = LANES.map((lane, place) => made("text", { x: 0, y: 11 + 13 * place, class: "dim", text: lane }));
  const ticks = new Map();
  for (const each of shown) {
    const bad = alarming(each) ? "alarm" : marks.has(key(each)) ? "marked" : "";
    const at = Math.round((each.time - first) * scale);
    if (bad || !ticks.has(`${each.source} ${at}`)) ticks.set(`${each.source} ${at}`, [each, at, bad]);
  }
  for (const [each, at, bad] of ticks.values()) {
    const tick = { x: 80 + at, y: 3 + 13 * LANES.indexOf(each.source), width: bad ? 4 : 2.5, height: 10 };
    nodes.push(made("g", { class: each.source }, made("rect", { ...tick, class: `tick ${bad}` })));
  }
  nodes.push(made("text", { x: 80, y: 66, class: "dim", text: `${first.toFixed(1)} s` }));
  nodes.push(made("text", { x: 990, y: 66, class: "dim", "text-anchor": "end", text: `${end.toFixed(1)} s` }));
  part("overview").replaceChildren(...nodes);
}

function draw() {
  const list = part("list");
  const low = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  const shown = events.filter((each) => !hidden.has(each.source));
  list.replaceChildren(...shown.flatMap((each, place) => [...gap(shown[place - 1], each), row(each)]));
  if (!shown.length) list.append(made("p", { class: "dim", text: "Nothing has happened that is shown." }));
  if (low) list.scrollTop = list.scrollHeight;
  for (const lane of LANES) {
    const count = events.filter((each) => each.source === lane).length;
    part(lane).textContent = `${lane} ${count}`;
  }
  part("left").textContent = left ? `${counted(left, "earlier event")} not kept here` : "";
  overview();
}

function take(page) {
  events.push(...page.events);
  const over = Math.max(0, events.length - KEPT);
  left += over;
  events.splice(0, over);
  cursor = page.next_cursor;
  note(page.warnings);
  part("more").hidden = !page.more || following.on;
  draw();
}

/** A page more; whether anything was in it. */
async function more() {
  const since = cursor;
  const page = await host.call("qemu_timeline", { ...given, limit: 100, since });
  if (since !== cursor) return true; // it was asked for twice, and is there
  take(page);
  await judge();
  return page.events.length > 0 || page.more;
}

/** The captures whose packets are shown. */
const captures = () => [...new Set(events.filter((each) => each.source === "packet").map((each) => each.capture))];

/** Have them explained: at first, and once more when they have ended. */
async function judge() {
  if (!host.calls) return;
  for (const capture of captures().slice(-EXPLAINED)) {
    const ended = events.some((each) => each.kind === "capture_ended" && each.capture === capture);
    if (judged.get(capture)?.ended === ended || judged.get(capture)?.ended) continue;
    const asked = { capture, filter: given.filter ?? "" };
    const told = await host.call("qemu_pcap_explain", asked).catch((error) => ({ findings: [], left: 0, notes: [], error: error.message }));
    judged.set(capture, { ...told, ended, findings: told.findings.map((each) => ({ ...each, capture })) });
    show();
  }
}

/** Show what was found, and in which captures nobody looked for it. */
function show() {
  const others = captures().filter((each) => !judged.has(each));
  const all = [...judged.values()];
  const findings = all.flatMap((each) => each.findings);
  marks = new Map();
  for (const each of findings) {
    for (const number of each.packets) {
      const place = `${each.capture} ${number}`;
      marks.set(place, [...(marks.get(place) ?? []), each]);
    }
  }
  const lacking = [...judged].flatMap(([capture, { notes }]) => notes.map((each) => `${capture}: ${each}`));
  note([...(others.length ? [`${others.join(", ")}: nobody looked for what is wrong`] : []), ...lacking], "explained");
  findingList(findings, (each) => reveal(`${each.capture} ${each.packets[0]}`));
  verdict(findings, {
    more: all.reduce((sum, each) => sum + each.left, 0),
    partial: others.length > 0 || all.some((each) => each.partial),
    error: all.map((each) => each.error).filter(Boolean).join("; "),
    live: all.some((each) => !each.ended),
  });
  draw();
}

function reveal(place) {
  const node = part("list").querySelector(`[data-packet="${CSS.escape(place)}"]`);
  if (!node) return notes([`packet ${place} is not among the events that are shown`]);
  for (const each of part("list").querySelectorAll(".chosen")) each.classList.remove("chosen");
  node.classList.add("chosen");
  node.scrollIntoView({ block: "center" });
}

for (const lane of LANES) {
  part(lane).addEventListener("click", () => {
    if (!hidden.delete(lane)) hidden.add(lane);
    part(lane).setAttribute("aria-pressed", String(!hidden.has(lane)));
    draw();
  });
}
part("more").addEventListener("click", () => more().catch((error) => notes([error.message], "bad")));

host.begin("rawtap timeline", {
  input: (args) => (given = args),
  result: (page) => {
    part("started").textContent = `since ${page.started}`;
    take(page);
    following.start();
    judge().catch((error) => notes([error.message], "bad"));
  },
  failed: (text) => notes([text], "bad"),
  ended: () => following.stop("ended"),
});
