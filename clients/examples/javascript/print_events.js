// Print what starts and ends: node print_events.js [ADDRESS]
import { decode } from "@msgpack/msgpack";
import { Subscriber } from "zeromq";

const subscriber = new Subscriber();
subscriber.connect(process.argv[2] ?? "tcp://127.0.0.1:7475");
subscriber.subscribe("mird/1/");

for await (const [topic, payload] of subscriber) {
  if (!topic.toString().endsWith("/event/")) continue;
  const message = decode(payload, { useBigInt64: true }); // times in nanoseconds are larger than 2 ** 53
  if (message.schema !== 1) continue;
  const score = Math.round(100 * message.score);
  console.log(`channel ${message.channel}: ${message.label} ${message.event} (${score}%)`);
}
