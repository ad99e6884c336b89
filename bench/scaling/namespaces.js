import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The network device of each side: alike, since MPI libraries are told its name once for all ranks. */
const DEVICE = "ek0";
const hosts = ["10.77.0.1", "10.77.0.2"];
/** Bytes of a packet over TUN devices, each of which the relay handles by itself. */
const RELAYED_BYTES = 16384;
/**
 * What may go at once before the rate holds, in bytes at least and in seconds of it. Less than the largest piece that TCP hands down is cut into packets
 * by the processor, and fast links want more, as the kernel looks seldom.
 */
const BURST = { bytes: 72_000, seconds: 2e-4 };

const relay = fileURLToPath(new URL("./relay.js", import.meta.url));

function run(command, ...args) {
  const { status, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? stderr.trim()}`);
}

let opened = 0;

/** Why there can be no network of namespaces here; null where there can. */
export function whyNoNetwork() {
  if (process.platform !== "linux") return "network namespaces are Linux's";
  if (process.getuid() !== 0) return "ip netns needs root";
  const probe = `evenkeel-${process.pid}-probe`;
  const { status, stderr, error } = spawnSync("ip", ["netns", "add", probe], { encoding: "utf8" });
  if (status !== 0) return `ip netns add: ${error?.message ?? stderr.trim()}`;
  spawnSync("ip", ["netns", "delete", probe]);
  return existsSync("/dev/net/tun") ? null : "there is no /dev/net/tun";
}

function waitFor(what, isThere) {
  const until = performance.now() + 10_000;
  while (!isThere()) {
    if (performance.now() > until) throw new Error(`${what} did not come up within 10 s`);
    spawnSync("sleep", ["0.02"]);
  }
}

/** Starts the program that delays packets, and waits until its two devices are there. */
function startRelay(names, delay) {
  const child = spawn(process.execPath, [relay, ...names, `${delay}`], { stdio: ["ignore", "ignore", "inherit"] });
  waitFor("the relay", () => names.every((name) => existsSync(`/sys/class/net/${name}`)));
  return child;
}

/**
 * Two network namespaces, each with a host name of its own, joined by a link of `bitsPerSecond` and with `delay` seconds each way. They reach
 * each other and nothing else. The rate is held by a token bucket; the delay, where there is one, by a program that carries the
 * packets between two TUN devices. `hosts`, `agent` and `device` are what an MPI launcher needs; `inside` makes a command one
 * that runs in the first namespace. close() takes all of it away, with whatever still runs there; it is also done when this process ends.
 * Throws where `ip` does.
 */
export function openNetwork({ bitsPerSecond = Infinity, delay = 0 } = {}) {
  const name = `evenkeel-${process.pid}-${opened++}`;
  const sides = [`${name}-a`, `${name}-b`];
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-network-"));
  const agent = join(folder, "agent.sh");
  let child = null;
  const close = () => {
    process.off("exit", close);
    for (const side of sides) {
      const pids = spawnSync("ip", ["netns", "pids", side], { encoding: "utf8" }).stdout.split("\n").filter(Boolean);
      for (const pid of pids) spawnSync("kill", ["-9", pid]);
      spawnSync("ip", ["netns", "delete", side]);
    }
    child?.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  };
  process.on("exit", close);
  try {
    for (const side of sides) run("ip", "netns", "add", side);
    if (delay > 0) {
      const devices = sides.map((_, i) => `ek${process.pid}${"ab"[i]}`);
      child = startRelay(devices, delay);
      for (const [i, side] of sides.entries()) {
        run("ip", "link", "set", devices[i], "netns", side, "name", DEVICE);
        run("ip", "-n", side, "link", "set", DEVICE, "mtu", `${RELAYED_BYTES}`);
      }
    } else {
      const [a, b] = sides;
      run("ip", "link", "add", DEVICE, "netns", a, "type", "veth", "peer", "name", DEVICE, "netns", b);
    }
    for (const [i, side] of sides.entries()) {
      run("ip", "-n", side, "link", "set", "lo", "up");
      run("ip", "-n", side, "addr", "add", `${hosts[i]}/24`, "dev", DEVICE);
      run("ip", "-n", side, "link", "set", DEVICE, "up");
      if (bitsPerSecond < Infinity) {
        const burst = Math.ceil(Math.max(BURST.bytes, (bitsPerSecond / 8) * BURST.seconds));
        const limit = ["rate", `${bitsPerSecond}bit`, "burst", `${burst}`, "limit", "16mb"];
        run("tc", "-n", side, "qdisc", "add", "dev", DEVICE, "root", "tbf", ...limit);
      }
    }
    for (const side of sides) {
      const state = () => spawnSync("ip", ["-n", side, "-brief", "link", "show", DEVICE], { encoding: "utf8" }).stdout;
      // A TUN device has no state but that its lower layer is up.
      waitFor(`${DEVICE} of ${side}`, () => state().includes("LOWER_UP"));
    }
    // What launchers call in place of ssh: options, the host, and a command line for its shell.
    writeFileSync(
      agent,
      `#!/bin/sh
while [ "\${1#-}" != "$1" ]; do shift; done
case $1 in ${hosts[0]}) side=${sides[0]} ;; *) side=${sides[1]} ;; esac
shift
exec ip netns exec $side unshare --uts sh -c "hostname $side; $*"
`,
    );
    chmodSync(agent, 0o755);
  } catch (error) {
    close();
    throw error;
  }
  const inside = (command) => [
    ...["ip", "netns", "exec", sides[0], "unshare", "--uts"],
    ...["sh", "-c", 'hostname "$0"; exec "$@"', sides[0], ...command],
  ];
  return { hosts, agent, device: DEVICE, inside, close };
}
