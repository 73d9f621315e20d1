// A client in JavaScript, from sections 6 and 7 of the design alone; Node's own modules only.
//
// node [--experimental-websocket] foreign_client.js CONTROL_PORT TOKEN TARGET SERVICE TEXT
// visits a service, sends TEXT behind the preamble, and prints what comes back as a line of JSON.
// Its WebSocket cannot set headers: the token travels in the register message.

"use strict";

const crypto = require("node:crypto");
const net = require("node:net");

const [port, token, target, service, text] = process.argv.slice(2);
const heard = [];

function preamble(session, key, role, channel) {
  const head = Buffer.alloc(48);
  head.write("RTN1", 0, "ascii");
  head.writeUInt8(role, 4);
  Buffer.from(session, "hex").copy(head, 8);
  head.writeBigUInt64BE(BigInt(channel), 24);
  crypto.randomBytes(16).copy(head, 32);
  const tag = crypto.createHmac("sha256", key).update(head).digest().subarray(0, 16);
  return Buffer.concat([head, tag]);
}

function visit(granted, done) {
  const key = Buffer.from(granted.channelKey, "base64");
  const { host, port: relay } = granted.relayAddr;
  const leg = net.connect({ host, port: relay, allowHalfOpen: true }, () => {
    leg.write(Buffer.concat([preamble(granted.sessionId, key, 1, 0), Buffer.from(text)]));
    leg.end();
  });
  const parts = [];
  leg.on("data", (part) => parts.push(part));
  leg.on("end", () => done(Buffer.concat(parts).toString()));
}

const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
const say = (type, payload) => socket.send(JSON.stringify({ type, payload }));

socket.onopen = () => say("register", { clientId: "javascript", services: [], token });
socket.onmessage = ({ data }) => {
  const { type, payload } = JSON.parse(data);
  heard.push(type);
  if (type === "register_response") say("heartbeat", { timestamp: 1234567890123 });
  if (type === "heartbeat") say("get_client_list", {});
  if (type === "client_list") say("connect_request", { toClientId: target, serviceId: service });
  if (type === "create_session") {
    visit(payload, (answer) => {
      console.log(JSON.stringify({ heard, answer }));
      say("unregister", {});
    });
  }
  if (type === "error") {
    console.error(JSON.stringify(payload));
    process.exit(1);
  }
};
socket.onclose = () => process.exit(0);
