// The page of a warren: shows what its node says over a WebSocket and tells it what to do, in the JSON of README.
// Whatever comes from others is put in by textContent, and no more of it is kept than the numbers here allow.
"use strict";

const LINES = 400; // messages and notes kept a room
const NOTICES = 50;
const SHOWN = 512; // peers listed
const LOOK = 10_000; // ms between two looks at what no event tells
const GROUP = 180_000; // ms within which an author's messages stand together
const WAIT = [1_000, 30_000]; // ms before the first and the longest new try

const $ = (id) => document.getElementById(id);
const el = (tag, text, name) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
};
const short = (peer) => (peer ? "…" + peer.slice(-6) : "unsigned");
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const time = (ms) => {
  const date = new Date(ms);
  // The clock of a stranger may show what is no time at all.
  if (isNaN(date)) return el("time", "?");
  const node = el("time", clock(ms));
  node.dateTime = date.toISOString();
  node.title = date.toLocaleString();
  return node;
};

// ---- state ----

const rooms = new Map(); // name -> { list, unread, last, members }
let current = null;
let me = { peerId: "", nick: "", listening: [], external: [] };
let peers = [];
let nats = {};

let socket = null;
let tries = 0;
let retry = 0;
let wasOpen = false;
let asked = 0;
const asks = new Map(); // id -> what becomes of the answer

// ---- the line to the node ----

let token = "";
function takeToken() {
  const found = /^#token=(\w+)$/.exec(location.hash);
  try {
    if (found) sessionStorage.setItem("token", found[1]);
    token = sessionStorage.getItem("token") || "";
  } catch {
    // Without storage it lasts until the page is closed.
    if (found) token = found[1];
  }
  // Nobody reads it off the screen, and it stays out of bookmarks.
  if (location.hash) history.replaceState(null, "", location.pathname);
}

function open() {
  clearTimeout(retry);
  $("now").hidden = true;
  state("Connecting …");
  const ws = new WebSocket(`ws://${location.host}/ws`, token ? ["warren", "token." + token] : ["warren"]);
  let isOpen = false;
  socket = ws;
  ws.onopen = async () => {
    isOpen = true;
    tries = 0;
    $("ask").hidden = true;
    state("Connected", true);
    if (wasOpen) {
      notice("Connected again");
      for (const room of rooms.values()) note(room, "connected again; what was said in between is not shown");
    }
    wasOpen = true;
    await look();
    if (matchMedia("(min-width: 44rem)").matches && document.activeElement === document.body) $("text").focus();
  };
  ws.onmessage = ({ data }) => {
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      return;
    }
    const done = asks.get(event.id);
    if (done && (event.event === "ok" || event.event === "error")) {
      asks.delete(event.id);
      done(event);
    } else {
      (handlers[event.event] || (() => {}))(event);
    }
  };
  ws.onclose = () => lost(ws, isOpen);
}

async function lost(ws, wasUp) {
  if (ws !== socket) return;
  socket = null;
  for (const done of asks.values()) done({ event: "error", message: "the connection to the node is lost" });
  asks.clear();
  let why = "The node does not answer";
  if (wasUp) {
    notice("The connection to the node is lost");
  } else {
    // Browsers do not tell a page why a WebSocket was refused; the same question without one does.
    const answer = await fetch("/ws", { headers: { authorization: "Bearer " + token }, cache: "no-store" }).catch(() => 0);
    if (answer.status === 401) {
      $("ask").hidden = false;
      return state("The token is missing or wrong");
    }
    if (answer.status === 503) why = "Too many have this page open";
  }
  if (socket) return;
  const wait = Math.min(WAIT[0] * 2 ** tries++, WAIT[1]) * (0.75 + Math.random() / 2);
  state(`${why}; trying again in ${Math.ceil(wait / 1000)} s`);
  $("now").hidden = false;
  retry = setTimeout(open, wait);
}

function state(text, isOn = false) {
  $("state").textContent = text;
  $("link").dataset.state = isOn ? "on" : "off";
}

// Asks the node, and returns its `ok` or `error`.
function ask(cmd, fields = {}) {
  return new Promise((done) => {
    if (!socket || socket.readyState !== WebSocket.OPEN) {
      return done({ event: "error", message: "not connected to the node" });
    }
    const id = ++asked;
    asks.set(id, done);
    socket.send(JSON.stringify({ cmd, id, ...fields }));
  });
}

