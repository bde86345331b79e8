// A server as node's manual has it: net, one loop. Says "pong" to each line.
"use strict";
const net = require("node:net");

net
  .createServer((socket) => {
    socket.on("data", (data) => socket.write("pong\n".repeat(data.toString().split("\n").length - 1)));
    socket.on("error", () => socket.destroy());
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
