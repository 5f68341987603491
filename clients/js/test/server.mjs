// A real pushd for the tests, in a process that can be killed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const binary = process.env.JS_TEST_SERVER;
if (!binary) throw new Error("JS_TEST_SERVER has to name the pushd program: go test ./clients/js sets it");

/** The settings of whoever runs the tests are none of theirs. */
const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("PUSHD_")));

/** Below those that the kernel gives to connections: a server that is started again must find its own free. */
async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const server = net.createServer();
    const free = await new Promise((tell) => {
      server.once("error", () => tell(false));
      server.listen(port, "127.0.0.1", () => server.close(() => tell(true)));
    });
    if (free) return port;
  }
}

const config = `
namespaces:
  scores: {delivery: all, history: {age: 1h}}
  few: {delivery: all, history: {messages: 2}}
  stocks: {delivery: latest}
`;

/** Starts a pushd that ends with the test. Its history survives a crash. With nats it joins that of another. */
export async function startServer(t, { flags = [], env = {}, nats } = {}) {
  const dir = await mkdtemp(join(tmpdir(), "pushd-js-"));
  const [port, admin, natsPort] = [await freePort(), await freePort(), await freePort()];
  const url = `http://127.0.0.1:${port}`;
  await writeFile(join(dir, "pushd.yaml"), config);
  const args = ["--config", join(dir, "pushd.yaml"), "--store", join(dir, "data"), "--listen", `127.0.0.1:${port}`];
  args.push("--admin", `127.0.0.1:${admin}`, "--log-level", "error", ...flags);
  args.push(...(nats ? ["--nats", nats] : ["--nats-listen", `127.0.0.1:${natsPort}`]));
  let child;
  const server = {
    url,
    port,
    nats: nats ?? `nats://127.0.0.1:${natsPort}`,
    async start() {
      child = spawn(binary, args, { env: { ...clean, ...env }, stdio: ["ignore", "ignore", "inherit"] });
      for (;;) {
        const ready = await fetch(url + "/readyz").catch(() => undefined);
        if (ready?.ok) return;
        if (child.exitCode !== null) throw new Error(`pushd ended with ${child.exitCode}`);
        await new Promise((wake) => setTimeout(wake, 20));
      }
    },
    /** As a crash, or by another signal. */
    async kill(signal = "SIGKILL") {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill(signal);
      await ended;
    },
    /** What an operator asks the admin listener. */
    async operate(method, path) {
      const answer = await fetch(`http://127.0.0.1:${admin}${path}`, { method });
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
      return answer.json();
    },
    /** Ends all connections for a reason, until the client has noticed: a poll may be between two. */
    async disconnect(reason, noticed) {
      do {
        const { connections } = await server.operate("GET", "/connections");
        const ends = connections.map(({ client }) => server.operate("POST", `/connections/${client}/disconnect?reason=${reason}`));
        await Promise.allSettled(ends);
        await new Promise((wake) => setTimeout(wake, 50));
      } while (!noticed());
    },
    async publish(topic, data, headers = {}) {
      const answer = await fetch(`${url}/publish/${topic}`, { method: "POST", body: JSON.stringify(data), headers });
      if (!answer.ok) throw new Error(`publishing: ${answer.status} ${await answer.text()}`);
      return answer.json();
    },
  };
  t.after(async () => {
    await server.kill();
    await rm(dir, { recursive: true });
  });
  await server.start();
  return server;
}
