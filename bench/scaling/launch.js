import { spawn, spawnSync } from "node:child_process";

/** The launchers of both families, as Debian installs them side by side. `across`: what they need to reach a second host. */
export const launchers = {
  openmpi: {
    command: "mpirun.openmpi",
    args: (ranks) => ["-n", `${ranks}`, "--bind-to", "none"],
    environment: {
      // The bench may run as root, and with more ranks than cores.
      OMPI_ALLOW_RUN_AS_ROOT: "1",
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
      OMPI_MCA_rmaps_base_oversubscribe: "1",
    },
    across: ({ agent, hosts, device }, ranks) => {
      const slots = Math.ceil(ranks / hosts.length);
      const only = { btl: "tcp,self", btl_tcp_if_include: device, oob_tcp_if_include: device };
      const settings = { plm_rsh_agent: agent, pml: "ob1", ...only };
      return [
        ...["--host", hosts.map((host) => `${host}:${slots}`).join(",")],
        ...Object.entries(settings).flatMap(([name, value]) => ["--mca", name, value]),
      ];
    },
    acrossEnvironment: () => ({}),
  },
  mpich: {
    command: "mpirun.mpich",
    args: (ranks) => ["-n", `${ranks}`],
    environment: {},
    across: ({ agent, hosts, device }, ranks) => {
      const slots = Math.ceil(ranks / hosts.length);
      const reached = hosts.map((host) => `${host}:${slots}`).join(",");
      return ["-launcher", "ssh", "-launcher-exec", agent, "-iface", device, "-hosts", reached];
    },
    // Two namespaces of one machine share its memory, which UCX would find out and use.
    acrossEnvironment: ({ device }) => ({ UCX_TLS: "tcp,self", UCX_NET_DEVICES: device }),
  },
};

export const isInstalled = (mpi) => spawnSync(launchers[mpi].command, ["--version"]).status === 0;

/**
 * @typedef {ReturnType<typeof import("./namespaces.js").openNetwork>} Network
 */

/**
 * Runs a program on ranks of `mpi`, on this machine or across the hosts of `network` (see namespaces.js). Resolves to
 * { code, output } once all have ended; after `timeout` seconds they are killed.
 *
 * @param {keyof typeof launchers} mpi
 * @param {number} ranks
 * @param {readonly string[]} program
 * @param {{ network?: Network | null, timeout: number }} options
 * @returns {Promise<{ code: number | null, output: string }>}
 */
export function launch(mpi, ranks, program, { network = null, timeout }) {
  const { command, args, environment, across, acrossEnvironment } = launchers[mpi];
  const all = [command, ...args(ranks), ...(network ? across(network, ranks) : []), process.execPath, ...program];
  const [first, ...rest] = network ? network.inside(all) : all;
  const env = { ...process.env, ...environment, ...(network ? acrossEnvironment(network) : {}), NODE_OPTIONS: "" };
  const child = spawn(first, rest, { env, detached: true });
  let output = "";
  const note = (text) => {
    output += text;
  };
  child.stdout.on("data", note);
  child.stderr.on("data", note);
  const end = () => void process.kill(-child.pid, "SIGKILL");
  const timer = setTimeout(end, timeout * 1000);
  // Whoever stops the bench or a test stops its ranks.
  process.on("exit", end);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      process.off("exit", end);
      resolve({ code, output: signal ? `${output}\nended by ${signal}` : output });
    });
  });
}
