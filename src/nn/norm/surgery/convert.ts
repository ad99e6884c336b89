import { Tensor } from "../../../autograd/index.js";
import type { Communicator } from "../../../base/communicator.js";
import { OptionError, StateError } from "../../../base/errors.js";
import { readOptions, unknownName } from "../../../base/options.js";
import { type Shape, sameShape } from "../../../base/shape.js";
import type { NormActivation } from "../../../kernels/kernel_set.js";
import { disown, scope } from "../../../memory/scope.js";
import { type Module, Parameter } from "../../module.js";
import { BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d } from "../batch_norm.js";
import { BatchRenorm, type RenormLimit } from "../batch_renorm.js";
import type { ConventionOptions, GradientConvention } from "../conventions.js";
import { FrozenBatchNorm } from "../frozen_batch_norm.js";
import { GhostBatchNorm } from "../ghost_batch_norm.js";
import { GroupNorm } from "../group_norm.js";
import { SyncBatchNorm } from "../sync_batch_norm.js";
import type { AffineGradients } from "../synchronized.js";
import { called, checkModel, modulesOnce } from "./batch_norms.js";
import { freezeAlike } from "./freeze.js";

/** What a layer can have that one of another kind may have too. */
export type Source = Module & {
  readonly numFeatures: number;
  /** Where it may have several axes. */
  readonly featureShape?: Shape;
  readonly perFeature?: boolean;
  readonly conventions?: Required<ConventionOptions>;
  readonly parameterGradients?: GradientConvention;
  readonly activation?: NormActivation | null;
} & Record<string, unknown>;

/** A kind of normalization that layers are made into and from. */
export interface Kind {
  readonly type: abstract new (...args: never[]) => Module;
  /** Options of `convert` for this kind; undefined: the constructor's own default. */
  readonly takes: Readonly<Record<string, unknown>>;
  /** Whether it cannot do without the running statistics of the layer before. */
  readonly needsStatistics: boolean;
  /** Whether it has the option activation. */
  readonly activates: boolean;
  make(features: number | Shape, old: Source, options: object): Module;
}

const pick = (old: Source, names: readonly string[]): Record<string, unknown> =>
  Object.fromEntries(names.map((name) => [name, old[name]]));

/**
 * A layer with the options of RunningNorm, and those of its own that `keeps` names as they were. A layer before it that had no such
 * statistics leaves it the default ones.
 */
export function running(
  type: new (features: number & Shape, options: object) => Module,
  own: { takes?: Record<string, unknown>; activates?: boolean; keeps?: readonly string[] } = {},
): Kind {
  return {
    type,
    takes: own.takes ?? {},
    needsStatistics: false,
    activates: own.activates ?? false,
    make(features, old, options) {
      const { activates, keeps = [] } = own;
      return new type(features as number & Shape, {
        ...pick(old, ["eps", "axis", "momentum", "runningStats", "parameterGradients"]),
        ...old.conventions,
        ...(activates ? { activation: old.activation?.op, inplace: old.inplace } : {}),
        affine: old.weight !== null,
        affineShape: old.weight instanceof Tensor ? old.weight.shape : null,
        trackRunningStats: old.runningVar !== null,
        ...pick(old, keeps),
        ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)),
      });
    },
  };
}

/** A layer that becomes another one of its kind, with the options that `keeps` names, and those that `also` finds out, as they were. */
export function same(
  type: new (features: number, options: object) => Module,
  keeps: readonly string[],
  also: (old: Source) => object = () => ({}),
): Kind {
  return {
    type,
    takes: {},
    needsStatistics: false,
    activates: false,
    make: (features, old, options) => new type(features as number, { ...pick(old, keeps), ...also(old), ...options }),
  };
}

const MOST_GROUPS = 32;

/** The largest number of groups up to 32 that divides the channels. */
function groupsFor(channels: number): number {
  for (let groups = Math.min(MOST_GROUPS, channels); ; groups--) if (channels % groups === 0) return groups;
}