// The same for what a person wants: says so if it fails.
async function want(cmd, fields) {
  const answer = await ask(cmd, fields);
  if (answer.event === "ok") return answer;
  toast(answer.message);
  return null;
}

// ---- what the node says ----

const soon = () => {
  clearTimeout(soon.timer);
  soon.timer = setTimeout(look, 250);
};
const here = (event, text) => {
  const room = rooms.get(event.room);
  if (room) note(room, `${event.nick || short(event.peerId)} ${text}`);
  soon();
};
const handlers = {
  message: (event) => heard(event),
  member_joined: (event) => here(event, "is here"),
  member_left: (event) => here(event, "left"),
  member_renamed: (event) => here(event, `is the name of ${short(event.peerId)} now`),
  peer_connected: soon,
  peer_disconnected: soon,
  peer_path: soon,
  listening: soon,
  listening_stopped: soon,
  nat: soon,
  reachability: soon,
  error: (event) => notice(event.message),
  lagged: (event) => notice(`This page was too slow and missed ${event.missed} events`),
  stopped: () => notice("The node has ended"),
};

// Asks for all that is shown beside messages.
let isLooking = false;
async function look() {
  if (isLooking || !socket) return;
  isLooking = true;
  const [who, inRooms, withPeers, nat] = await Promise.all(["status", "rooms", "peers", "nat"].map((cmd) => ask(cmd)));
  isLooking = false;
  if (nat.event !== "ok") return;
  me = who;
  peers = withPeers.peers;
  nats = nat;
  for (const name of me.rooms) {
    const found = inRooms.rooms.find((room) => room.room === name);
    const room = rooms.get(name) || { name, list: el("ol"), unread: 0, last: null };
    room.members = found ? found.members : [];
    rooms.set(name, room);
  }
  for (const name of rooms.keys()) if (!me.rooms.includes(name)) rooms.delete(name);
  if (!rooms.has(current)) show(me.rooms[0] || null);
  drawAll();
}

function heard(event, isOwn = false) {
  const room = rooms.get(event.room);
  if (!room) return soon();
  const item = el("li", undefined, event.kind === "action" ? "action" : "");
  const from = el("div", undefined, "from");
  const name = el("bdi", event.nick || short(event.peerId));
  let hue = 0;
  for (const c of event.peerId || "") hue = (hue * 31 + c.charCodeAt(0)) % 360;
  name.style.setProperty("--hue", hue);
  const id = el("small", short(event.peerId));
  id.title = event.peerId || "";
  from.append(name, id, time(event.timeMs));
  const text = el("div", event.kind === "action" ? `${event.nick || short(event.peerId)} ${event.text}` : event.text, "text");
  text.dir = "auto";
  item.append(from, text);
  const { last } = room;
  const isMore = last && last.peer === event.peerId && last.nick === event.nick && Math.abs(event.timeMs - last.at) < GROUP;
  item.classList.toggle("more", Boolean(isMore) && event.kind !== "action");
  item.classList.toggle("own", isOwn);
  room.last = { peer: event.peerId, nick: event.nick, at: event.timeMs };
  add(room, item);
  if (!isOwn && (room.name !== current || document.hidden || !isTalkShown())) {
    room.unread++;
    drawRooms();
  }
}

function note(room, text) {
  room.last = null;
  const item = el("li", undefined, "note");
  item.append(el("span", text), " ", time(Date.now()));
  add(room, item);
}

function add(room, item) {
  const log = $("log");
  const isShown = room.name === current;
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  room.list.append(item);
  while (room.list.childElementCount > LINES) room.list.firstElementChild.remove();
  if (!isShown) return;
  if (isAtEnd || item.classList.contains("own")) log.scrollTop = log.scrollHeight;
  else if (!item.classList.contains("note")) $("down").hidden = false;
}

function notice(text) {
  const item = el("li");
  item.append(time(Date.now()), el("span", text));
  $("notices").prepend(item);
  while ($("notices").childElementCount > NOTICES) $("notices").lastElementChild.remove();
  toast(text);
}

function toast(text) {
  clearTimeout(toast.timer);
  $("toast").textContent = text;
  $("toast").hidden = false;
  toast.timer = setTimeout(() => ($("toast").hidden = true), 6000);
}

// ---- what is shown ----

const isPhone = () => getComputedStyle($("views")).display !== "none";
const isTalkShown = () => !isPhone() || document.body.dataset.view === "talk";

