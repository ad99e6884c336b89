import { parse, UsageError } from "../command_line.js";
import { launchers } from "./launch.js";
import { models } from "./models.js";

const help = `npm run bench:scaling -- [options]

Times messages between the ranks of an MPI job, and training steps on one, on all, and on all at the same time without messages.

  --mpi <name>      ${Object.keys(launchers).join(" or ")}; without it those that are installed
  --ranks <list>    numbers of ranks (default 1,2,4; one rank is timed beside the others of each job)
  --parts <list>    messages, steps (default both)
  --models <list>   of ${models.map(({ name }) => name).join(", ")} (default all)
  --link <rate>     ranks in two network namespaces with a link of this rate, 10gbit, 1gbit:1ms (a delay for each way): Linux, as
                    root; may be given more than once; "none" for ranks that share memory, which is the default
  --quick           few and short samples: to see that it works
  --out <folder>    where results.json, the tables and the charts go; other jobs' results that are there stay (default runs/scaling)
  --help
`;

const LINK = /^(\d+)(gbit|mbit)(?::(\d+(?:\.\d+)?)ms)?$/;

/** Bits a second and seconds each way of a link that is written as 1gbit:0.5ms; null for ranks on one machine. */
export function readLink(text) {
  if (text === "none") return null;
  const [, rate, unit, delay = "0"] = LINK.exec(text) ?? [];
  if (!rate)
    throw new UsageError(`--link takes a rate and perhaps a delay, as in 10gbit or 1gbit:0.5ms; got "${text}"`);
  return { name: text, bitsPerSecond: Number(rate) * { gbit: 1e9, mbit: 1e6 }[unit], delay: Number(delay) / 1000 };
}

export const list = (text) => text.split(",").map((word) => word.trim());

export function chosen(option, text, known) {
  const words = list(text);
  const unknown = words.find((word) => !known.includes(word));
  if (unknown !== undefined) throw new UsageError(`--${option} knows ${known.join(", ")}; got "${unknown}"`);
  return words;
}

/** Reads the command line; throws UsageError with one clear line. */
export function readOptions(args) {
  const text = { type: "string" };
  const values = parse(args, {
    ...{ mpi: text, ranks: text, parts: text, models: text, link: { type: "string", multiple: true }, out: text },
    ...{ quick: { type: "boolean" }, help: { type: "boolean" } },
  });
  const ranks = list(values.ranks ?? "1,2,4").map(Number);
  const wrong = ranks.find((n) => !Number.isInteger(n) || n < 1 || n > 64);
  if (wrong !== undefined) throw new UsageError(`--ranks takes whole numbers from 1 to 64; got "${values.ranks}"`);
  const names = models.map(({ name }) => name);
  return {
    mpis: values.mpi === undefined ? null : chosen("mpi", values.mpi, Object.keys(launchers)),
    // One rank takes its turns in every job of more.
    ranks: ranks.filter((n) => n > 1),
    parts: chosen("parts", values.parts ?? "messages,steps", ["messages", "steps"]),
    models: chosen("models", values.models ?? names.join(","), names),
    links: (values.link ?? ["none"]).map(readLink),
    quick: values.quick ?? false,
    out: values.out ?? "runs/scaling",
    help: values.help ? help : null,
  };
}
