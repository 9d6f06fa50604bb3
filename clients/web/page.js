// The page: hands what comes over the link to its parts.

import { ChannelCard } from "./channel_card.js";
import { Classes } from "./classes.js";
import { History } from "./history.js";
import { Link } from "./link.js";
import { Teach } from "./teach.js";

const at = (id) => document.getElementById(id);
const cards = new Map();
let run = "";
let connected = false;
let daemon = true;
let toAnnounce = "";

const ask = (verb, arguments_) => link.ask(verb, arguments_);
const report = (text, isBad = false) => {
  at("teach-report").textContent = text;
  at("teach-report").classList.toggle("bad", isBad);
};
const history = new History(at("history"), (event) => correct(event.label, { event_id: event.event_id }));
const classes = new Classes(at("classes"), at("names"), at("class-count"), at("filter"), ask, report);
const teach = new Teach(ask, report);
const link = new Link({
  scalogram: true,
  onMessage: take,
  onPicture: (header, levels) => card(header.channel).view.add(header, levels),
  onConnected: (is) => {
    connected = is;
    showNotice();
    if (!is) restAll(); // what was so is not known to be so now
  },
});

function take(message) {
  if (message.run_id && message.run_id !== run) {
    run = message.run_id;
    history.setRun(run);
  }
  const take_ = {
    snapshot: takeSnapshot,
    state: takeState,
    hb: takeHeartbeat,
    frame: (frame) => card(frame.channel).addFrame(frame),
    level: (level) => card(level.channel).addLevel(level),
    event: takeEvent,
    classes: ({ classes: listing }) => classes.update(listing),
    link: (is) => {
      daemon = is.daemon;
      showNotice();
      if (!daemon) restAll();
    },
  }[message.kind];
  take_?.(message);
}

function takeSnapshot(snapshot) {
  daemon = snapshot.daemon;
  if (snapshot.state) takeState(snapshot.state);
  else showState("NONE", "");
  showNotice(); // last: what a silent daemon was is not shown
  if (snapshot.hb) takeHeartbeat(snapshot.hb);
  history.restart(snapshot.events, snapshot.run_id);
  for (const event of snapshot.events) if (event.channel) cards.get(event.channel)?.view.addEvent(event);
  for (const message of snapshot.latest) take(message);
  if (snapshot.classes) classes.update(snapshot.classes);
}

function takeState(state) {
  showState(state.state, state.detail);
  at("source").textContent = state.source;
  at("source").title = state.detail;
  at("engine").textContent = `mird ${state.version} · ${state.engine}`;
  document.title = `${state.source} · mird`;
  if (state.channels.length) {
    for (const channel of [...cards.keys()]) if (!state.channels.includes(channel)) dropCard(channel);
    state.channels.forEach(card);
    teach.setChannels(state.channels);
    history.manyChannels = state.channels.length > 1;
  }
  if (state.state !== "LIVE") restAll();
}

function showState(state, detail) {
  at("state").dataset.state = state;
  at("state").textContent = state === "NONE" ? "no daemon" : state.toLowerCase();
  at("state").title = detail;
  if (state !== "LIVE" && detail) at("source").textContent = detail;
}

const TROUBLES = { n_hops_skipped: "hops skipped", n_overflows: "overflows", n_gaps: "gaps", n_lost_frames: "samples lost" };

function takeHeartbeat(heartbeat) {
  const { latency_p50_ms: p50, latency_p99_ms: p99, uptime_s: up, counters } = heartbeat;
  at("latency").textContent = p50 === null ? "–" : `${p50.toFixed(0)} ms, p99 ${p99.toFixed(0)} ms`;
  const [hours, minutes, seconds] = [Math.floor(up / 3600), Math.floor(up / 60) % 60, Math.floor(up) % 60];
  at("uptime").textContent = hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${seconds} s` : `${seconds} s`;
  const troubles = Object.entries(TROUBLES).filter(([name]) => counters[name] > 0);
  at("trouble").hidden = !troubles.length;
  at("trouble").lastElementChild.textContent = troubles.map(([name, text]) => `${counters[name]} ${text}`).join(", ");
}

function takeEvent(event) {
  const isNew = history.add(event);
  card(event.channel).view.addEvent(event);
  if (isNew && event.event === "start" && !event.replay) {
    toAnnounce = `${cards.size > 1 ? `Channel ${event.channel}: ` : ""}${event.label}, ${Math.round(100 * event.score)} percent`;
  }
}

function card(channel) {
  let known = cards.get(channel);
  if (!known) {
    known = new ChannelCard(channel, (where, label) => correct(label, { channel: where }));
    known.rest();
    cards.set(channel, known);
    const after = [...cards.keys()].filter((each) => each > channel).sort((a, b) => a - b)[0];
    at("channels").insertBefore(known.card, after === undefined ? null : cards.get(after).card);
  }
  return known;
}

function dropCard(channel) {
  cards.get(channel).card.remove();
  cards.delete(channel);
}

function restAll() {
  for (const each of cards.values()) each.rest();
}

function showNotice() {
  const text = !connected
    ? "No connection to mird web; trying again."
    : daemon ? "" : "The daemon is silent; this page goes on when it does. Start one with: mird run";
  at("notice").textContent = text;
  if (text) showState("NONE", "");
}

function correct(label, where) {
  at("correct-what").textContent = label ? `mird heard: ${label}` : "";
  at("correct-error").textContent = "";
  at("correct-name").value = "";
  at("correct").where = where;
  at("correct").showModal();
  at("correct-name").focus();
}

at("correct-cancel").addEventListener("click", () => at("correct").close());
at("correct-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = at("correct-name").value.trim();
  try {
    await ask("correct", { name, ...at("correct").where });
    at("correct").close();
    report(`Noted: that was ${name}. Undo takes it back.`);
  } catch (error) {
    at("correct-error").textContent = error.message;
  }
});
at("undo").addEventListener("click", async () => {
  try {
    await ask("undo", {});
    report("The last change is taken back.");
  } catch (error) {
    report(error.message, true);
  }
});

// A screen reader is told of what is new at most every two seconds.
setInterval(() => {
  if (toAnnounce) at("announcer").textContent = toAnnounce;
  toAnnounce = "";
}, 2000);

function draw() {
  for (const each of cards.values()) each.view.draw();
  requestAnimationFrame(draw);
}
requestAnimationFrame(draw);
