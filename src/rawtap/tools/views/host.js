"use strict";
// The host, spoken to by MCP Apps (SEP-1865): JSON-RPC 2.0 through postMessage. What comes from a guest or the wire gets
// into the page as text only (textContent), and the page's policy forbids every script but this one.

const host = (() => {
  const answers = new Map();
  let last = 0;
  let can = {};
  let view = {};

  const post = (message) => parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
  const notify = (method, params = {}) => post({ method, params });
  const request = (method, params) =>
    new Promise((resolve, reject) => {
      last += 1;
      answers.set(last, { resolve, reject });
      post({ id: last, method, params });
    });

  function dress({ theme, styles } = {}) {
    const root = document.documentElement.style;
    if (theme === "light" || theme === "dark") root.colorScheme = theme;
    for (const [name, value] of Object.entries(styles?.variables ?? {})) {
      if (name.startsWith("--") && typeof value === "string") root.setProperty(name, value);
    }
  }

  const told = {
    "ui/notifications/tool-input": ({ arguments: given }) => view.input?.(given ?? {}),
    "ui/notifications/tool-result": (result) => {
      if (result.isError || !result.structuredContent) view.failed?.(words(result));
      else view.result?.(result.structuredContent);
    },
    "ui/notifications/tool-cancelled": ({ reason }) => view.failed?.(`The call was cancelled. ${reason ?? ""}`),
    "ui/notifications/host-context-changed": dress,
  };

  addEventListener("message", ({ source, data }) => {
    if (source !== parent || data?.jsonrpc !== "2.0") return;
    if (data.method === undefined) {
      const waiting = answers.get(data.id);
      answers.delete(data.id);
      if (data.error) waiting?.reject(new Error(data.error.message));
      else waiting?.resolve(data.result);
    } else if (data.id === undefined) {
      told[data.method]?.(data.params ?? {});
    } else if (data.method === "ping" || data.method === "ui/resource-teardown") {
      if (data.method !== "ping") view.ended?.();
      post({ id: data.id, result: {} });
    } else {
      post({ id: data.id, error: { code: -32601, message: `no method ${data.method}` } });
    }
  });

  const words = (result) => (result.content ?? []).map((each) => each.text ?? "").join("\n");

  return {
    /** Whether the host passes calls of tools on. */
    get calls() {
      return Boolean(can.serverTools);
    },
    /** Call a tool, for the person who looks and not for the agent; its structured answer, or an Error with its text. */
    async call(name, args) {
      const result = await request("tools/call", { name, arguments: args, _meta: { "rawtap/view": true } });
      if (result.isError || !result.structuredContent) throw new Error(words(result) || `${name} gave no answer`);
      return result.structuredContent;
    },
    /** Begin: `input`, `result`, `failed` and `ended` of `shown` are called as the host tells of these. */
    async begin(name, shown) {
      view = shown;
      const params = { appInfo: { name, version: "1" }, appCapabilities: {}, protocolVersion: "2026-01-26" };
      const greeting = await request("ui/initialize", params);
      can = greeting.hostCapabilities ?? {};
      dress(greeting.hostContext);
      notify("ui/notifications/initialized");
      new ResizeObserver(() => {
        const { width, height } = document.documentElement.getBoundingClientRect();
        notify("ui/notifications/size-changed", { width: Math.ceil(width), height: Math.ceil(height) });
      }).observe(document.documentElement);
    },
  };
})();

/** An element; `text` is text, whatever it looks like. */
function made(tag, { text, on, ...attributes } = {}, ...inside) {
  const svg = ["svg", "g", "line", "path", "rect", "circle", "text", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  if (on) node.addEventListener("click", on);
  node.append(...inside);
  return node;
}

const part = (id) => document.getElementById(id);
const seconds = (time) => time.toFixed(time < 1000 ? 6 : 3);
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

const NOTES = 8;
const noted = new Map(); // sentences by what they are of
let forgotten = false;

/** Show these sentences above all that is noted, until something else is shown. */
function notes(texts, kind = "") {
  const kept = [...[...noted.values()].flat(), ...(forgotten ? ["Older notes are not kept here."] : [])];
  part("notes").replaceChildren(
    ...texts.map((text) => made("p", { class: `note data ${kind}`, text })),
    ...kept.map((text) => made("p", { class: "note data", text })),
  );
}

/** Note sentences beside those of before: what was missing once is still missing. Of `of` only the last ones hold. */
function note(texts, of = "") {
  const all = [...new Set([...(of ? [] : (noted.get(of) ?? [])), ...texts])];
  const kept = of ? all : all.slice(-NOTES);
  forgotten ||= kept.length < all.length;
  noted.set(of, kept);
  notes([]);
}

/** Findings by the packets that they are about, the causes first. */
function marked(findings) {
  const found = new Map();
  for (const each of findings) for (const number of each.packets) found.set(number, [...(found.get(number) ?? []), each]);
  return found;
}

/** What explaining has come to; "no finding" only where all was looked at. With `live` more packets may have come since. */
function verdict(findings, { more = 0, partial = false, error = "", live = false }) {
  const count = findings.length + more;
  const found = count ? counted(count, "finding") : error ? "" : "no finding";
  const told = [found && live ? `${found} so far` : found, partial ? "not everything was looked at" : "", error];
  const node = part("verdict");
  node.textContent = told.filter(Boolean).join(", ");
  node.className = `state ${count ? "bad" : partial || error ? "warn" : live ? "" : "good"}`;
  node.hidden = false;
}

const kind = (findings) => (findings.every((each) => each.follows) ? "follows" : "");

/** The findings, each a button that shows its first packet. */
function findingList(findings, show) {
  part("findings").replaceChildren(
    ...findings.map((each) =>
      made(
        "button",
        { class: `finding ${kind([each])}`, on: () => show(each) },
        made("b", { class: "data", text: each.what }),
        made("span", { class: "data", text: `  ${each.says} ` }),
        made("span", { class: "dim", text: `(${counted(each.count, "packet")}) ` }),
        made("div", { class: "data dim", text: `${each.evidence}  [${each.rule}]` }),
      ),
    ),
  );
}

/** Calls `look` again and again while it is wanted and the page is seen; it says whether there was something new. */
class Following {
  constructor(button, state, look) {
    Object.assign(this, { button, state, look, on: false, wait: 1, quiet: 0 });
    button.addEventListener("click", () => (this.on ? this.stop("paused") : this.start()));
  }

  start() {
    if (!host.calls) return this.stop("this host passes no calls on");
    Object.assign(this, { on: true, wait: 1, quiet: 0 });
    this.show("live", "live");
    this.again();
  }

  stop(why) {
    this.on = false;
    clearTimeout(this.timer);
    this.show(why, "");
  }

  show(text, how) {
    this.state.textContent = text;
    this.state.className = `state ${how}`;
    this.button.textContent = this.on ? "Pause" : "Follow";
    this.button.disabled = !host.calls;
  }

  again() {
    clearTimeout(this.timer);
    if (this.on) this.timer = setTimeout(() => this.turn(), this.wait * 1000);
  }

  async turn() {
    if (document.hidden) return this.again();
    try {
      const news = await this.look();
      this.quiet = news ? 0 : this.quiet + this.wait;
      this.wait = news ? 1 : Math.min(5, this.wait * 1.5);
    } catch (error) {
      notes([error.message], "bad");
      return this.stop("stopped");
    }
    if (this.quiet > 900) return this.stop("paused: nothing new for 15 minutes");
    this.again();
  }
}
