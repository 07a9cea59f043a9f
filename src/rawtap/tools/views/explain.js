// Who said what to whom, with the findings at their packets.

const ROWS = 40; // of a page of the diagram
const MOST = 6; // life lines; all other ends share one
const WIDE = 6.8; // of a character
const CODE = 190; // room for what is wrong
const EVERYONE = "everyone";
const GROUP = /^(ff:ff:ff:ff:ff:ff|(01|33)(:[0-9a-f]{2}){5})$|^(255\.255\.255\.255|22[4-9]\.|23\d\.|\[?ff[0-9a-f]{2}:)/;

let given = {};
let explained = null;
let findings = [];
let marks = new Map();
let page = { packets: [] };
let chosen = 0;

/** The packets of `explained.source` that were asked for; nothing else is drawn. */
const about = () => (given.path ? { path: given.path } : { capture: explained.source });

function end(packet, side) {
  const asked = packet.fields?.[side === "source" ? "ARP.psrc" : "ARP.pdst"];
  const told = packet[side];
  if (side === "destination" && GROUP.test(told)) return EVERYONE;
  if (packet.protocol === "ARP" && typeof asked === "string") return asked;
  return told.replace(/^\[(.*)\]:\d+$/, "$1").replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, "$1");
}

/** At most so many characters of it, without some of its middle or of its end. */
function shortened(text, most, where = 0.5) {
  if (text.length <= most) return text;
  const head = Math.floor((most - 1) * where);
  return `${text.slice(0, head)}…${where < 1 ? text.slice(-Math.floor(most - 1 - head)) : ""}`;
}

function ends(packets) {
  const counts = new Map();
  for (const each of packets) for (const side of ["source", "destination"]) {
    counts.set(end(each, side), (counts.get(end(each, side)) ?? 0) + 1);
  }
  const kept = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, MOST);
  const found = [...counts.keys()].filter((name) => kept.includes(name) && name !== EVERYONE);
  if (kept.includes(EVERYONE)) found.push(EVERYONE);
  return counts.size > found.length ? [...found, "others"] : found;
}

function draw() {
  const names = ends(page.packets);
  const step = Math.max(150, 600 / Math.max(names.length - 1, 1));
  const x = (name) => 190 + step * (names.includes(name) ? names.indexOf(name) : names.length - 1);
  const width = Math.max(190 + step * (names.length - 1) + CODE, 980);
  const height = 34 + 34 * page.packets.length + 10;
  const nodes = names.flatMap((name) => [
    made("line", { class: "life", x1: x(name), x2: x(name), y1: 26, y2: height }),
    made("text", { class: "end", x: x(name), y: 16, "text-anchor": "middle", text: shortened(name, step / WIDE) }, made("title", { text: name })),
  ]);
  page.packets.forEach((packet, place) => nodes.push(arrow(packet, 34 + 34 * place, x, width)));
  const diagram = part("diagram");
  diagram.setAttribute("viewBox", `0 0 ${width} ${height}`);
  diagram.replaceChildren(...nodes);
  const [first, last] = [page.packets[0], page.packets[page.packets.length - 1]];
  part("shown").textContent = first ? `packets ${first.number} to ${last.number} of ${page.scanned}` : "no packet is shown";
  part("before").disabled = !first || first.number <= 1;
  part("after").disabled = !page.next_cursor;
}

