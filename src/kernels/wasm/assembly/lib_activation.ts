// Activations on runs of float32, for the kernels of activation.ts and for those that end in one.
import { map, map2 } from "./lib_lanes";
import { exp, expDown, scaledErfc, select, sigmoid, splat, tanh } from "./lib_math";

/** The code of the rectifier, which is cheap enough to be taken in the step before it. */
export const RELU: i32 = 0;

/** y = f(x) over `bytes` bytes; y may be x. The codes are those of src/kernels/wasm/activation.ts. */
export function activate(op: i32, x: usize, y: usize, bytes: usize, slope: f32): void {
  const alpha = splat(slope);
  switch (op) {
    case 0: map<Relu>(x, y, bytes, alpha); break;
    case 1: map<LeakyRelu>(x, y, bytes, alpha); break;
    case 2: map<Gelu>(x, y, bytes, alpha); break;
    case 3: map<GeluTanh>(x, y, bytes, alpha); break;
    case 4: map<Silu>(x, y, bytes, alpha); break;
    case 5: map<Sigmoid>(x, y, bytes, alpha); break;
    case 6: map<Tanh>(x, y, bytes, alpha); break;
  }
}

/** dx = dy * f'(x) over `bytes` bytes; dx may be x or dy. */
export function activateGrad(op: i32, x: usize, dy: usize, dx: usize, bytes: usize, slope: f32): void {
  const alpha = splat(slope);
  switch (op) {
    case 0: map2<ReluGrad>(x, dy, dx, bytes, alpha); break;
    case 1: map2<LeakyReluGrad>(x, dy, dx, bytes, alpha); break;
    case 2: map2<GeluGrad>(x, dy, dx, bytes, alpha); break;
    case 3: map2<GeluTanhGrad>(x, dy, dx, bytes, alpha); break;
    case 4: map2<SiluGrad>(x, dy, dx, bytes, alpha); break;
    case 5: map2<SigmoidGrad>(x, dy, dx, bytes, alpha); break;
    case 6: map2<TanhGrad>(x, dy, dx, bytes, alpha); break;
  }
}

/** pmax returns its first argument when that is NaN. */
// @ts-ignore: decorator
@inline export function rectify(x: v128): v128 { return f32x4.pmax(x, splat(0)); }
/** By bits, so that an infinite dy where x <= 0 gives 0; a NaN in x lets dy pass, as in torch. */
// @ts-ignore: decorator
@inline export function rectifyGrad(x: v128, dy: v128): v128 { return v128.andnot(dy, f32x4.le(x, splat(0))); }

@unmanaged class Relu { @inline v(x: v128, alpha: v128): v128 { return rectify(x); } }
@unmanaged class ReluGrad { @inline v(x: v128, dy: v128, alpha: v128): v128 { return rectifyGrad(x, dy); } }

@unmanaged class LeakyRelu {
  @inline v(x: v128, alpha: v128): v128 { return select(f32x4.gt(x, splat(0)), x, f32x4.mul(x, alpha)); }
}
@unmanaged class LeakyReluGrad {
  @inline v(x: v128, dy: v128, alpha: v128): v128 {
    return select(f32x4.gt(x, splat(0)), dy, f32x4.mul(dy, alpha));
  }
}

/** The share of the normal distribution below x, where e = exp(-x^2 / 2); its left tail keeps its relative accuracy. */
// @ts-ignore: decorator
@inline function normalBelow(x: v128, e: v128): v128 {
  const z = f32x4.pmin(f32x4.mul(f32x4.abs(x), splat(0.707106781)), splat(10.2));
  const tail = f32x4.mul(f32x4.mul(e, splat(0.5)), scaledErfc(z));
  return select(f32x4.lt(x, splat(0)), tail, f32x4.sub(splat(1), tail));
}
// @ts-ignore: decorator
@inline function bell(x: v128): v128 { return expDown(f32x4.mul(f32x4.mul(x, x), splat(-0.5))); }

/** x P(X < x) for X standard normal: the form with erf. */
@unmanaged class Gelu { @inline v(x: v128, alpha: v128): v128 { return f32x4.mul(x, normalBelow(x, bell(x))); } }
@unmanaged class GeluGrad {
  @inline v(x: v128, dy: v128, alpha: v128): v128 {
    const e = bell(x);
    // 1 / sqrt(2 pi)
    const slope = f32x4.mul(f32x4.mul(x, e), splat(0.398942280));
    return f32x4.mul(dy, f32x4.add(normalBelow(x, e), slope));
  }
}

/** x (1 + tanh u) / 2 = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3): nothing cancels in this form. */
@unmanaged class GeluTanh {
  @inline v(x: v128, alpha: v128): v128 { return f32x4.mul(x, sigmoid(twoU(x))); }
}
// @ts-ignore: decorator
@inline function twoU(x: v128): v128 {
  const s = f32x4.mul(x, x);
  return f32x4.mul(x, f32x4.add(f32x4.mul(s, splat(0.0713548163)), splat(1.59576912)));
}
@unmanaged class GeluTanhGrad {
  @inline v(x: v128, dy: v128, alpha: v128): v128 {
    // Beyond 12 the sigmoid is 0 or 1 in float32; there the cube must not overflow and meet that 0.
    const c = f32x4.pmax(f32x4.pmin(x, splat(12)), splat(-12));
    const s = f32x4.mul(c, c);
    const slope = f32x4.add(f32x4.mul(s, splat(0.214064449)), splat(1.59576912));
    const t = twoU(c);
    return f32x4.mul(dy, f32x4.add(sigmoid(t), f32x4.mul(f32x4.mul(c, slope), sigmoidSlope(t))));
  }
}

@unmanaged class Silu { @inline v(x: v128, alpha: v128): v128 { return f32x4.mul(x, sigmoid(x)); } }
@unmanaged class SiluGrad {
  @inline v(x: v128, dy: v128, alpha: v128): v128 {
    return f32x4.mul(dy, f32x4.add(sigmoid(x), f32x4.mul(x, sigmoidSlope(x))));
  }
}

@unmanaged class Sigmoid { @inline v(x: v128, alpha: v128): v128 { return sigmoid(x); } }
/** e / (1 + e)^2 with e = e^-|x|, where s (1 - s) would cancel. */
// @ts-ignore: decorator
@inline function sigmoidSlope(x: v128): v128 {
  const e = exp(f32x4.neg(f32x4.abs(x)));
  const d = f32x4.add(e, splat(1));
  return f32x4.div(e, f32x4.mul(d, d));
}
@unmanaged class SigmoidGrad {
  @inline v(x: v128, dy: v128, alpha: v128): v128 { return f32x4.mul(dy, sigmoidSlope(x)); }
}

@unmanaged class Tanh { @inline v(x: v128, alpha: v128): v128 { return tanh(x); } }
/** 1 - tanh^2 x = 4 sigmoid'(2x). */
@unmanaged class TanhGrad {
  @inline v(x: v128, dy: v128, alpha: v128): v128 {
    return f32x4.mul(dy, f32x4.mul(splat(4), sigmoidSlope(f32x4.add(x, x))));
  }
}
