import { type Tensor, zeros } from "../../../autograd/index.js";
import { OptionError, ShapeError, StateError } from "../../../base/errors.js";
import type { ActivationOp, NormActivation } from "../../../kernels/kernel_set.js";
import { scope } from "../../../memory/scope.js";
import { GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh } from "../../activation.js";
import { Conv1d, Conv2d, Conv3d } from "../../conv.js";
import { ConvTranspose1d, ConvTranspose2d, ConvTranspose3d } from "../../conv_transpose.js";
import { Identity } from "../../identity.js";
import { Linear } from "../../linear.js";
import { type Module, Parameter } from "../../module.js";
import { BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d } from "../batch_norm.js";
import { BatchRenorm } from "../batch_renorm.js";
import { FrozenBatchNorm } from "../frozen_batch_norm.js";
import { GhostBatchNorm } from "../ghost_batch_norm.js";
import { parametrizedNames, removeParametrization } from "../parametrize.js";
import { SyncBatchNorm } from "../sync_batch_norm.js";
import { called, checkModel, modulesOnce } from "./batch_norms.js";
import { chainsOf, type Link } from "./chain.js";

/** Layers that a normalization can be folded into; spatial axes of a convolution, null for Linear. */
const affineLayers = [
  { type: Linear, axes: null, transposed: false },
  ...[Conv1d, Conv2d, Conv3d].map((type, i) => ({ type, axes: i + 1, transposed: false })),
  ...[ConvTranspose1d, ConvTranspose2d, ConvTranspose3d].map((type, i) => ({ type, axes: i + 1, transposed: true })),
];

/** Normalizations that evaluate as one factor and one summand a channel. */
const norms = [
  ...[BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d],
  ...[SyncBatchNorm, GhostBatchNorm, BatchRenorm, FrozenBatchNorm],
];

const activations: Readonly<Record<ActivationOp, () => Module>> = {
  relu: () => new ReLU(),
  leakyRelu: () => new LeakyReLU(),
  gelu: () => new GELU(),
  geluTanh: () => new GELU({ approximate: "tanh" }),
  silu: () => new SiLU(),
  sigmoid: () => new Sigmoid(),
  tanh: () => new Tanh(),
};

type AnyNorm = BatchNorm | FrozenBatchNorm;

/** What is left of a norm once it is folded: its activation, or nothing. */
function remainder(norm: AnyNorm): Module {
  const { activation } = norm as { activation?: NormActivation | null };
  return (activation ? activations[activation.op]() : new Identity()).train(norm.training);
}
type AnyLayer = Module & { weight: Tensor; bias: Parameter | null; readonly groups?: number };

/** A subclass with a forward of its own computes something else. */
const computesAs = (module: Module, type: { prototype: { forward: unknown } }): boolean =>
  module instanceof (type as unknown as new () => object) &&
  module.constructor.prototype.forward === type.prototype.forward;

const kindOf = (module: Module) => affineLayers.find(({ type }) => computesAs(module, type));
const isNorm = (module: Module): module is Module & AnyNorm => norms.some((type) => computesAs(module, type));

export interface FoldReport {
  /** Paths of each normalization that is gone and of the layer that now does its work. */
  readonly folded: { readonly layer: string; readonly norm: string }[];
  /** Normalizations that are still there, each with the reason. */
  readonly left: { readonly norm: string; readonly reason: string }[];
}

/**
 * Folds batch normalizations, as they evaluate, into the convolution or Linear before them: the model's output in
 * evaluation stays equal to rounding. Looks at the neighbours in every Sequential, nested ones included; an Identity, or
 * the norm's activation, takes the place of what was folded. A parametrized weight becomes a plain one
 * (removeParametrization). Left alone are normalizations behind anything else, and those that the layer's other users
 * would feel.
 *
 * A BatchNorm on axis 1 behind a Linear is taken to see [N, features].
 * Throws StateError if the model is in training, or a normalization that could be folded has no running statistics;
 * nothing is changed then.
 */
export function fold(model: Module): FoldReport {
  checkModel("fold", model);
  checkEvaluation("fold", model);
  const uses = new Users(model);
  const pairs: { layer: Link; norm: Link }[] = [];
  const left: { norm: string; reason: string }[] = [];
  const seen = new Set<Module>();
  for (const chain of chainsOf(model)) {
    for (const [i, norm] of chain.entries()) {
      if (!isNorm(norm.module) || seen.has(norm.module)) continue;
      seen.add(norm.module);
      const before = chain.slice(0, i).findLast(({ module }) => !(module instanceof Identity));
      const reason = reasonNotTo(before, norm, uses);
      if (reason) left.push({ norm: norm.path, reason });
      else pairs.push({ layer: before!, norm });
    }
  }
  for (const [path, module] of modulesOnce(model)) {
    if (isNorm(module) && !seen.has(module)) left.push({ norm: path, reason: "it stands in no Sequential" });
  }
  for (const { norm } of pairs) checkFoldable("fold", norm.module as AnyNorm, norm.path);
  for (const { layer, norm } of pairs) {
    absorb(layer.module as AnyLayer, norm.module as AnyNorm);
    norm.parent.replaceChild(norm.module, remainder(norm.module as AnyNorm));
  }
  return { folded: pairs.map(({ layer, norm }) => ({ layer: layer.path, norm: norm.path })), left };
}

