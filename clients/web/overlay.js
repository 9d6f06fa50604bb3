// The overlay: one tag a channel while an instrument is heard there.
// In its address: ?channel=1,3 (those alone), ?align=left|center|right, ?size=6 (percent of the height).

import { hueOf, NO_INSTRUMENT } from "./colours.js";
import { Link } from "./link.js";

const wanted = new URLSearchParams(location.search);
const only = (wanted.get("channel") ?? "").split(",").filter(Boolean).map(Number);
const place = document.getElementById("channels");
const tags = new Map();
let channels = [];

if (["center", "right"].includes(wanted.get("align"))) place.dataset.align = wanted.get("align");
const size = Number(wanted.get("size"));
if (size > 0 && size <= 50) place.style.setProperty("--size", String(size));

new Link({ scalogram: false, onMessage: take, onConnected: (is) => is || hideAll() });

function take(message) {
  if (message.kind === "snapshot") {
    hideAll();
    if (message.state) channels = message.state.channels;
    message.latest.forEach(take);
  } else if (message.kind === "state") {
    channels = message.channels;
    if (message.state !== "LIVE") hideAll();
  } else if (message.kind === "link" && !message.daemon) hideAll();
  else if (message.kind === "frame" && (!only.length || only.includes(message.channel))) show(message);
}

function show(frame) {
  const tag = tags.get(frame.channel) ?? newTag(frame.channel);
  const heard = !NO_INSTRUMENT.has(frame.label);
  tag.root.classList.toggle("shown", heard);
  tag.where.hidden = channels.length < 2;
  if (!heard) return; // the old name fades
  tag.label.textContent = frame.label;
  tag.confidence.textContent = `${Math.round(100 * frame.confidence)} %`;
  tag.bar.style.width = `${(100 * frame.confidence).toFixed(1)}%`;
  tag.root.style.setProperty("--hue", hueOf(frame.label));
}

function newTag(channel) {
  const make = (name, kind = "span") => {
    const element = document.createElement(kind);
    element.className = name;
    return element;
  };
  const tag = { root: make("tag", "div"), where: make("where"), label: make("label"), confidence: make("confidence"), bar: document.createElement("i") };
  tag.where.textContent = `Channel ${channel}`;
  const bar = make("bar");
  bar.append(tag.bar);
  tag.root.append(tag.where, tag.label, tag.confidence, bar);
  tags.set(channel, tag);
  place.append(...[...tags].sort(([a], [b]) => a - b).map(([, each]) => each.root));
  return tag;
}

function hideAll() {
  for (const tag of tags.values()) tag.root.classList.remove("shown");
}
