// Colours: of levels in the scalogram, and of instruments.

const FLOOR_DB = -78;
const TOP_DB = -14;

// From night over violet and red to pale yellow, by eye; brightness rises throughout.
const STOPS = [
  [0.0, 8, 11, 20], [0.18, 28, 22, 66], [0.36, 88, 28, 106], [0.54, 170, 47, 98],
  [0.7, 226, 88, 68], [0.85, 248, 158, 72], [1.0, 253, 240, 178],
];

// A colour for each byte of a picture: Uint32Array of 256, as ImageData has them on a little-endian machine.
export function palette(floorDb, stepDb) {
  const colours = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    const share = Math.min(1, Math.max(0, (floorDb + stepDb * byte - FLOOR_DB) / (TOP_DB - FLOOR_DB)));
    const upper = Math.max(1, STOPS.findIndex((stop) => stop[0] >= share));
    const [low, high] = [STOPS[upper - 1], STOPS[upper]];
    const between = (share - low[0]) / (high[0] - low[0]);
    const [red, green, blue] = [1, 2, 3].map((i) => Math.round(low[i] + between * (high[i] - low[i])));
    colours[byte] = (255 << 24) | (blue << 16) | (green << 8) | red;
  }
  return colours;
}

// A hue in degrees that is a name's own.
export function hueOf(name) {
  let hash = 2166136261;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  return Math.round(360 * (((hash >>> 0) * 0.6180339887) % 1));
}

export const NO_INSTRUMENT = new Set(["silence", "unknown"]);
