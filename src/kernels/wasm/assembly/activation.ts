import { activate, activateGrad } from "./lib_activation";
import { unitByte } from "./lib_lanes";

@unmanaged class Activation { op: f64; x: f64; y: f64; length: f64; alpha: f64; unit: f64; }

/** y = f(x). Unit u is the elements [u * unit, (u + 1) * unit). */
export function activation(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Activation>(args);
  const begin = unitByte(lo, a.unit, a.length), n = unitByte(hi, a.unit, a.length) - begin;
  activate(<i32>a.op, <usize>a.x + begin, <usize>a.y + begin, n, <f32>a.alpha);
}

@unmanaged class ActivationGrad { op: f64; x: f64; dy: f64; dx: f64; length: f64; alpha: f64; unit: f64; }

/** dx = dy * f'(x). */
export function activation_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<ActivationGrad>(args);
  const begin = unitByte(lo, a.unit, a.length), n = unitByte(hi, a.unit, a.length) - begin;
  activateGrad(<i32>a.op, <usize>a.x + begin, <usize>a.dy + begin, <usize>a.dx + begin, n, <f32>a.alpha);
}
