import type { Communicator } from "../../../base/communicator.js";
import { readOptions } from "../../../base/options.js";
import type { Module } from "../../module.js";
import { ActNorm } from "../act_norm.js";
import { BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d } from "../batch_norm.js";
import { BatchRenorm } from "../batch_renorm.js";
import { EvoNormB0 } from "../evo_norm.js";
import { InPlaceActivatedBatchNorm } from "../in_place_activated_batch_norm.js";
import { MaskedBatchNorm } from "../masked_batch_norm.js";
import { PowerNorm } from "../power_norm.js";
import { checkCommunicator } from "../rank_group.js";
import { SwitchableNorm } from "../switchable_norm.js";
import { SyncBatchNorm } from "../sync_batch_norm.js";
import { type AffineGradients, synchronizedDefaults } from "../synchronized.js";
import { VirtualBatchNorm } from "../virtual_batch_norm.js";
import { checkModel } from "./batch_norms.js";
import { exchange, isOf, type Kind, running, type Source, same } from "./convert.js";

const sync = running(SyncBatchNorm);
const renorm = running(BatchRenorm, { keeps: ["rMax", "dMax"] });
const masked = running(MaskedBatchNorm, { keeps: ["padded"] });
// A slope of 1 is activation "identity".
const inPlace = running(InPlaceActivatedBatchNorm, { keeps: ["negativeSlope"] });

/** What layers become, by what they are. */
const synchronized: readonly (readonly [from: Kind, name: string, to: Kind])[] = [
  ...[BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm].map(
    (type) => [running(type), "SyncBatchNorm", sync] as const,
  ),
  [renorm, "BatchRenorm", renorm],
  [masked, "MaskedBatchNorm", masked],
  [inPlace, "InPlaceActivatedBatchNorm", inPlace],
];

const affine = (old: Source) => ({ affine: old.weight !== null });

/** Layers that share statistics, and have no message that gradients of weight and bias could go with. */
const sharing: readonly (readonly [name: string, kind: Kind])[] = [
  ["ActNorm", same(ActNorm, ["scale", "eps", "axis"])],
  ["EvoNormB0", same(EvoNormB0, ["eps", "axis", "momentum", "runningStats"], (old) => ({ nonlinear: old.v !== null }))],
  [
    "PowerNorm",
    same(PowerNorm, ["eps", "alphaFwd", "alphaBkw", "warmupIters", "groups", "axis", "runningStats"], affine),
  ],
  ["SwitchableNorm", running(SwitchableNorm, { keeps: ["useBatchNorm"] })],
  ["VirtualBatchNorm", same(VirtualBatchNorm, ["eps", "axis"], affine)],
];

export interface ConvertSyncOptions {
  /** As of the layers; default "own". */
  readonly affineGradients?: AffineGradients;
}

/**
 * Lets every layer of a model with statistics of the batch take them over the ranks of `communicator`, and gives the model back; where the
 * model is itself such a layer, what it became. BatchNorm and BatchNorm1d to 3d become SyncBatchNorm; BatchRenorm, MaskedBatchNorm,
 * InPlaceActivatedBatchNorm, VirtualBatchNorm, SwitchableNorm, EvoNormB0, PowerNorm and ActNorm become layers of their kind; those of
 * several ranks already change their group. Parameters and buffers are the same tensors as before, options and modes stay. Other layers
 * stay, subclasses with a forward of their own too. Every rank converts its copy alike.
 *
 * Throws OptionError for a layer with an activation of its own, and where `communicator` is none; nothing is changed then.
 */
export function convertSyncBatchNorm(model: Module, communicator: Communicator, options?: ConvertSyncOptions): Module {
  const owner = "convertSyncBatchNorm";
  checkModel(owner, model);
  checkCommunicator(owner, communicator);
  const given = readOptions(owner, options, { affineGradients: synchronizedDefaults.affineGradients });
  return exchange(model, (module) => {
    const found = synchronized.find(([from]) => isOf(module, from));
    if (found) return { name: found[1], kind: found[2], options: { ...given, communicator } };
    const alike = sharing.find(([, kind]) => isOf(module, kind));
    return alike ? { name: alike[0], kind: alike[1], options: { communicator } } : null;
  }).model;
}