function arrow(packet, top, x, width) {
  const found = marks.get(packet.number) ?? [];
  const [from, to] = [x(end(packet, "source")), x(end(packet, "destination"))];
  const y = top + 24;
  const back = from <= to ? -1 : 1;
  const shaft = from === to ? `M${from} ${y - 8}h26v8h-20` : `M${from} ${y}H${to + back * 7}`;
  const tip = from === to ? `M${from + 2} ${y}l7 -4v8z` : `M${to} ${y}l${back * 8} -4v8z`;
  const said = `${packet.protocol} ${packet.summary}`;
  const left = Math.min(from, to) + (from === to ? 32 : 6);
  const room = (width - left - (found.length ? CODE : 8)) / WIDE; // what is wrong stands at the right
  const nodes = [
    made("title", { text: [said, ...found.map((each) => `${each.what}: ${each.says}`)].join("\n") }),
    made("rect", { class: "band", x: 1, y: top - 1, width: width - 2, height: 33, rx: 4 }),
    made("text", { class: "dim", x: 40, y: y - 6, "text-anchor": "end", text: String(packet.number) }),
    made("text", { class: "dim", x: 130, y: y - 6, "text-anchor": "end", text: seconds(packet.time) }),
    made("path", { class: "arrow", d: shaft }),
    made("path", { class: "tip", d: tip }),
    made("text", { x: left, y: y - 6, text: shortened(said, Math.max(room, 20), 1) }),
  ];
  if (found.length) {
    nodes.push(made("circle", { class: "badge", cx: 150, cy: y - 8, r: 8 }));
    const numbers = found.map((each) => findings.indexOf(each) + 1);
    nodes.push(made("text", { class: "badge-text", x: 150, y: y - 4, "text-anchor": "middle", text: String(numbers[0]) }));
    nodes.push(made("text", { class: "code", x: width - 8, y: y - 6, "text-anchor": "end", text: found[0].what }));
  }
  const how = found.length ? (kind(found) ? "follows" : "bad") : "";
  return made("g", { class: `${how} ${packet.number === chosen ? "chosen" : ""}`, "data-packet": packet.number }, ...nodes);
}

/** Draw the packets from number `first` on. */
async function from(first) {
  if (!host.calls) return note(["This host passes no calls on: the packets are not drawn."], "page");
  const asked = { ...about(), filter: given.filter ?? "", first: Math.max(1, first), limit: ROWS };
  page = await host.call("qemu_pcap_read", { ...asked, fields: ["ARP.psrc", "ARP.pdst"] });
  // That no packet has fields of ARP is no news here.
  note(page.warnings.filter((each) => !each.startsWith("no packet of this page has ARP.")), "page");
  draw();
}

const failed = (error) => notes([error.message], "bad");

async function reveal(finding) {
  chosen = finding.packets[0];
  if (!page.packets.some((each) => each.number === chosen)) await from(chosen - 5);
  else draw();
  part("diagram").querySelector(".chosen")?.scrollIntoView({ block: "center" });
}

function show() {
  marks = marked(findings);
  findingList(findings, (each) => reveal(each).catch(failed));
  [...part("findings").children].forEach((node, place) => node.prepend(made("span", { text: `${place + 1}  ` })));
  verdict(findings, { more: explained.left, partial: explained.partial });
  part("examined").textContent = `${counted(explained.examined, "packet")} examined`;
  part("source").textContent = explained.source;
  part("left").textContent = explained.left ? `${counted(explained.left, "finding")} more` : "";
  part("more").hidden = !explained.next_cursor || !host.calls;
  note(explained.notes, "explained");
  part("changes").replaceChildren(
    ...(explained.changes ?? []).map((each) => told(`${each.how} ${each.what} ${each.name}: ${each.before ?? "none"} → ${each.after ?? "none"}`)),
  );
  part("exchanges").replaceChildren(
    ...explained.exchanges.map((each) => {
      const counts = `${counted(each.requests, "request")}, ${each.answered} answered, ${each.unanswered} unanswered`;
      const again = each.retransmitted ? `, ${each.retransmitted} sent again` : "";
      const times = each.median_seconds === null ? "" : `; ${each.median_seconds} s, at most ${each.greatest_seconds} s`;
      return told(`${each.kind} ${each.asker} → ${each.asked}: ${counts}${again}${times}`, each.unanswered ? "open" : "");
    }),
  );
}

const told = (text, how = "") => made("div", { class: `data ${how}`, text });

part("before").addEventListener("click", () => from(page.packets[0].number - ROWS).catch(failed));
part("after").addEventListener("click", () => from(page.packets[page.packets.length - 1].number + 1).catch(failed));
part("more").addEventListener("click", async () => {
  try {
    explained = await host.call("qemu_pcap_explain", { ...given, ...about(), cursor: explained.next_cursor });
    findings.push(...explained.findings);
    show();
    draw();
  } catch (error) {
    failed(error);
  }
});

host.begin("rawtap explain", {
  input: (args) => (given = args),
  result: (answer) => {
    explained = answer;
    findings = [...answer.findings];
    show();
    const first = findings[0]?.packets[0] ?? 1;
    from(first > ROWS - 5 ? first - 5 : 1).catch(failed);
  },
  failed: (text) => notes([text], "bad"),
});
