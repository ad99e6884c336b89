// Jobs that can be found again: every process of one carries a mark in its environment.
import { spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const jobProgram = fileURLToPath(new URL("./job.mjs", import.meta.url));
const MARK = "EVENKEEL_CRASH_MARK";

/** What starts a job on several ranks; "none" is one process. */
export const launchers = {
  openmpi: {
    command: "mpirun.openmpi",
    environment: {
      OMPI_ALLOW_RUN_AS_ROOT: "1",
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
      OMPI_MCA_rmaps_base_oversubscribe: "1",
    },
  },
  mpich: { command: "mpirun.mpich", environment: {} },
  none: { command: null, environment: {} },
};

export const isInstalled = (name) => name === "none" || spawnSync(launchers[name].command, ["--version"]).status === 0;

const environmentOf = (pid) => {
  try {
    return readFileSync(`/proc/${pid}/environ`, "latin1");
  } catch {
    return "";
  }
};

const isZombie = (pid) => {
  try {
    return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return true;
  }
};

/** The processes that carry a mark: launcher, its daemons, ranks. */
export const processesOf = (mark) =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && environmentOf(name).includes(`${MARK}=${mark}`))
    .map(Number)
    .filter((pid) => !isZombie(pid));

/** Of these, the ranks: processes of Node that run the job. */
export const ranksOf = (mark) =>
  processesOf(mark).filter((pid) => {
    try {
      const [program, script] = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
      return program === process.execPath && script === jobProgram;
    } catch {
      return false;
    }
  });

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const kill = (pid, signal = "SIGKILL") => {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
  }
};

/** Starts a job. `ended` resolves when the launcher has ended and its output is closed. */
export function launch({ mpi = "none", ranks = 1, folder, options = {}, program = jobProgram, limit = 60 }) {
  const mark = randomUUID();
  const { command, environment } = launchers[mpi];
  const job = [process.execPath, program, folder, JSON.stringify(options)];
  const [file, ...args] = command ? [command, "-n", `${ranks}`, ...job] : job;
  const env = { ...process.env, ...environment, [MARK]: mark, NODE_OPTIONS: "" };
  const started = performance.now();
  const child = spawn(file, args, { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  let [out, err, late] = ["", "", false];
  child.stdout.setEncoding("utf8").on("data", (text) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    err += text;
  });
  const timer = setTimeout(() => {
    late = true;
    for (const pid of processesOf(mark)) kill(pid);
  }, limit * 1000);
  const left = new Promise((resolve) => {
    child.on("exit", (code, signal) => {
      resolve({ code, signal, seconds: (performance.now() - started) / 1000 });
    });
  });
  const ended = new Promise((resolve) => {
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, out, err, late, seconds: (performance.now() - started) / 1000 });
    });
  });
  return { mark, child, ended, left };
}

/** Waits until no process carries the mark; kills what is left after `limit` seconds and returns how many that were. */
export async function untilNoneIsLeft(mark, limit = 10) {
  const started = performance.now();
  for (;;) {
    const alive = processesOf(mark);
    const seconds = (performance.now() - started) / 1000;
    if (alive.length === 0) return { seconds, orphans: 0 };
    if (seconds > limit) {
      for (const pid of alive) kill(pid);
      return { seconds, orphans: alive.length };
    }
    await sleep(10);
  }
}

/** The line of JSON with which rank 0 ends. */
export function resultOf({ out }) {
  const line = out.split("\n").find((text) => text.startsWith("{"));
  return line ? JSON.parse(line) : null;
}

/** Options of a script from its command line: --name value. */
export function argumentsOf(defaults) {
  const given = process.argv.slice(2);
  const result = { ...defaults };
  for (let i = 0; i < given.length; i += 2) {
    const name = given[i].replace(/^--/, "");
    if (!(name in defaults) || given[i + 1] === undefined) {
      const known = Object.entries(defaults).map(([key, value]) => `--${key} ${value}`);
      console.error(`Takes ${known.join(" ")}; got ${given.slice(i, i + 2).join(" ")}`);
      process.exit(2);
    }
    result[name] = typeof defaults[name] === "number" ? Number(given[i + 1]) : given[i + 1];
  }
  return result;
}

/** Random numbers in [0, 1) that a seed repeats (mulberry32). */
export function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
