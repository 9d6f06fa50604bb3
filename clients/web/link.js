// The link to mird web: one WebSocket that connects again by itself, and sleeps while the page is hidden.

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5000;
const PATIENCE_MS = 45000;

export class Link {
  // onMessage(object), onPicture(header, Uint8Array), onConnected(boolean)
  constructor({ scalogram, onMessage, onPicture = () => {}, onConnected = () => {} }) {
    this.scalogram = scalogram;
    this.onMessage = onMessage;
    this.onPicture = onPicture;
    this.onConnected = onConnected;
    this.socket = null;
    this.waitMs = FIRST_WAIT_MS;
    this.timer = 0;
    this.number = 0;
    this.asked = new Map();
    document.addEventListener("visibilitychange", () => this.visibilityChanged());
    this.connect();
  }

  // Ask the daemon for something; the promise is rejected with an Error that has one line for people.
  ask(verb, with_) {
    return new Promise((resolve, reject) => {
      if (this.socket?.readyState !== WebSocket.OPEN) {
        reject(new Error("mird web does not answer; is it running?"));
        return;
      }
      const id = ++this.number;
      const timer = setTimeout(() => this.answer(id, { error: "no answer in time; try again" }), PATIENCE_MS);
      this.asked.set(id, { resolve, reject, timer });
      this.socket.send(JSON.stringify({ do: verb, id, with: with_ }));
    });
  }

  connect() {
    clearTimeout(this.timer);
    const address = new URL("/live", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.waitMs = FIRST_WAIT_MS;
      this.onConnected(true);
      this.look();
    };
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.onConnected(false);
      for (const id of [...this.asked.keys()]) this.answer(id, { error: "the connection broke; try again" });
      this.timer = setTimeout(() => this.connect(), this.waitMs * (0.8 + 0.4 * Math.random()));
      this.waitMs = Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
    };
    this.socket = socket;
  }

  visibilityChanged() {
    if (this.socket?.readyState === WebSocket.OPEN) this.look();
    else if (!document.hidden && this.socket === null) this.connect();
  }

  look() {
    this.socket.send(JSON.stringify({ do: "look", awake: !document.hidden, scalogram: this.scalogram }));
  }

  receive(data) {
    if (typeof data !== "string") {
      const length = new DataView(data).getUint32(0, true);
      const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
      this.onPicture(header, new Uint8Array(data, 4 + length));
      return;
    }
    const message = JSON.parse(data);
    if (message.kind === "reply") this.answer(message.id, message);
    else this.onMessage(message);
  }

  answer(id, reply) {
    const asked = this.asked.get(id);
    if (!asked) return;
    this.asked.delete(id);
    clearTimeout(asked.timer);
    if (reply.ok) asked.resolve(reply.result);
    else asked.reject(new Error(reply.error));
  }
}
