import type { DataType, Tensor } from "@tensorflow/tfjs-core";
import type { Shape } from "@tensorflow/tfjs-layers";
import { OptionError } from "../base/errors.js";
import { checkBoolean, readOptions } from "../base/options.js";
import {
  type ConstraintOption,
  type InitializerOption,
  type RegularizerOption,
  readConstraint,
  readInitializer,
  readRegularizer,
} from "./identifiers.js";

/** What every layer of TensorFlow.js takes. */
export interface LayerOptions {
  readonly inputShape?: Shape;
  readonly batchInputShape?: Shape;
  readonly batchSize?: number;
  readonly dtype?: DataType;
  readonly inputDType?: DataType;
  readonly name?: string;
  readonly trainable?: boolean;
  readonly weights?: Tensor[];
}

export interface GammaOptions {
  /** Whether there is a gamma. Default true. */
  readonly scale?: boolean;
  /** Default "ones". */
  readonly gammaInitializer?: InitializerOption;
  readonly gammaRegularizer?: RegularizerOption;
  readonly gammaConstraint?: ConstraintOption;
}

export interface BetaOptions {
  /** Whether there is a beta. Default true. */
  readonly center?: boolean;
  /** Default "zeros". */
  readonly betaInitializer?: InitializerOption;
  readonly betaRegularizer?: RegularizerOption;
  readonly betaConstraint?: ConstraintOption;
}

export interface EpsilonOption {
  /** Added to the variance. Default 0.001; 1e-6 for RMSNormalization. */
  readonly epsilon?: number;
}

/** The axis or axes that a statistic spans. Default -1. */
export type AxesOption = number | readonly number[];

const layerDefaults = {
  inputShape: undefined as Shape | undefined,
  batchInputShape: undefined as Shape | undefined,
  batchSize: undefined as number | undefined,
  dtype: undefined as DataType | undefined,
  inputDType: undefined as DataType | undefined,
  name: undefined as string | undefined,
  trainable: true,
  weights: undefined as Tensor[] | undefined,
};

export const gammaDefaults = {
  scale: true,
  gammaInitializer: "ones" as InitializerOption,
  gammaRegularizer: null as RegularizerOption,
  gammaConstraint: null as ConstraintOption,
};

export const affineDefaults = {
  epsilon: 1e-3,
  center: true,
  ...gammaDefaults,
  betaInitializer: "zeros" as InitializerOption,
  betaRegularizer: null as RegularizerOption,
  betaConstraint: null as ConstraintOption,
};

const kinds = { Initializer: readInitializer, Regularizer: readRegularizer, Constraint: readConstraint };

/** What TensorFlow.js's own constructor takes of the options, and the rest, with objects of TensorFlow.js in the place of names. */
export function readLayerOptions<O extends object>(
  owner: string,
  given: object | undefined,
  defaults: O,
): { forLayer: LayerOptions; own: O } {
  const all = Object.entries(readOptions<object>(owner, given, { ...layerDefaults, ...defaults }));
  const own = all.filter(([name]) => !(name in layerDefaults));
  for (const entry of own) {
    const [name, value] = entry;
    const kind = Object.keys(kinds).find((suffix) => name.endsWith(suffix)) as keyof typeof kinds | undefined;
    if (kind) entry[1] = kinds[kind](`${owner}: ${name}`, value);
    else if (typeof (defaults as Record<string, unknown>)[name] === "boolean") checkBoolean(`${owner}: ${name}`, value);
  }
  const forLayer: LayerOptions = Object.fromEntries(
    all.filter(([name, v]) => name in layerDefaults && v !== undefined),
  );
  checkBoolean(`${owner}: trainable`, forLayer.trainable);
  return { forLayer, own: Object.fromEntries(own) as O };
}

/** What a saved layer may hold that means nothing here: TensorFlow.js adds the first, Keras the others. */
const meaningless = ["customObjects", "synchronized", "fused"];

/** The options in a saved layer's config. What is not known here but is off there is left out; what is on is an error. */
export function optionsOfConfig(config: object, defaults: object): object {
  const known = { ...layerDefaults, ...defaults };
  return Object.fromEntries(
    Object.entries(config).filter(
      ([name, value]) =>
        Object.hasOwn(known, name) || !(value === null || value === false || meaningless.includes(name)),
    ),
  );
}

const isWhole = (v: unknown): v is number => typeof v === "number" && Number.isInteger(v);

/** One axis; Keras saves it as a list of one. */
export function readAxis(what: string, given: unknown): number {
  const axis = Array.isArray(given) && given.length === 1 ? given[0] : given;
  if (isWhole(axis)) return axis;
  throw new OptionError({ rule: `${what} is a whole number`, got: JSON.stringify(given) ?? String(given) });
}

export function readAxes(what: string, given: unknown): number[] {
  const axes = Array.isArray(given) ? given : [given];
  if (axes.length > 0 && axes.every(isWhole)) return axes;
  throw new OptionError({
    rule: `${what} is a whole number, or a list of at least one`,
    got: JSON.stringify(given) ?? String(given),
  });
}
