import { serialization } from "@tensorflow/tfjs-core";
import type { constraints, initializers, layers, regularizers } from "@tensorflow/tfjs-layers";
import { OptionError } from "../base/errors.js";
import { unknownName } from "../base/options.js";

type StockArgs = NonNullable<Parameters<typeof layers.batchNormalization>[0]>;

export type Initializer = ReturnType<typeof initializers.ones>;
export type Regularizer = ReturnType<typeof regularizers.l1>;
export type Constraint = ReturnType<typeof constraints.maxNorm>;

/** A name of TensorFlow.js ("zeros"), an object of it, or what a saved model holds for one. */
export type InitializerOption = NonNullable<StockArgs["gammaInitializer"]>;
export type RegularizerOption = NonNullable<StockArgs["gammaRegularizer"]> | null;
export type ConstraintOption = NonNullable<StockArgs["gammaConstraint"]> | null;

interface Saved {
  readonly className: string;
  readonly config: serialization.ConfigDict;
}

type Named = Readonly<Record<string, readonly [className: string, config?: serialization.ConfigDict]>>;

const scaling = (scale: number, mode: string, distribution: string) =>
  ["VarianceScaling", { scale, mode, distribution }] as const;

/** TensorFlow.js's names, and the classes behind them. */
const names: Readonly<Record<"initializer" | "regularizer" | "constraint", Named>> = {
  initializer: {
    zeros: ["Zeros"],
    ones: ["Ones"],
    randomNormal: ["RandomNormal"],
    randomUniform: ["RandomUniform"],
    truncatedNormal: ["TruncatedNormal"],
    orthogonal: ["Orthogonal"],
    glorotNormal: scaling(1, "fanAvg", "normal"),
    glorotUniform: scaling(1, "fanAvg", "uniform"),
    heNormal: scaling(2, "fanIn", "normal"),
    heUniform: scaling(2, "fanIn", "uniform"),
    leCunNormal: scaling(1, "fanIn", "normal"),
    leCunUniform: scaling(1, "fanIn", "uniform"),
  },
  regularizer: { l1l2: ["L1L2"] },
  constraint: { maxNorm: ["MaxNorm"], minMaxNorm: ["MinMaxNorm"], nonNeg: ["NonNeg"], unitNorm: ["UnitNorm"] },
};

const isObject = (given: unknown): given is object => typeof given === "object" && given !== null;

const isMade = (given: object): given is serialization.Serializable =>
  typeof (given as serialization.Serializable).getClassName === "function";

const isSaved = (given: object): given is Saved =>
  typeof (given as Saved).className === "string" && typeof (given as Saved).config === "object";

function read<T extends serialization.Serializable>(what: string, kind: keyof typeof names, given: unknown): T {
  if (isObject(given) && isMade(given)) return given as T;
  if (isObject(given) && isSaved(given)) return make<T>(what, given.className, given.config);
  const known = Object.keys(names[kind]);
  const rule = `${what} is one of ${known.join(", ")}, or an object of TensorFlow.js`;
  if (typeof given !== "string") throw new OptionError({ rule, got: String(given) });
  // Keras's own names of classes begin with a capital.
  const name = known.find((n) => n === given || names[kind][n]![0] === given);
  if (name === undefined) throw unknownName(rule, given, known);
  const [className, config] = names[kind][name]!;
  return make<T>(what, className, { ...config });
}

function make<T extends serialization.Serializable>(what: string, name: string, config: serialization.ConfigDict): T {
  const known = serialization.SerializationMap.getMap().classNameMap;
  const entry = Object.hasOwn(known, name) ? known[name] : undefined;
  if (!entry) {
    throw new OptionError({
      rule: `${what} names a class that TensorFlow.js knows`,
      got: `"${name}"`,
      fix: "Register it first: tf.serialization.registerClass",
    });
  }
  return entry[1](entry[0], config) as T;
}

export const readInitializer = (what: string, given: unknown): Initializer => read(what, "initializer", given);
export const readRegularizer = (what: string, given: unknown): Regularizer | null =>
  given === null ? null : read(what, "regularizer", given);
export const readConstraint = (what: string, given: unknown): Constraint | null =>
  given === null ? null : read(what, "constraint", given);

/** What a saved model holds for such an object. */
export const saved = (value: serialization.Serializable | null): serialization.ConfigDict | null =>
  value && { className: value.getClassName(), config: value.getConfig() };
