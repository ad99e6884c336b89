import { Tensor, tensor } from "../../../autograd/index.js";
import { DeviceError, DTypeError, describeValue, OptionError } from "../../../base/errors.js";
import type { Shape } from "../../../base/shape.js";

/** A tensor among the arguments of a forward, or in an object of options among them. */
interface Found {
  readonly name: string | null;
  readonly tensor: Tensor;
}

/** The arguments of a forward, and the tensors among them: those are the inputs of what is exported. */
export interface Example {
  readonly args: readonly unknown[];
  readonly inputs: readonly { readonly name: string; readonly tensor: Tensor }[];
}

const isOptions = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype;

const found = (arg: unknown): Found[] => {
  if (arg instanceof Tensor) return [{ name: null, tensor: arg }];
  if (!isOptions(arg)) return [];
  return Object.entries(arg).flatMap(([name, value]) => (value instanceof Tensor ? [{ name, tensor: value }] : []));
};

/**
 * Reads what exportOnnx was given as example: a tensor, or the list of a forward's arguments. A tensor that comes twice is one input.
 */
export function readExample(given: unknown, names: readonly string[] | undefined): Example {
  const args = Array.isArray(given) ? [...given] : [given];
  const all = args.flatMap(found);
  const once = all.filter(({ tensor }, i) => all.findIndex((other) => other.tensor === tensor) === i);
  if (once.length === 0) {
    throw new DTypeError({
      rule: "exportOnnx takes an example of what the model's forward takes: a tensor, or a list of arguments with tensors",
      got: describeValue(given),
      fix: "Pass zeros(shape), say; the numbers do not matter",
    });
  }
  const elsewhere = once.find(({ tensor }) => tensor.device !== "cpu");
  if (elsewhere) {
    throw new DeviceError({
      rule: "exportOnnx runs a model on the CPU",
      got: `an example on ${elsewhere.tensor.device}`,
      fix: "Pass an example on the CPU, and call await model.toCPU()",
    });
  }
  const unnamed = once.filter(({ name }) => name === null).length;
  let i = 0;
  const natural = once.map(({ name }) => name ?? (unnamed === 1 ? "input" : `input_${i++}`));
  const list = checkNames("inputNames", names, natural);
  return { args, inputs: once.map(({ tensor }, k) => ({ name: list[k]!, tensor })) };
}

/** Names that were asked for: as many as there are values, all different and not empty; `natural` where none were. */
export function checkNames(
  option: string,
  names: readonly string[] | undefined,
  natural: readonly string[],
): readonly string[] {
  const list = names ?? natural;
  const good =
    Array.isArray(list) &&
    list.length === natural.length &&
    list.every((name) => typeof name === "string" && name !== "") &&
    new Set(list).size === list.length;
  if (good) return list;
  throw new OptionError({
    rule: `exportOnnx: ${option} must be ${natural.length} different name${natural.length === 1 ? "" : "s"}, one for each of ${natural.join(", ")}`,
    got: JSON.stringify(names) ?? String(names),
  });
}

/**
 * An example in another size along an axis; `turned` with numbers that are not the example's but of their kind: in reverse order,
 * and scaled where they are not all whole.
 */
function resized(t: Tensor, shape: Shape, axis: number | null, turned: boolean): Tensor {
  const from = t.storage.view;
  const whole = from.every((v) => Number.isInteger(v));
  const size = shape.reduce((a, b) => a * b, 1);
  const behind = axis === null ? 1 : shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const [rows, given] = axis === null ? [1, 1] : [shape[axis]!, t.shape[axis]!];
  const numbers = Float64Array.from({ length: size }, (_, i) => {
    // The example's slices along the axis, over and over.
    const outer = Math.floor(i / (behind * rows));
    const at = axis === null ? i : (outer * given + ((Math.floor(i / behind) % rows) % given)) * behind + (i % behind);
    return turned ? from[from.length - 1 - at]! * (whole ? 1 : 0.75) : from[at]!;
  });
  return tensor(numbers, { shape, dtype: t.dtype });
}

/**
 * The same arguments with `size` slices along the axis that `axisOf` gives for an input (null: its shape stays); `turned` with other
 * numbers.
 */
export function otherExample(
  { args, inputs }: Example,
  axisOf: (name: string) => number | null,
  size: number,
  turned: boolean,
): Example {
  const made = new Map(
    inputs.map(({ name, tensor: t }): [Tensor, Tensor] => {
      const axis = axisOf(name);
      const shape = t.shape.map((d, i) => (i === axis ? size : d));
      return [t, resized(t, shape, axis, turned)];
    }),
  );
  const replaced = (value: unknown): unknown => (value instanceof Tensor ? (made.get(value) ?? value) : value);
  const inside = (arg: unknown) =>
    isOptions(arg) ? Object.fromEntries(Object.entries(arg).map(([k, v]) => [k, replaced(v)])) : replaced(arg);
  return { args: args.map(inside), inputs: inputs.map(({ name, tensor: t }) => ({ name, tensor: made.get(t)! })) };
}
