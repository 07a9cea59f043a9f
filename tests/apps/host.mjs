// A host of MCP Apps: a real browser with a page that has the official bridge, and a real rawtap behind it over stdio.
// It plays an agent's session and looks at what a person is shown; what it saw goes to stdout as JSON.
// Arguments: the folder of node modules, a folder for pictures, and the command of the server.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, pictures, command, ...rest] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(join(modules, path)).href);
const { chromium } = (await load("playwright-core/index.js")).default;
const { Client } = await load("@modelcontextprotocol/client/dist/index.mjs");
const { StdioClientTransport } = await load("@modelcontextprotocol/client/dist/stdio.mjs");

const PATIENCE = 120_000;
const ATTACK = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>";
const seen = { errors: [], asked: [], calls: [] };

// ------------------------------------------------------------- the host's page
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript" };
const server = createServer(async ({ url }, answer) => {
  const path = new URL(url, "http://host").pathname;
  const file = path.startsWith("/modules/") ? join(modules, normalize(path.slice(9))) : join(import.meta.dirname, "host.html");
  seen.asked.push(...(path === "/" || path.startsWith("/modules/") ? [] : [path]));
  answer.setHeader("content-type", TYPES[extname(file)] ?? "text/plain").end(await readFile(file));
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

// ------------------------------------------------------------------ the server
const client = new Client(
  { name: "host of the tests", version: "1" },
  { capabilities: { extensions: { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } } } },
);
await client.connect(new StdioClientTransport({ command, args: rest, stderr: "inherit" }));
seen.protocol = client.getNegotiatedProtocolVersion();
const { tools } = await client.listTools();
seen.pages = Object.fromEntries(tools.filter((each) => each._meta).map((each) => [each.name, each._meta.ui.resourceUri]));

async function call(name, args = {}) {
  const result = await client.callTool({ name, arguments: args }, { timeout: PATIENCE });
  if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
  return result;
}

// ----------------------------------------------------------------- the browser
const off = ["background-networking", "component-update", "sync", "quic", "gpu"].map((each) => `--disable-${each}`);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--no-first-run", ...off] });
const page = await browser.newPage({ viewport: { width: 1000, height: 760 } });
page.setDefaultTimeout(PATIENCE);
page.on("pageerror", (error) => seen.errors.push(String(error)));
page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
await page.exposeFunction("callTool", async ({ name, arguments: args, _meta }) => {
  seen.calls.push([name, args, _meta]);
  return await client.callTool({ name, arguments: args, _meta }, { timeout: PATIENCE });
});
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await page.waitForFunction(() => window.ready);

let frame;
async function show(name, input, result, { theme = "light", calls = true } = {}) {
  const { contents } = await client.readResource({ uri: seen.pages[name] });
  const [{ text: html, mimeType, _meta }] = contents;
  seen[`${name} as`] = [mimeType, html.length, _meta];
  seen[`${name} app`] = await page.evaluate((given) => window.show(given), { html, theme, input, result, calls });
  frame = await (await page.waitForSelector("iframe")).contentFrame();
}
const text = (selector) => frame.locator(selector).innerText();
const until = (holds, given) => frame.waitForFunction(holds, given);
const picture = (name) => page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
/** What only a page has that took data for its own. */
const strange = () =>
  frame.evaluate(() => [
    ...[...document.querySelectorAll("img, iframe, a, link, object, script:not(body > script:last-child)")].map(String),
    ...(window.pwned ? ["it ran"] : []),
  ]);

try {
  await call("qemu_boot", { profile: "u-boot-riscv64", network: "user", timeout: PATIENCE / 1000 });

  // A capture that is watched from its start.
  const started = await call("qemu_pcap_start", {});
  const { capture } = started.structuredContent;
  await show("qemu_pcap_start", {}, started);
  await until(() => document.getElementById("state").textContent === "live");
  seen.empty = await text("#list");
  await call("qemu_send", { command: "setenv ipaddr 10.0.2.15; ping 10.0.2.2" });
  await until(() => document.querySelectorAll("[data-packet]").length >= 4);
  seen.live = await text("#list");
  await frame.locator("#filter").fill("icmp");
  await frame.locator("#filter").press("Enter");
  await until(() => document.getElementById("verdict").textContent);
  seen.soFar = [await text("#verdict"), await text("#state")];
  await frame.locator("#filter").fill("");
  await frame.locator("#filter").press("Enter");
  await call("qemu_send", { command: `echo '${ATTACK}'` });
  const dns = { layer: "DNS", id: 7, rd: 1, qd: [{ layer: "DNSQR", qname: "<img src=x onerror=window.pwned=1>\u202egnp.example" }] };
  await call("qemu_packet_send", { layers: [{ layer: "IP", dst: "10.0.2.15" }, { layer: "UDP", sport: 5353, dport: 53 }, dns] });
  const broken = [{ layer: "IP", dst: "10.0.2.15", chksum: 1 }, { layer: "UDP", sport: 7, dport: 9 }];
  await call("qemu_packet_send", { layers: broken, count: 2 });
  await call("qemu_pcap_stop", { capture });
  await until(() => document.getElementById("state").textContent === "ended" && document.querySelector(".marked"));
  seen.packets = {
    about: await text("#about"), verdict: await text("#verdict"), list: await text("#list"), strange: await strange(),
    marked: await frame.locator(".marked").evaluateAll((rows) => rows.map((row) => Number(row.dataset.packet))),
  };
  await frame.locator("[data-packet]").first().click();
  await until(() => document.querySelector(".layers"));
  seen.layers = await text(".layers");
  await picture("packets-light");
  await page.evaluate(() => window.turn("dark"));
  await picture("packets-dark");
  seen.polled = seen.calls.length;
  await frame.locator("#filter").fill("udp prot 53");
  await frame.locator("#filter").press("Enter");
  await until(() => document.querySelector(".note.bad"));
  seen.refused = await text("#notes");

  // A page of a file; then the same where the host passes nothing on.
  const asked = { capture, limit: 2 };
  const two = await call("qemu_pcap_read", asked);
  await show("qemu_pcap_read", asked, two);
  await until(() => document.querySelector(".marked") || document.getElementById("verdict").textContent);
  seen.two = await text("#shown");
  await frame.locator("#more").click();
  await until(() => document.querySelector(".marked"));
  seen.all = await text("#shown");
  await show("qemu_pcap_read", asked, two, { calls: false });
  await until(() => document.querySelectorAll("[data-packet]").length === 2);
  seen.alone = [await text("#state"), await text("#shown"), await frame.locator("#more").isVisible()];

  // A page of a capture that was the newest and was not named, when another one is.
  const newest = await call("qemu_pcap_read", { limit: 2 });
  const later = await call("qemu_pcap_start", {});
  await call("qemu_pcap_stop", { capture: later.structuredContent.capture });
  await show("qemu_pcap_read", { limit: 2 }, newest);
  await until(() => document.getElementById("state").textContent === "ended");
  seen.unnamed = await text("#about");

  // What is wrong.
  const explained = await call("qemu_pcap_explain", { capture });
  await show("qemu_pcap_explain", { capture }, explained);
  await until(() => document.querySelector("#diagram .bad"));
  seen.explain = {
    verdict: await text("#verdict"), findings: await text("#findings"), shown: await text("#shown"),
    diagram: await frame.locator("#diagram").textContent(), strange: await strange(),
    bad: await frame.locator("#diagram .bad").evaluateAll((all) => all.map((each) => Number(each.dataset.packet))),
  };
  await picture("explain-light");
  await page.evaluate(() => window.turn("dark"));
  await frame.locator(".finding").first().click();
  await until(() => document.querySelector("#diagram .chosen"));
  await picture("explain-dark");

  // All of it on one clock, while it goes on.
  const timeline = await call("qemu_timeline", { limit: 60 });
  await show("qemu_timeline", { limit: 60 }, timeline);
  await until(() => document.querySelector(".marked") && document.querySelectorAll(".row.packet").length >= 7);
  await call("qemu_shutdown", {});
  await until(() => document.querySelector(".alarm"));
  await until(() => document.getElementById("verdict").textContent === "1 finding"); // not "so far": the capture has ended
  seen.timeline = {
    list: await text("#list"), verdict: await text("#verdict"), marked: await frame.locator(".row.marked").count(),
    alarms: await frame.locator(".row.alarm").allInnerTexts(), strange: await strange(),
  };
  await picture("timeline-light");
  await page.evaluate(() => window.turn("dark"));
  await frame.locator("#console").click();
  seen.hidden = await frame.locator(".row.console").count();
  await picture("timeline-dark");

  // An answer that is an error.
  const wrong = await client.callTool({ name: "qemu_timeline", arguments: { since: "x" } });
  await show("qemu_timeline", { since: "x" }, wrong);
  await until(() => document.querySelector(".note.bad"));
  seen.failed = await text("#notes");

  // What the page's own policy forbids, were such a thing ever in it.
  const errors = seen.errors.length; // what is refused now is told as an error as well
  seen.forbidden = await frame.evaluate(
    () =>
      new Promise((resolve) => {
        const found = new Set();
        addEventListener("securitypolicyviolation", ({ effectiveDirective }) => {
          if (found.add(effectiveDirective).size === 4) resolve([...found].sort());
        });
        document.body.insertAdjacentHTML("beforeend", "<img src=/pwned onerror=window.pwned=1>");
        const script = document.createElement("script");
        script.textContent = "window.pwned=1";
        document.body.append(script);
        fetch("/pwned").catch(() => {});
      }),
  );
  seen.pwned = await frame.evaluate(() => window.pwned ?? null);
  seen.errors.length = errors;

  await page.evaluate(() => window.away());
  const before = seen.calls.length;
  seen.sizes = await page.evaluate(() => window.sizes());
  seen.after = seen.calls.length - before;
} catch (error) {
  seen.thrown = String(error.stack ?? error);
  seen.text = await frame?.evaluate(() => document.body.innerText).catch(String);
  await picture("failed").catch(() => {});
} finally {
  await browser.close();
  await client.close();
  server.close();
}
process.stdout.write(`${JSON.stringify(seen)}\n`);
