import { heap } from "../../memory/heap.js";
import type { ConvPlan, KernelSet } from "../kernel_set.js";

/** Calls `meet` for every product of the convolution: y[yAt] gets x[xAt] * weight[wAt]. */
function eachProduct(p: ConvPlan, meet: (xAt: number, wAt: number, yAt: number) => void): void {
  const inputs = p.inChannels / p.groups;
  const outputs = p.outChannels / p.groups;
  const [inD, inH, inW] = p.input;
  const [outD, outH, outW] = p.output;
  const [kD, kH, kW] = p.kernel;
  for (let image = 0; image < p.batch; image++) {
    for (let out = 0; out < p.outChannels; out++) {
      const firstInput = image * p.inChannels + Math.floor(out / outputs) * inputs;
      for (let d = 0; d < outD; d++) {
        for (let h = 0; h < outH; h++) {
          for (let w = 0; w < outW; w++) {
            const yAt = (((image * p.outChannels + out) * outD + d) * outH + h) * outW + w;
            for (let c = 0; c < inputs; c++) {
              for (let i = 0; i < kD; i++) {
                const xD = d * p.stride[0] - p.padding[0] + i * p.dilation[0];
                if (xD < 0 || xD >= inD) continue;
                for (let j = 0; j < kH; j++) {
                  const xH = h * p.stride[1] - p.padding[1] + j * p.dilation[1];
                  if (xH < 0 || xH >= inH) continue;
                  for (let k = 0; k < kW; k++) {
                    const xW = w * p.stride[2] - p.padding[2] + k * p.dilation[2];
                    if (xW < 0 || xW >= inW) continue;
                    const xAt = (((firstInput + c) * inD + xD) * inH + xH) * inW + xW;
                    meet(xAt, (((out * inputs + c) * kD + i) * kH + j) * kW + k, yAt);
                  }
                }
              }
            }
          }
        }
      }
    }
  }
}

export const conv: Pick<KernelSet, "conv" | "convInputGrad" | "convWeightGrad"> = {
  conv(x, weight, bias, y, plan) {
    const [xv, wv] = [heap.view(x), heap.view(weight)];
    const sum = new Float64Array(y.length);
    if (bias) {
      const shift = heap.view(bias);
      const positions = plan.output[0] * plan.output[1] * plan.output[2];
      for (let i = 0; i < sum.length; i++) sum[i] = shift[Math.floor(i / positions) % plan.outChannels]!;
    }
    eachProduct(plan, (xAt, wAt, yAt) => {
      sum[yAt]! += xv[xAt]! * wv[wAt]!;
    });
    heap.view(y).set(sum);
  },

  convInputGrad(dy, weight, dx, plan) {
    const [dyv, wv] = [heap.view(dy), heap.view(weight)];
    const sum = new Float64Array(dx.length);
    eachProduct(plan, (xAt, wAt, yAt) => {
      sum[xAt]! += dyv[yAt]! * wv[wAt]!;
    });
    heap.view(dx).set(sum);
  },

  convWeightGrad(x, dy, dWeight, plan) {
    const [xv, dyv] = [heap.view(x), heap.view(dy)];
    const sum = new Float64Array(dWeight.length);
    eachProduct(plan, (xAt, wAt, yAt) => {
      sum[wAt]! += xv[xAt]! * dyv[yAt]!;
    });
    heap.view(dWeight).set(sum);
  },
};
