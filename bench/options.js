import { cpus } from "node:os";
import { checkNames, choose, parse, UsageError } from "./command_line.js";
import { peerNames } from "./participants/all.js";

/** The others take seconds for what these do in milliseconds. */
const quickPeers = ["evenkeel+blas", "torch"];

const help = `npm run bench -- [options]

Times Evenkeel beside torch (CPU), TensorFlow.js and jax-js in one run, after checking that all give the same numbers.

  --only <text>      cells whose name has all these words, as in --only "batch first large"; may be given more than once
  --threads <n>      one thread count; without it 1 and all cores
  --peers <names>    of ${peerNames.join(", ")}; "none" for none;
                     all unless given, with --quick ${quickPeers.join(" and ")}
  --quick            fewer and shorter samples, small and large norms only: under two minutes in all; figures are rougher
  --out <folder>     where results.json, results.md, chart.svg and report.html go (default: runs/bench)
  --list             print the names of the cells
  --help
`;

/** Reads the command line; throws UsageError with one clear line. */
export function readOptions(args, cells) {
  const { only = [], ...values } = parse(args, {
    ...{ only: { type: "string", multiple: true }, threads: { type: "string" }, peers: { type: "string" } },
    ...{ quick: { type: "boolean" }, out: { type: "string" }, list: { type: "boolean" }, help: { type: "boolean" } },
  });
  checkNames(only, cells);
  return {
    ...{ quick: values.quick ?? false, list: values.list ?? false, out: values.out ?? "runs/bench" },
    help: values.help ? help : null,
    threads: readThreads(values.threads),
    peers: readPeers(values.peers) ?? (values.quick ? quickPeers : peerNames),
    // What lies between the small and the large size is left to the full run, unless it is asked for.
    cells: choose(only, cells).filter((c) => !values.quick || only.length > 0 || c.subject.size !== "cache"),
  };
}

function readThreads(text) {
  const most = cpus().length;
  if (text === undefined) return [...new Set([1, most])];
  const n = Number(text);
  if (!Number.isInteger(n) || n < 1 || n > most) {
    throw new UsageError(`--threads takes a whole number from 1 to ${most}, the cores of this machine; got "${text}"`);
  }
  return [n];
}

function readPeers(text) {
  if (text === undefined) return null;
  if (text === "none") return [];
  const names = text.split(",");
  const unknown = names.find((name) => !peerNames.includes(name));
  if (unknown !== undefined) throw new UsageError(`--peers knows ${peerNames.join(", ")}; got "${unknown}"`);
  return names;
}
