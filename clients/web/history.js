// What was heard: the latest event on top, each with its time, length and a way to correct it.

import { hueOf, NO_INSTRUMENT } from "./colours.js";

const N_SHOWN = 60;

export class History {
  // onCorrect(event)
  constructor(list, onCorrect) {
    this.list = list;
    this.onCorrect = onCorrect;
    this.items = new Map();
    this.runId = "";
    this.manyChannels = false;
  }

  restart(events, runId) {
    this.list.replaceChildren();
    this.items.clear();
    this.runId = runId;
    for (const event of events) this.add(event);
  }

  // Returns whether the event is new here.
  add(event) {
    if (NO_INSTRUMENT.has(event.label)) return false;
    let item = this.items.get(event.event_id);
    const isNew = item === undefined;
    if (isNew) {
      item = this.newItem(event);
      this.items.set(event.event_id, item);
      this.list.prepend(item.row);
      if (this.items.size > N_SHOWN) {
        const [oldest] = this.items.keys();
        this.items.get(oldest).row.remove();
        this.items.delete(oldest);
      }
    }
    item.event = event;
    this.show(item);
    return isNew;
  }

  // Another run of the daemon has begun: what still ran will get no end.
  setRun(runId) {
    this.runId = runId;
    for (const item of this.items.values()) this.show(item);
  }

  show({ row, when, long, event }) {
    const running = event.event === "start" && event.run_id === this.runId;
    row.classList.toggle("running", running);
    const start = new Date(event.start_utc_ns / 1e6);
    const clock = start.toLocaleTimeString([], { timeStyle: "medium", hourCycle: "h23" });
    when.textContent = this.manyChannels ? `${clock} · channel ${event.channel}` : clock;
    const seconds = event.sample_end === null ? null : (event.sample_end - event.sample_start) / event.rate_hz;
    long.textContent = seconds === null ? (running ? "now" : "broken off") : `${seconds.toFixed(1)} s`;
  }

  newItem(event) {
    const row = document.createElement("li");
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.setProperty("--hue", hueOf(event.label));
    const what = document.createElement("div");
    what.className = "what";
    what.append(event.label);
    const when = document.createElement("span");
    when.className = "when";
    what.append(when);
    const long = document.createElement("span");
    long.className = "long";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Correct";
    button.setAttribute("aria-label", `Correct: this was not ${event.label}`);
    const item = { row, when, long, event };
    button.addEventListener("click", () => this.onCorrect(item.event));
    row.append(dot, what, long, button);
    return item;
  }
}