/**
 * Folds one normalization into one layer. With `model`, the module that holds both, the order is checked where it shows
 * (in a Sequential; two properties of one module are taken at the caller's word), and an Identity or the norm's
 * activation takes its place. Without it the norm is made to compute just that: statistics 0 and 1, weight 1, bias 0,
 * eps 0.
 *
 * Throws OptionError for what is no such layer or norm, or is not in the model; ShapeError if the channels do not fit;
 * StateError in training, without running statistics, if the layer does not directly precede the norm, or if either or
 * one of its parameters is used elsewhere too. Nothing is changed then.
 */
export function foldInto(layer: Module, norm: Module, model?: Module): void {
  checkModel("foldInto", layer);
  checkModel("foldInto", norm);
  if (!kindOf(layer)) {
    throw new OptionError({
      rule: "foldInto folds into Linear, Conv1d to 3d and ConvTranspose1d to 3d",
      got: layer.constructor.name,
      fix: isNorm(layer) ? "The layer comes first: foldInto(layer, norm)" : "Only their weights can take up a factor",
    });
  }
  if (!isNorm(norm)) {
    const names = norms.map((type) => type.name).join(", ");
    throw new OptionError({ rule: `foldInto folds ${names}`, got: norm.constructor.name });
  }
  const misfit = channelMisfit(layer as AnyLayer, norm);
  if (misfit) throw new ShapeError({ rule: "foldInto takes a norm of the layer's outputs", got: misfit });
  checkEvaluation("foldInto", layer);
  checkFoldable("foldInto", norm, "");
  if (model) checkPlaces(layer, norm, model);
  absorb(layer as AnyLayer, norm);
  if (model) {
    const by = remainder(norm);
    for (const module of model.modules()) if (module.children().includes(norm)) module.replaceChild(norm, by);
    return;
  }
  const constants = [
    [norm.weight, 1],
    [norm.bias, 0],
    [norm.runningMean!, 0],
    [norm.runningVar!, 1],
  ] as const;
  for (const [t, value] of constants) t?.assign(new Float64Array(t.size).fill(value));
  norm.eps = 0;
}

function checkPlaces(layer: Module, norm: Module, model: Module): void {
  checkModel("foldInto", model);
  const all = model.modules();
  for (const module of [layer, norm]) {
    if (all.includes(module)) continue;
    throw new OptionError({
      rule: "foldInto takes a layer and a norm of the model",
      got: `${module.constructor.name} from elsewhere`,
    });
  }
  const uses = new Users(model);
  const shared = uses.sharing(layer) ?? uses.sharing(norm);
  if (shared) throw new StateError({ rule: "foldInto changes what is used once", got: shared });
  const chain = chainsOf(model).find((links) => links.some((link) => link.module === norm));
  const at = (module: Module) => chain?.findIndex((link) => link.module === module) ?? -1;
  const [from, to] = [at(layer), at(norm)];
  const between =
    from >= 0 ? chain!.slice(from + 1, Math.max(to, 0)).filter((l) => !(l.module instanceof Identity)) : [];
  if (from >= 0 && from < to && between.length === 0) return;
  const held = (parent: Module) => Object.values(parent).includes(layer) && Object.values(parent).includes(norm);
  if (!chain && all.some(held)) return;
  throw new StateError({
    rule: "foldInto takes a layer whose output goes straight into the norm",
    got:
      from < 0
        ? `a ${layer.constructor.name} that stands in no Sequential with the norm`
        : from > to
          ? `a ${layer.constructor.name} behind the norm`
          : `${between.map((l) => called(l.path, l.module)).join(", ")} between them`,
  });
}

/** Who uses a module or a parameter, to find what others would feel. */
class Users {
  private readonly places = new Map<Module, number>();
  private readonly holders = new Map<Parameter, Set<Module>>();

  constructor(model: Module) {
    for (const module of model.modules()) {
      this.places.set(module, (this.places.get(module) ?? 0) + 1);
      for (const value of Object.values(module)) {
        if (!(value instanceof Parameter)) continue;
        const holders = this.holders.get(value) ?? new Set();
        this.holders.set(value, holders.add(module));
      }
    }
  }