/** Of layers that can take their statistics over several ranks. */
const group = { communicator: undefined, affineGradients: undefined };

const kinds = {
  BatchNorm: running(BatchNorm, { activates: true }),
  BatchNorm1d: running(BatchNorm1d, { activates: true }),
  BatchNorm2d: running(BatchNorm2d, { activates: true }),
  BatchNorm3d: running(BatchNorm3d, { activates: true }),
  SyncBatchNorm: running(SyncBatchNorm, { takes: group, keeps: Object.keys(group) }),
  GhostBatchNorm: running(GhostBatchNorm, { takes: { virtualBatchSize: undefined, numSplits: undefined } }),
  BatchRenorm: running(BatchRenorm, {
    takes: { rMax: undefined, dMax: undefined, ...group },
    keeps: Object.keys(group),
  }),
  FrozenBatchNorm: {
    type: FrozenBatchNorm,
    takes: {},
    needsStatistics: true,
    activates: false,
    make: (features, old, options) => new FrozenBatchNorm(features, { ...pick(old, ["eps", "axis"]), ...options }),
  },
  GroupNorm: {
    type: GroupNorm,
    takes: { numGroups: undefined },
    needsStatistics: false,
    activates: true,
    make(features, old, { numGroups, ...options }: { numGroups?: number }) {
      const channels = typeof features === "number" ? features : features[0]!;
      const { parameterGradients = "sum" } = old.conventions ?? {};
      return new GroupNorm(numGroups ?? groupsFor(channels), features, {
        ...pick(old, ["eps", "axis"]),
        ...(old.activation ? { activation: old.activation.op } : {}),
        affine: old.weight !== null,
        parameterGradients,
        ...options,
      });
    },
  },
} satisfies Record<string, Kind>;

export type NormKind = keyof typeof kinds;

const known = Object.keys(kinds) as NormKind[];

export interface ConvertOptions {
  /** Which kinds are replaced. Default: all that follow batches, and what convert itself made of such. */
  readonly from?: readonly NormKind[];
  /** GroupNorm: default the largest number up to 32 that divides the channels. */
  readonly numGroups?: number;
  /** SyncBatchNorm, BatchRenorm. */
  readonly communicator?: Communicator;
  readonly affineGradients?: AffineGradients;
  /** GhostBatchNorm. */
  readonly virtualBatchSize?: number;
  readonly numSplits?: number;
  /** BatchRenorm. */
  readonly rMax?: RenormLimit;
  readonly dMax?: RenormLimit;
}

/** Layers that convert made in the place of one that followed batches. */
const made = new WeakSet<Module>();

/** Whether a layer is of a type; a subclass with a forward of its own is not. */
export const isOf = (module: Module, { type }: Kind): boolean =>
  module instanceof type && type.prototype.forward === module.constructor.prototype.forward;

const kindOf = (module: Module): NormKind | null => known.find((kind) => isOf(module, kinds[kind])) ?? null;

