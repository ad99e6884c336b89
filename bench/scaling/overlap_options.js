import { parse, UsageError } from "../command_line.js";
import { launchers } from "./launch.js";
import { models } from "./models.js";
import { chosen, list } from "./options.js";

const known = models.map(({ name }) => name);

const help = `node bench/scaling/overlap.js [options]

How much of the time that messages take is hidden behind backward, for two ranks of one thread each. After npm run build.

  --mpi <name>          ${Object.keys(launchers).join(" or ")}; without it those that are installed
  --gbits <rate>        ranks in two network namespaces with a link of so many Gbit/s (Linux, as root); without it they share memory
  --buckets <list>      bytes of a bucket, or "usual" (the default)
  --models <list>       of ${known.join(", ")} (default all)
  --milliseconds <n>    of a sample (default 90)
  --rounds <n>          samples of each way, in turns (default 8)
  --help
`;

/** Reads the command line; throws UsageError with one clear line. */
export function readOverlapOptions(args) {
  const text = { type: "string" };
  const values = parse(args, {
    ...{ mpi: text, gbits: text, buckets: text, models: text, milliseconds: text, rounds: text },
    help: { type: "boolean" },
  });
  const number = (name, usual) => {
    const value = Number(values[name] ?? usual);
    if (value > 0 && value < Number.POSITIVE_INFINITY) return value;
    throw new UsageError(`--${name} takes a number above 0; got "${values[name]}"`);
  };
  const buckets = list(values.buckets ?? "usual");
  const wrong = buckets.find((bytes) => bytes !== "usual" && !(Number.isInteger(Number(bytes)) && Number(bytes) > 0));
  if (wrong !== undefined) throw new UsageError(`--buckets takes whole numbers of bytes, or "usual"; got "${wrong}"`);
  return {
    mpis: values.mpi === undefined ? null : chosen("mpi", values.mpi, Object.keys(launchers)),
    gbits: values.gbits === undefined ? null : number("gbits"),
    buckets,
    models: chosen("models", values.models ?? known.join(","), known),
    pace: { sample: number("milliseconds", 90), rounds: number("rounds", 8) },
    help: values.help ? help : null,
  };
}