  /** Says how a module is shared; null if it is not. */
  sharing(module: Module): string | null {
    const name = module.constructor.name;
    if ((this.places.get(module) ?? 0) > 1) return `a ${name} that is used in several places`;
    const tied = Object.values(module).some((v) => v instanceof Parameter && (this.holders.get(v)?.size ?? 0) > 1);
    return tied ? `a ${name} that shares a parameter with another layer` : null;
  }
}

function reasonNotTo(before: Link | undefined, norm: Link, uses: Users): string | null {
  if (!before) return "nothing precedes it";
  if (!kindOf(before.module)) return `it follows ${called(before.path, before.module)}`;
  const shared = uses.sharing(before.module) ?? uses.sharing(norm.module);
  if (shared) return `it is about ${shared}`;
  return channelMisfit(before.module as AnyLayer, norm.module as AnyNorm);
}

/** Why a norm is not one of the layer's output channels, or null. */
function channelMisfit(layer: AnyLayer, norm: AnyNorm): string | null {
  const { axes } = kindOf(layer)!;
  const channels = outputsOf(layer);
  if (norm.featureShape.length !== 1 || (axes !== null && (norm as BatchNorm).perFeature)) {
    return `a norm with statistics for each feature of ${JSON.stringify(norm.featureShape)}`;
  }
  if (norm.numFeatures !== channels) return `a norm of ${norm.numFeatures} channels behind ${channels} outputs`;
  const wide = norm instanceof BatchNorm2d || norm instanceof BatchNorm3d;
  const fits = axes === null ? [-1, wide ? Number.NaN : 1] : [1, -1 - axes];
  return fits.includes(norm.axis) ? null : `a norm on axis ${norm.axis}, where the layer has no channels`;
}

/** Output channels: axis 0 of the weight; of a transposed convolution axis 1, for each group. */
function outputsOf(layer: AnyLayer): number {
  // A parametrized weight is made anew for each reader.
  const shape = scope(() => layer.weight.shape);
  return kindOf(layer)!.transposed ? shape[1]! * layer.groups! : shape[0]!;
}

function checkEvaluation(owner: string, module: Module): void {
  if (!module.training) return;
  throw new StateError({
    rule: `${owner} takes what is in evaluation: in training a norm divides by each batch's own statistics`,
    got: `a ${module.constructor.name} in training`,
    fix: "Call eval() first",
  });
}

function checkFoldable(owner: string, norm: AnyNorm, path: string): void {
  if (!(norm instanceof FrozenBatchNorm)) checkEvaluation(owner, norm);
  if (norm.runningMean && norm.runningVar) return;
  throw new StateError({
    rule: `${owner} folds running statistics`,
    got: `${called(path, norm)} with trackRunningStats: false, whose output depends on the batch`,
    fix: "Convert it to another normalization, or train it with running statistics",
  });
}

/** weight' = weight s and bias' = (bias - mean) s + beta with s = gamma / sqrt(var + eps), rounded once. */
function absorb(layer: AnyLayer, norm: AnyNorm): void {
  for (const name of parametrizedNames(layer)) removeParametrization(layer, name);
  const numbers = (t: Tensor | null, otherwise: number) =>
    t
      ? Float64Array.from(t.detach().expand(norm.featureShape).dataSync())
      : new Float64Array(norm.numFeatures).fill(otherwise);
  const [gamma, beta] = [numbers(norm.weight, 1), numbers(norm.bias, 0)];
  const [mean, variance] = [numbers(norm.runningMean, 0), numbers(norm.runningVar, 1)];
  const scale = gamma.map((g, c) => g / Math.sqrt(variance[c]! + norm.eps));
  const { weight } = layer;
  const { transposed } = kindOf(layer)!;
  const old = weight.dataSync();
  const [first, second] = [weight.shape[0]!, weight.shape[1]!];
  const inner = weight.size / (first * second);
  const perGroup = first / (layer.groups ?? 1);
  const outputOf = (i: number): number => {
    const row = Math.floor(i / (second * inner));
    return transposed ? Math.floor(row / perGroup) * second + (Math.floor(i / inner) % second) : row;
  };
  weight.assign(Float64Array.from(old, (w, i) => w * scale[outputOf(i)]!));
  layer.bias ??= new Parameter(zeros([norm.numFeatures], { dtype: weight.dtype }));
  const bias = layer.bias.dataSync();
  layer.bias.assign(Float64Array.from(bias, (b, c) => (b - mean[c]!) * scale[c]! + beta[c]!));
}
