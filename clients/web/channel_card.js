// One channel: the instrument now, how sure, how loud, what else it might be, and its scalogram.

import { NO_INSTRUMENT } from "./colours.js";
import { ScalogramView } from "./scalogram.js";

const QUIET_DBFS = -60;
const N_TOP = 6;

export class ChannelCard {
  // onCorrect(channel, label): the user says that this is wrong
  constructor(channel, onCorrect) {
    const card = document.getElementById("channel-card").content.firstElementChild.cloneNode(true);
    this.channel = channel;
    this.card = card;
    card.dataset.channel = channel;
    const find = (name) => card.querySelector(name);
    find(".where").textContent = `Channel ${channel}`;
    this.label = find(".label");
    this.confidence = find(".confidence");
    this.bar = find(".bar");
    this.rms = find(".rms");
    this.peak = find(".peak");
    this.dbfs = find(".dbfs");
    this.top = find(".top");
    this.view = new ScalogramView(find("canvas"), find(".axis"), find(".times"));
    this.frame = null;
    find(".wrong").addEventListener("click", () => onCorrect(channel, this.frame?.label ?? ""));
  }

  addFrame(frame) {
    this.frame = frame;
    setText(this.label, frame.label);
    this.label.title = frame.label;
    setText(this.confidence, frame.label === "silence" ? "" : `${Math.round(100 * frame.confidence)} %`);
    this.card.classList.toggle("none", NO_INSTRUMENT.has(frame.label));
    const top = frame.top.slice(0, N_TOP);
    while (this.top.children.length > top.length) this.top.lastElementChild.remove();
    top.forEach((row, i) => {
      const item = this.top.children[i] ?? this.top.appendChild(newRow());
      setText(item.children[0], row.label);
      setText(item.children[1], `${Math.round(100 * row.score)} %`);
      item.classList.toggle("least", row.score < 0.005);
      item.children[2].style.setProperty("--score", row.score.toFixed(3));
    });
  }

  addLevel(level) {
    const [rms, peak] = [level.rms_dbfs, level.peak_dbfs].map((db) => Math.min(1, Math.max(0, 1 - db / QUIET_DBFS)));
    this.rms.style.clipPath = `inset(0 ${(100 * (1 - rms)).toFixed(1)}% 0 0)`;
    this.peak.style.left = `calc(${(100 * peak).toFixed(1)}% - 2px)`;
    this.bar.classList.toggle("over", level.peak_dbfs > -0.3);
    this.bar.setAttribute("aria-valuenow", Math.round(Math.max(QUIET_DBFS, level.rms_dbfs)));
    setText(this.dbfs, level.rms_dbfs > -100 ? `${Math.round(level.rms_dbfs)} dBFS` : "no sound");
  }

  rest() {
    this.frame = null;
    setText(this.label, "–");
    setText(this.confidence, "");
    this.card.classList.add("none");
    this.top.replaceChildren();
    this.addLevel({ rms_dbfs: -200, peak_dbfs: -200 });
  }
}

function newRow() {
  const item = document.createElement("li");
  item.append(document.createElement("span"), document.createElement("b"), document.createElement("i"));
  return item;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
