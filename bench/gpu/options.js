import { parseArgs } from "node:util";
import { UsageError } from "../options.js";

const help = `npm run bench:gpu -- [options]

Times Evenkeel on the GPU beside torch on the same GPU (CUDA), in turns in one run, after checking the results of both against
float64. Prints one table. A device that is software gets small sizes, whose figures say nothing about GPUs.

  --only <text>      cells whose name has all these words, as in --only "batch first forward"; may be given more than once
  --quick            small sizes and few samples: whether all of it works
  --traffic          what each shader of the normalizations loads and stores, over the least; nothing is timed
  --out <folder>     where results.json and results.md go (default: runs/bench_gpu)
  --pack <folder>    writes the bench with Node and its libraries there, for a Linux machine that has none (x86-64);
                     <folder>/run.sh starts it, with these options
  --list             print the names of the cells
  --help
`;

/** Reads the command line; throws UsageError with one clear line. `cells` by size. */
export function readOptions(args, cells) {
  let values;
  try {
    ({ values } = parseArgs({
      args,
      options: {
        ...{ only: { type: "string", multiple: true }, out: { type: "string" }, pack: { type: "string" } },
        ...{ quick: { type: "boolean" }, traffic: { type: "boolean" } },
        ...{ list: { type: "boolean" }, help: { type: "boolean" } },
      },
    }));
  } catch (error) {
    throw new UsageError(error.message.split("\n")[0]);
  }
  const { only = [], out = "runs/bench_gpu", pack = null, quick = false, traffic = false, list = false } = values;
  if (pack === "") throw new UsageError('--pack takes a folder to write; got ""');
  const all = Object.values(cells).flat();
  for (const text of only) {
    if (!all.some((cell) => named(cell, text))) {
      throw new UsageError(`--only "${text}" is the name of no cell; --list prints them all`);
    }
  }
  return { ...{ out, pack, quick, traffic, list, only }, help: values.help ? help : null };
}

const named = ({ name }, text) =>
  text
    .split(/\s+/)
    .filter(Boolean)
    .every((word) => name.split(" ").includes(word));

export const choose = (cells, only) =>
  only.length === 0 ? cells : cells.filter((cell) => only.some((text) => named(cell, text)));
