"use strict";

const byId = (id) => document.getElementById(id);
const socketUrl = (path) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;
const post = (path, data) =>
  fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(data) })
    .then((response) => response.json());
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function connect(path, onMessage, onState) {
  const socket = new WebSocket(socketUrl(path));
  socket.addEventListener("message", (event) => onMessage(event.data, socket));
  socket.addEventListener("close", () => {
    onState("reconnecting");
    setTimeout(() => connect(path, onMessage, onState), 1000);
  });
}

const ping = `ping ${Math.random()}`;
connect("/ws/echo/", (data, socket) => {
  if (data === ping) {
    byId("ws").textContent = "live";
    return;
  }
  byId("ws-instance").textContent = `(${JSON.parse(data).instance})`;
  socket.send(ping);
}, (state) => { byId("ws").textContent = state; });

connect("/ws/broadcast/", (data) => {
  const message = JSON.parse(data);
  if (message.type === "broadcast") {
    byId("broadcast-result").textContent = `"${message.text}" from ${message.sender} through ${message.instance}`;
  }
}, () => {});

byId("broadcast").addEventListener("click", () =>
  post("/api/broadcast/", { text: `hello at ${new Date().toLocaleTimeString()}` }));

byId("task").addEventListener("click", async () => {
  const output = byId("task-result");
  output.textContent = "queued";
  const { id } = await post("/api/tasks/", { kind: "add", x: 19, y: 23 });
  for (let attempt = 0; attempt < 60; attempt += 1) {
    const task = await (await fetch(`/api/tasks/${id}/`)).json();
    output.textContent = task.result === null ? task.state : `${task.state}: ${task.result}`;
    if (["SUCCESS", "FAILURE"].includes(task.state)) return;
    await pause(500);
  }
});

async function heartbeat() {
  try {
    const { age } = await (await fetch("/api/heartbeat/")).json();
    byId("heartbeat").textContent = age === null ? "none yet" : `${age} s ago`;
  } catch {
    byId("heartbeat").textContent = "unknown";
  }
}
heartbeat();
setInterval(heartbeat, 5000);
