import { type NestedArray, Tensor, tensor } from "../autograd/index.js";
import type { NumberArray } from "../base/dtype.js";
import { DTypeError, ShapeError } from "../base/errors.js";
import { unknownName } from "../base/options.js";
import { formatShape, type Shape } from "../base/shape.js";
import { scope } from "../memory/scope.js";

/** First values of a parameter: a name that the system has, or a function from the shape to numbers. */
export type Initializer = string | ((shape: Shape) => Tensor | NumberArray | NestedArray);

export type Named = Readonly<Record<string, (t: Tensor) => unknown>>;

/** glorot_uniform and GlorotUniform are glorotUniform. */
const plain = (name: string): string =>
  name.replace(/_(\w)/g, (_, c: string) => c.toUpperCase()).replace(/^[A-Z]/, (c) => c.toLowerCase());

/** What fills a tensor as `given` says. Throws OptionError for a name that is not among `known`. */
export function readInitializer(what: string, given: Initializer, known: Named): (t: Tensor) => void {
  if (typeof given === "function") return (t) => fill(what, t, given);
  const named = typeof given === "string" ? known[plain(given)] : undefined;
  if (named) return (t) => void named(t);
  const names = Object.keys(known);
  throw unknownName(`${what} is one of ${names.join(", ")}, or a function shape -> numbers`, String(given), names);
}

function fill(what: string, t: Tensor, make: (shape: Shape) => Tensor | NumberArray | NestedArray): void {
  scope(() => {
    const made: unknown = make([...t.shape]);
    if (!(made instanceof Tensor || ArrayBuffer.isView(made) || Array.isArray(made))) {
      throw new DTypeError({ rule: `${what} as a function gives numbers: an array or a tensor`, got: String(made) });
    }
    const values = made instanceof Tensor ? made : tensor(made as NestedArray, { dtype: "float64" });
    if (values.size !== t.size) {
      throw new ShapeError({
        rule: `${what} must fill the shape ${formatShape(t.shape)}`,
        got: `${values.size} numbers`,
      });
    }
    t.assign(values);
  });
}
