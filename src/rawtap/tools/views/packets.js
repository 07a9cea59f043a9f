// The packets of a capture, as they come; what explaining has found is marked.

const KEPT = 1000;
const HEAD = ["#", "time", "protocol", "source", "destination", "says", "bytes"];

let given = {};
let capture = null; // its id, where it is one of the server's
let file = ""; // of the answer
let state = null; // of the capture: "running", or how it has ended; null where that is not known
let packets = [];
let left = 0; // packets that are kept no more
let matched = 0;
let scanned = 0;
let cursor = null;
let marks = new Map();
let judged = ""; // what the findings are of
let open = 0; // the packet whose layers are shown
let layers = null;

const following = new Following(part("follow"), part("state"), poll);
const about = () => (given.path ? { path: given.path } : capture ? { capture } : {});
const failed = (error) => notes([error.message], "bad");
const running = () => state === "running";
const over = () => following.stop(given.path ? "a file" : state ? "ended" : "paused");

function row(packet) {
  const found = marks.get(packet.number) ?? [];
  const way = { "from guest": "→ ", "to guest": "← " }[packet.direction] ?? "";
  const says = made("span", { class: "data", text: way + packet.summary },
    ...found.map((each) => made("div", { class: "mark", text: `▲ ${each.what}: ${each.says}` })));
  const node = made(
    "div",
    { class: `row list packet ${found.length ? `marked ${kind(found)}` : ""}`, tabindex: 0, "data-packet": packet.number,
      on: () => look(packet.number) },
    made("span", { class: "number", text: String(packet.number) }),
    made("span", { class: "time", text: seconds(packet.time) }),
    made("span", { class: "data who", text: packet.protocol }),
    made("span", { class: "data", text: packet.source }),
    made("span", { class: "data", text: packet.destination }),
    says,
    made("span", { class: "number dim", text: String(packet.length) }),
  );
  node.addEventListener("keydown", ({ key }) => key === "Enter" && look(packet.number));
  if (packet.number !== open || !layers) return [node];
  const told = layers.map((each) => {
    const fields = Object.entries(each.fields).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
    return made("div", { class: "data", text: `${each.layer}: ${fields.join(" ")}` });
  });
  return [node, made("div", { class: "layers" }, ...told)];
}

function draw() {
  const list = part("list");
  const low = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  const head = made("div", { class: "row list head" }, 
    ...HEAD.map((text) => made("span", { text, class: { "#": "number", time: "time", bytes: "number" }[text] })));
  list.replaceChildren(head, ...packets.flatMap(row));
  if (!packets.length) list.append(made("p", { class: "dim", text: running() ? "No packet yet." : "No packet." }));
  if (low && running()) list.scrollTop = list.scrollHeight;
  const gone = left ? `, ${left} earlier ones not kept here` : "";
  part("shown").textContent = `${packets.length} of ${matched} that match${gone}; ${scanned} in the capture`;
  part("more").hidden = !cursor || following.on || !host.calls;
}

async function look(number) {
  if (!host.calls) return;
  open = open === number ? 0 : number;
  layers = null;
  try {
    if (open) {
      const page = await host.call("qemu_pcap_read", { ...about(), first: number, limit: 1, detail: "layers" });
      layers = page.packets[0]?.layers ?? [];
    }
  } catch (error) {
    return failed(error);
  }
  draw();
}

/** Take a page; `behind` if it goes on behind the packets that are there. */
function take(page, behind) {
  if (!behind) {
    [packets, left] = [[], 0];
    noted.delete("");
  }
  const last = packets.length ? packets[packets.length - 1].number : 0;
  const fresh = page.packets.filter((each) => each.number > last);
  packets.push(...fresh);
  const over = Math.max(0, packets.length - KEPT);
  left += over;
  packets.splice(0, over);
  // What an answer counts as matched begins at the packet that was asked for.
  matched = behind ? packets.length + left + page.matched - page.packets.length : Math.max(page.matched, packets.length);
  scanned = page.scanned;
  cursor = page.next_cursor;
  note(page.warnings);
  draw();
  return fresh.length > 0;
}

const next = () => (packets.length ? packets[packets.length - 1].number + 1 : 1);

async function read(first, limit = 200) {
  const whose = given;
  const page = await host.call("qemu_pcap_read", { ...about(), filter: given.filter ?? "", limit, first });
  if (given !== whose || (first > 1 && first !== next())) return false; // of another filter, or there already
  return take(page, first > 1);
}

/** What has come since, and how the capture stands. */
async function poll() {
  const news = await read(next());
  await stands();
  if (!running() && !cursor) {
    await judge();
    over();
  }
  return news || cursor !== null;
}

/** How the capture stands. One that nobody named is known by its file: the newest may be another one by now. */
async function stands() {
  if (given.path) return;
  let captures = [];
  try {
    ({ captures } = await host.call("qemu_pcap_status", capture ? { capture } : {}));
  } catch (error) { // a server may show some of its tools only; the packets come all the same
    part("about").textContent = error.message;
  }
  const its = captures.find((each) => (capture ? each.capture === capture : each.files.includes(file)));
  if (!its) {
    if (!capture) given = { ...given, path: file };
    return;
  }
  ({ capture, state } = its);
  const counters = [its.dropped_kernel, its.dropped_interface, its.refused];
  const lost = counters.reduce((sum, each) => sum + (each ?? 0), 0);
  const unknown = counters.includes(null);
  const told = lost ? `${unknown ? "at least " : ""}${lost} lost` : unknown ? "what was lost is not known" : "none lost";
  part("about").textContent = `${its.capture} on ${its.interface}${its.filter ? `, filter ${its.filter}` : ""}: `
    + `${counted(its.packets, "packet")}, ${told}`;
  note([its.error, its.diagnosis, ...its.warnings].filter(Boolean), its.capture);
}

async function judge() {
  const asked = { ...about(), filter: given.filter ?? "" };
  const subject = () => JSON.stringify([about(), given.filter ?? "", state]);
  const key = subject();
  if (judged === key) return;
  const explained = await host.call("qemu_pcap_explain", asked);
  if (key !== subject()) return; // who changed it asks again
  judged = key;
  note(explained.notes, "explained");
  marks = marked(explained.findings);
  findingList(explained.findings, reveal);
  verdict(explained.findings, { more: explained.left, partial: explained.partial, live: running() });
  draw();
}

function reveal(finding) {
  const node = part("list").querySelector(`[data-packet="${Number(finding.packets[0])}"]`);
  if (!node) return notes([`packet ${finding.packets[0]} is not on this page`]);
  node.scrollIntoView({ block: "center" });
  node.focus();
}

part("more").addEventListener("click", () => read(next()).catch(failed));
part("filter").addEventListener("change", ({ target }) => {
  given = { ...given, filter: target.value, cursor: undefined };
  read(1).then(judge).catch(failed);
});

/** From the tool's answer on: a page of packets, or a capture that has just been armed. */
async function begin(answer) {
  if (answer.capture) [capture, state] = [answer.capture, "running"];
  else {
    file = answer.path;
    take(answer, false);
  }
  if (!host.calls) return following.stop("this host passes no calls on");
  await stands();
  if (answer.capture) given = { filter: "" };
  draw();
  if (running()) return following.start();
  await judge();
  over();
}

host.begin("rawtap packets", {
  input: (args) => {
    given = args;
    capture = args.capture ?? null;
    part("filter").value = args.filter ?? "";
  },
  result: (answer) => begin(answer).catch(failed),
  failed: (text) => notes([text], "bad"),
  ended: () => following.stop("ended"),
});
