import type { ConvPlan, Triple } from "../kernel_set.js";
import type { Program } from "./program.js";

export const volume = (t: Triple): number => t[0] * t[1] * t[2];

/** Values by axis under the names xD, xH and xW. */
export const byAxis = (name: string, t: Triple): Record<string, number> => ({
  [`${name}D`]: t[0],
  [`${name}H`]: t[1],
  [`${name}W`]: t[2],
});

const axes = (name: string): Program["parameters"] => ({
  [`${name}D`]: "u32",
  [`${name}H`]: "u32",
  [`${name}W`]: "u32",
});

/** Parameters of every shader of convolutions; `inputs` and `outputs` are channels of one group. */
export const convParameters: Program["parameters"] = {
  ...{ inChannels: "u32", outChannels: "u32", inputs: "u32", outputs: "u32", inVolume: "u32", outVolume: "u32" },
  ...axes("in"),
  ...axes("out"),
  ...axes("stride"),
  ...axes("pad"),
  ...axes("dilation"),
};

export const convNumbers = (p: ConvPlan): Record<string, number> => ({
  ...{ inChannels: p.inChannels, outChannels: p.outChannels },
  ...{ inputs: p.inChannels / p.groups, outputs: p.outChannels / p.groups },
  ...{ inVolume: volume(p.input), outVolume: volume(p.output) },
  ...byAxis("in", p.input),
  ...byAxis("out", p.output),
  ...byAxis("stride", p.stride),
  ...byAxis("pad", p.padding),
  ...byAxis("dilation", p.dilation),
});

/** Lengths of kernels are constants of a shader: divisions by them are then multiplications, and those by 1 nothing. */
export const kernelConstants = ({ kernel }: ConvPlan): Record<string, number> => byAxis("K_", kernel);

/** A tap, or a position, by its number; what is left of the number is that of a plane or an image. */
export const UNFLATTEN = `
struct Spot { d: u32, h: u32, w: u32, rest: u32 }
fn tap_of(p: u32) -> Spot { return Spot(p / K_W / K_H % K_D, p / K_W % K_H, p % K_W, p / K_W / K_H / K_D); }
fn spot_of(p: u32, d: u32, h: u32, w: u32) -> Spot {
  let row = p / w;
  let plane = row / h;
  let rest = plane / d;
  return Spot(plane - rest * d, row - plane * h, p - row * w, rest);
}`;
