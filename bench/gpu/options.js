import { checkNames, parse, UsageError } from "../command_line.js";

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
  const values = parse(args, {
    ...{ only: { type: "string", multiple: true }, out: { type: "string" }, pack: { type: "string" } },
    ...{ quick: { type: "boolean" }, traffic: { type: "boolean" } },
    ...{ list: { type: "boolean" }, help: { type: "boolean" } },
  });
  const { only = [], out = "runs/bench_gpu", pack = null, quick = false, traffic = false, list = false } = values;
  if (pack === "") throw new UsageError('--pack takes a folder to write; got ""');
  checkNames(only, Object.values(cells).flat());
  return { ...{ out, pack, quick, traffic, list, only }, help: values.help ? help : null };
}
