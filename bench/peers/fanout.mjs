// Node's ws, or uWebSockets.js, as a peer of fan-out: node fanout.mjs ws|uws FOLDER VIEWERS one|own
// FOLDER holds node_modules. Obeys the words of bench/publishing.py.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [, , library, folder, viewers, way] = process.argv;
const load = createRequire(folder + "/");
const SIZE = 300;
const topics = way === "own" ? Number(viewers) : 1;

function text() {
  const stamp = String(process.hrtime.bigint()).padStart(16, "0");
  const head = '{"v":1,"type":"progressed","data":{"t":"' + stamp + '","x":"';
  return head + "x".repeat(SIZE - head.length - 3) + '"}}';
}

let publish;
if (library === "ws") {
  const { WebSocketServer } = load("ws");
  const rooms = new Map();
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", backlog: 4096, perMessageDeflate: false });
  server.on("listening", () => console.log(JSON.stringify({ port: server.address().port })));
  server.on("connection", (socket, request) => {
    const topic = Number(request.url.split("/").pop());
    if (!rooms.has(topic)) rooms.set(topic, new Set());
    rooms.get(topic).add(socket);
    socket._socket.setNoDelay(true);
    socket.on("message", () => socket.send('{"type": "subscribed"}'));
  });
  publish = (topic) => {
    const said = Buffer.from(text());
    for (const socket of rooms.get(topic) ?? []) socket.send(said, { binary: false });
  };
} else {
  const uws = load("@btc-vision/uwebsockets.js");
  const app = uws.App().ws("/*", {
    maxBackpressure: 64 * 1024 * 1024, idleTimeout: 0,
    upgrade: (res, req, context) => res.upgrade(
      { topic: req.getUrl().split("/").pop() }, req.getHeader("sec-websocket-key"),
      req.getHeader("sec-websocket-protocol"), req.getHeader("sec-websocket-extensions"), context,
    ),
    open: (socket) => socket.subscribe(socket.getUserData().topic),
    message: (socket) => socket.send('{"type": "subscribed"}'),
  });
  app.listen("127.0.0.1", 0, (token) => console.log(JSON.stringify({ port: uws.us_socket_local_port(token) })));
  publish = (topic) => app.publish(String(topic), text());
}

let flow = null;
createInterface({ input: process.stdin }).on("line", (line) => {
  const [word, number] = line.split(" ");
  clearTimeout(flow);
  if (word === "steady") {
    const began = performance.now();
    let sent = 0;
    const go = () => {
      const due = Math.floor((performance.now() - began) / 1000 * number);
      sent = Math.max(sent, due - Math.floor(number / 10) - 1); // what could not be published in time is left out
      for (; sent < due; sent += 1) publish(sent % topics);
      flow = setTimeout(go, 1);
    };
    go();
  } else if (word === "burst") {
    for (let event = 0; event < Number(number); event += 1) for (let topic = 0; topic < topics; topic += 1) publish(topic);
  }
}).on("close", () => process.exit());