const plain = new Set<NormKind>(["BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]);

/**
 * Replaces every batch normalization in a model (in properties, arrays and Sequentials, at any depth) by another kind,
 * and gives the model back; where the model is itself such a layer, what it became. The new layer takes over weight and
 * bias (the same Parameters where both learn them, so that an optimizer stays right), eps, axis, type and mode, and
 * momentum, conventions, running statistics and their count (the same tensors) where it has them; statistics that its source lacks
 * start at 0 and 1. A layer in several places stays one layer. Layers that are of the kind already stay.
 *
 * Throws OptionError for an unknown kind or option, StateError if a layer without running statistics should become one
 * that needs them, and what the new layers' constructors throw; nothing is changed then.
 */
export function convert(model: Module, to: NormKind, options?: ConvertOptions): Module {
  checkModel("convert", model);
  if (!known.includes(to)) throw unknownName(`convert makes ${known.join(", ")}`, String(to), known);
  const { from, ...own } = readOptions(`convert to ${to}`, options, {
    from: undefined as readonly NormKind[] | undefined,
    ...(kinds[to] as Kind).takes,
  });
  for (const kind of from ?? []) {
    if (!known.includes(kind)) throw unknownName(`convert: from names ${known.join(", ")}`, String(kind), known);
  }
  const replaced = (module: Module): boolean => {
    const kind = kindOf(module);
    if (kind === null || kind === to || (to === "BatchNorm" && plain.has(kind))) return false;
    return from ? from.includes(kind) : kind !== "GroupNorm" || made.has(module);
  };
  const done = exchange(model, (module) => (replaced(module) ? { name: to, kind: kinds[to], options: own } : null));
  for (const [old, by] of done.pairs) if (kindOf(old) !== "GroupNorm") made.add(by);
  return done.model;
}

/** What a layer is to become. */
export interface Target {
  readonly name: string;
  readonly kind: Kind;
  readonly options: object;
}

/** Puts others in the place of the layers that `target` names one for. Returns what the model is then, and which took whose place. */
export function exchange(
  model: Module,
  target: (module: Module) => Target | null,
): { model: Module; pairs: ReadonlyMap<Module, Module> } {
  // All are made before the first one is put in place: a constructor may refuse.
  const pairs = new Map(
    modulesOnce(model).flatMap(([path, module]) => {
      const to = target(module);
      return to ? [[module, become(module as Source, path, to)] as const] : [];
    }),
  );
  for (const parent of model.modules()) {
    for (const child of new Set(parent.children())) {
      const by = pairs.get(child);
      if (!by) continue;
      parent.replaceChild(child, by);
      if (!parent.children().includes(child)) continue;
      throw new StateError({
        rule: "convert puts layers where a module holds its children",
        got: `a ${parent.constructor.name} that kept its ${child.constructor.name}`,
        fix: "Override replaceChild beside namedChildren",
      });
    }
  }
  for (const [old, by] of pairs) handOver(old as Source, by as Source);
  return { model: pairs.get(model) ?? model, pairs };
}

function become(old: Source, path: string, { name, kind, options }: Target): Module {
  const { featureShape = [old.numFeatures] } = old;
  const perFeature = old.perFeature === true || featureShape.length > 1;
  if (kind.needsStatistics && !(old.runningVar instanceof Tensor)) {
    throw new StateError({
      rule: `${name} normalizes with the running statistics of the layer it replaces`,
      got: `${called(path, old)}, which has none`,
    });
  }
  if (kind.type === GroupNorm && perFeature && featureShape.length === 1) {
    throw new OptionError({
      rule: "GroupNorm has a weight for each channel, or for each feature of [C, ...]",
      got: `${called(path, old)} with one for each feature of [${featureShape}]`,
    });
  }
  if (old.activation && !kind.activates) {
    throw new OptionError({
      rule: `${name} has no activation of its own`,
      got: `${called(path, old)} with activation "${old.activation.op}"`,
      fix: "Make the model with the activation as a layer",
    });
  }
  const typed = [old.weight, old.bias, old.runningMean].find((t) => t instanceof Tensor);
  const by = kind.make(perFeature ? featureShape : featureShape[0]!, old, {
    ...(typed ? { dtype: typed.dtype, device: typed.device } : {}),
    ...options,
  });
  freezeAlike(old, by);
  return by;
}

/** Parameters and buffers that both layers have: the same tensors, or the values where only one learns them. */
function handOver(old: Source, by: Source): void {
  for (const name of Object.keys(by)) {
    const [from, to] = [old[name], by[name]];
    if (!(from instanceof Tensor) || !(to instanceof Tensor)) continue;
    if (from instanceof Parameter === to instanceof Parameter && sameShape(from.shape, to.shape)) {
      (by as Record<string, unknown>)[name] = from;
      disown(to).dispose();
    } else {
      // Features may share an affine.
      scope(() => to.assign(from.detach().expand(to.shape)));
    }
  }
}