function view(name) {
  document.body.dataset.view = name;
  for (const button of $("views").querySelectorAll("button")) {
    if (button.dataset.to === name) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  if (name === "talk") seen();
}

function seen() {
  const room = rooms.get(current);
  if (room && !document.hidden && isTalkShown()) room.unread = 0;
  drawRooms();
}

function show(name) {
  current = name;
  const log = $("log");
  // What was said before is not announced again.
  log.setAttribute("aria-busy", "true");
  log.replaceChildren(...(rooms.has(name) ? [rooms.get(name).list] : []));
  log.scrollTop = log.scrollHeight;
  $("down").hidden = true;
  setTimeout(() => log.removeAttribute("aria-busy"), 100);
  seen();
  drawTalk();
}

function drawAll() {
  drawRooms();
  drawTalk();
  drawPeers();
  drawNode();
}

function drawRooms() {
  let all = 0;
  keep($("roomlist"), [...rooms.values()].map((room) => {
    const button = el("button");
    button.type = "button";
    button.dataset.key = room.name;
    button.append(el("bdi", room.name));
    all += room.unread;
    if (room.unread) {
      const badge = el("span", room.unread, "badge");
      badge.append(el("span", " unread", "vh"));
      button.append(badge);
    } else {
      const count = el("span", room.members.length || "", "count");
      if (room.members.length) count.append(el("span", " others", "vh"));
      button.append(count);
    }
    if (room.name === current) button.setAttribute("aria-current", "true");
    button.onclick = () => {
      show(room.name);
      view("talk");
      if (!isPhone()) $("text").focus();
    };
    return button;
  }), "Not in any room.");
  $("all").textContent = all;
  $("all").hidden = !all;
  document.title = (all ? `(${all}) ` : "") + (me.nick ? `${me.nick} · warren` : "warren");
}

function drawTalk() {
  const room = rooms.get(current);
  $("h-talk").textContent = room ? room.name : "No room";
  const names = room ? room.members.map((member) => member.nick || short(member.peerId)) : [];
  $("with").textContent = !room ? "Join one to talk." : names.length ? "with " + names.slice(0, 20).join(", ") + (names.length > 20 ? " …" : "") : "nobody else yet";
  $("leave").hidden = !room;
}

// "direct, QUIC" or "through relay …abc123, TCP", by the addresses of the connections.
function way(peer) {
  const addr = peer.addrs.find((addr) => addr.includes("/p2p-circuit") === (peer.path === "relayed")) || "";
  const by = addr.includes("/quic") ? "QUIC" : addr.includes("/tcp/") ? "TCP" : "";
  const relay = /\/p2p\/([^/]+)\/p2p-circuit/.exec(addr);
  const path = peer.path === "relayed" ? "through relay" + (relay ? " " + named(relay[1]) : "") : "direct";
  return by ? `${path}, ${by}` : path;
}

function named(id) {
  const peer = peers.find((peer) => peer.peerId === id);
  return (peer && peer.nick) || short(id);
}

function drawPeers() {
  $("peercount").textContent = peers.length;
  keep($("peerlist"), peers.slice(0, SHOWN).map((peer) => {
    const item = el("div");
    item.dataset.key = peer.peerId;
    const name = el("p");
    name.append(el("span", undefined, "dot " + peer.path), el("bdi", peer.nick || short(peer.peerId)));
    name.title = peer.peerId;
    const rtt = peer.rttMs === undefined ? "" : `${peer.rttMs < 10 ? peer.rttMs.toFixed(1) : Math.round(peer.rttMs)} ms · `;
    const line = el("p", `${rtt}${way(peer)} · ${peer.direction} · ${short(peer.peerId)}`);
    line.title = peer.addrs.join("\n");
    item.append(name, line);
    return item;
  }), "Nobody is connected yet. Give another warren an address of this node, or connect to one of its.");
}

const VERDICTS = {
  reachable: "Others can dial this node.",
  partly: "Others can dial this node by IPv6 only.",
  unreachable: "Others cannot dial this node; it is reached through relays.",
  unknown: "Nobody has tried yet to dial this node.",
};

function drawNode() {
  $("me").textContent = me.nick;
  if (document.activeElement !== $("nick")) $("nick").value = me.nick;
  const facts = [];
  const fact = (name, ...values) => {
    if (values.length) facts.push(el("dt", name), ...values);
  };
  const dd = (text) => el("dd", text);
  const copied = (text) => {
    const item = el("dd", undefined, "copied");
    const button = el("button", "Copy", "copy");
    button.type = "button";
    button.setAttribute("aria-label", "Copy " + text);
    button.dataset.key = text;
    button.onclick = () => copy(text, button);
    item.append(el("code", text), button);
    return item;
  };
  // As others need it.
  const full = (addr) => copied(addr.includes("/p2p/" + me.peerId) ? addr : `${addr}/p2p/${me.peerId}`);
  fact("Peer ID", copied(me.peerId));
  fact("Reachability", dd(VERDICTS[nats.verdict] || "Not looked at."));
  for (const nat of nats.nats || []) {
    fact(`NAT, ${nat.family}`, dd(nat.reach), dd(`mapping ${nat.mapping}, filtering ${nat.filtering}, ports ${nat.ports}`));
  }
  fact("Held by relays", ...nats.relays.map((relay) => dd(named(relay))));
  fact("Seen from outside", ...me.external.map(full));
  fact("Listening at", ...me.listening.map(full));
  const minutes = Math.floor(me.uptimeMs / 60000);
  const up = minutes < 60 ? `${minutes} min` : minutes < 2880 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} days`;
  fact("Since its start", dd(`${up}, ${me.sent} messages said and ${me.delivered} heard`));
  keepFocus($("facts"), () => $("facts").replaceChildren(...facts));
}

// Fills a list; what had the keyboard's focus has it again, and nothing is touched that is as before.
function keep(list, items, empty) {
  const rows = items.map((item) => {
    const row = el("li");
    row.append(item);
    return row;
  });
  if (!rows.length) rows.push(el("li", empty, "empty"));
  const isSame = rows.length === list.childElementCount && rows.every((row, i) => row.isEqualNode(list.children[i]));
  if (!isSame) keepFocus(list, () => list.replaceChildren(...rows));
}

function keepFocus(parent, draw) {
  const key = parent.contains(document.activeElement) && document.activeElement.dataset.key;
  draw();
  if (key) [...parent.querySelectorAll("[data-key]")].find((node) => node.dataset.key === key)?.focus();
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers give the clipboard to pages of this machine only; elsewhere the old way does.
    const area = el("textarea", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  toast("Copied");
}

// ---- what the person does ----

const submit = (id, act) => $(id).addEventListener("submit", (event) => (event.preventDefault(), act()));

submit("say", async () => {
  const text = $("text").value;
  if (!text.trim() || !current) return;
  const isAction = text.startsWith("/me ");
  const said = isAction ? text.slice(4) : text;
  const kind = isAction ? "action" : "text";
  $("text").value = "";
  grow();
  const answer = await want("send", { room: current, kind, text: said });
  if (answer) heard({ room: answer.room, peerId: me.peerId, nick: me.nick, kind, text: said, timeMs: Date.now() }, true);
  // What was not sent is not lost, unless the next one is being written.
  else if (!$("text").value) $("text").value = text;
  grow();
});

submit("join", async () => {
  const room = $("room").value.trim();
  if (!(await want("join", { room }))) return;
  $("room").value = "";
  await look();
  if (!rooms.has(room)) return soon();
  show(room);
  view("talk");
  $("text").focus();
});

submit("connect", async () => {
  if (!(await want("connect", { addr: $("addr").value.trim() }))) return;
  $("addr").value = "";
  toast("Dialling …");
});

submit("rename", async () => {
  if (!(await want("nick", { nick: $("nick").value.trim() }))) return;
  toast("Others see your new name");
  look();
});

submit("ask", () => {
  location.hash = "token=" + $("token").value.trim().replace(/^.*token=/, "").replace(/\W/g, "");
  $("token").value = "";
});

$("leave").onclick = async () => {
  if (await want("leave", { room: current })) look();
};
$("down").onclick = () => {
  $("log").scrollTop = $("log").scrollHeight;
  $("text").focus();
};
$("log").onscroll = () => {
  const log = $("log");
  if (log.scrollHeight - log.scrollTop - log.clientHeight < 40) $("down").hidden = true;
};
$("now").onclick = open;
$("views").onclick = (event) => {
  const button = event.target.closest("button");
  if (button) view(button.dataset.to);
};
$("text").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("say").requestSubmit();
};

function grow() {
  $("text").style.height = "auto";
  $("text").style.height = $("text").scrollHeight + 2 + "px";
}
$("text").oninput = grow;

addEventListener("hashchange", () => {
  takeToken();
  if (!socket) open();
});
addEventListener("online", () => socket || open());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  seen();
  look();
});
setInterval(() => document.hidden || look(), LOOK);

takeToken();
open();
