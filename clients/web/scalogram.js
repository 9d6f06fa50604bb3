// A scrolling scalogram: columns go into a ring of pixels by their place in time, and the newest seconds are drawn.

import { hueOf, NO_INSTRUMENT, palette } from "./colours.js";

const SHOWN_S = 10;
const LANE = 22; // height of the lane with the instruments' names, in CSS pixels
const TICKS_HZ = [50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000];

export class ScalogramView {
  constructor(canvas, axis, times) {
    this.canvas = canvas;
    this.axis = axis;
    this.ring = document.createElement("canvas");
    this.events = new Map();
    this.streamId = "";
    this.end = 0; // of the newest column, in samples
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    for (let s = 0; s <= SHOWN_S; s += 2) {
      const tick = document.createElement("span");
      tick.textContent = s === SHOWN_S ? "now" : `−${SHOWN_S - s} s`;
      tick.style.left = `${(100 * s) / SHOWN_S}%`;
      times.append(tick);
    }
  }

  add(header, levels) {
    if (header.stream_id !== this.streamId || header.n_rows !== this.ring.height) this.restart(header);
    const samples = (header.sample_end - header.sample_start) / header.n_columns;
    const first = Math.round(header.sample_start / samples);
    const { width, height } = this.ring;
    const gap = Math.min(first - this.nextColumn, width);
    for (let i = 0; i < gap; i++) this.pen.clearRect((first - 1 - i + width * 4) % width, 0, 1, height);
    for (let column = 0; column < header.n_columns; column++) {
      for (let row = 0; row < height; row++) this.pixels[row] = this.colours[levels[column * height + row]];
      this.pen.putImageData(this.strip, (first + column) % width, 0);
    }
    this.nextColumn = first + header.n_columns;
    this.samplesPerColumn = samples;
    this.rateHz = header.rate_hz;
    this.end = header.sample_end;
    const nowMs = performance.now();
    const shownEnd = this.anchorEnd + ((nowMs - this.anchorMs) / 1000) * this.rateHz;
    // Scroll evenly, somewhat behind the newest column; begin anew where that has drifted.
    if (!(Math.abs(shownEnd - (this.end - 0.12 * this.rateHz)) < 0.25 * this.rateHz)) {
      this.anchorEnd = this.end - 0.12 * this.rateHz;
      this.anchorMs = nowMs;
    }
  }

  restart(header) {
    this.streamId = header.stream_id;
    const perSecond = Math.round((header.n_columns * header.rate_hz) / (header.sample_end - header.sample_start));
    this.ring.width = Math.ceil(perSecond * (SHOWN_S + 2));
    this.ring.height = header.n_rows;
    this.pen = this.ring.getContext("2d");
    this.strip = this.pen.createImageData(1, header.n_rows);
    this.pixels = new Uint32Array(this.strip.data.buffer);
    this.colours = palette(header.floor_db, header.step_db);
    this.nextColumn = Number.MAX_SAFE_INTEGER;
    this.anchorEnd = NaN;
    this.anchorMs = 0;
    this.label(header);
  }

  // Where a frequency stands: 0 at the picture's lower edge, 1 at the upper.
  static place(header, hz) {
    const { highest_hz: high, lowest_hz: low, n_rows: n } = header;
    const rows = header.spacing === "log" ? Math.log(hz / low) / Math.log(high / low) : (hz - low) / (high - low);
    return (rows * (n - 1) + 0.5) / n;
  }

  label(header) {
    this.axis.replaceChildren();
    this.lines = [];
    for (const hz of TICKS_HZ) {
      const place = ScalogramView.place(header, hz);
      if (place < 0 || place > 1) continue;
      const tick = document.createElement("span");
      tick.textContent = hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`;
      tick.style.bottom = `calc(${LANE}px + (100% - ${LANE}px) * ${place})`;
      this.axis.append(tick);
      this.lines.push(place);
    }
  }

  addEvent(event) {
    this.events.set(event.event_id, event);
    if (this.events.size > 100) this.events.delete(this.events.keys().next().value);
  }

  draw() {
    const scale = devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * scale);
    const height = Math.round(this.canvas.clientHeight * scale);
    if (!width) return;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    if (!this.samplesPerColumn) return;
    const moved = ((performance.now() - this.anchorMs) / 1000) * this.rateHz;
    const end = this.still.matches ? this.end : Math.min(this.anchorEnd + moved, this.end);
    const lane = LANE * scale;
    this.drawColumns(pen, end / this.samplesPerColumn, width, height - lane);
    this.drawLines(pen, width, height - lane, scale);
    this.drawEvents(pen, end, width, height - lane, lane, scale);
  }

  drawColumns(pen, endColumn, width, height) {
    const shown = (SHOWN_S * this.rateHz) / this.samplesPerColumn;
    const size = this.ring.width;
    const toX = (column) => ((column - endColumn + shown) / shown) * width;
    let from = Math.max(0, Math.ceil(endColumn - shown) - 1);
    const last = Math.min(Math.floor(endColumn) + 1, this.nextColumn);
    pen.imageSmoothingEnabled = true;
    while (from < last) {
      const at = from % size;
      const n = Math.min(last - from, size - at);
      pen.drawImage(this.ring, at, 0, n, this.ring.height, toX(from), 0, toX(from + n) - toX(from), height);
      from += n;
    }
  }

  drawLines(pen, width, height, scale) {
    pen.fillStyle = "rgb(255 255 255 / 9%)";
    for (const place of this.lines) pen.fillRect(0, Math.round((1 - place) * height), width, scale);
  }

  drawEvents(pen, end, width, top, lane, scale) {
    const span = SHOWN_S * this.rateHz;
    pen.font = `600 ${12 * scale}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    for (const event of this.events.values()) {
      if (event.stream_id !== this.streamId || NO_INSTRUMENT.has(event.label)) continue;
      const from = Math.max(0, ((event.sample_start - end + span) / span) * width);
      const to = Math.min(width, (((event.sample_end ?? end) - end + span) / span) * width);
      if (to <= 0 || from >= width || to - from < 1) continue;
      const hue = hueOf(event.label);
      pen.fillStyle = `hsl(${hue} 55% 46%)`;
      pen.beginPath();
      pen.roundRect(from + scale, top + 3 * scale, to - from - 2 * scale, lane - 5 * scale, 4 * scale);
      pen.fill();
      pen.save();
      pen.clip();
      pen.fillStyle = "white";
      pen.fillText(event.label, from + 7 * scale, top + lane / 2 + scale / 2);
      pen.restore();
    }
  }
}
