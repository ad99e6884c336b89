import { expect, test } from "vitest";
import { tensor } from "../../src/autograd/index.js";
import { type Communicator, loopback } from "../../src/base/communicator.js";
import { broadcastState, sumGradients } from "../../src/distributed/index.js";
import { BatchNorm } from "../../src/nn/index.js";

test("sumGradients sends one message a type, zeros for a gradient that is not there", () => {
  const sent: string[] = [];
  const twice: Communicator = {
    ...loopback,
    allReduce(data) {
      sent.push(`${data.constructor.name} ${data.join(" ")}`);
      data.set(data.map((v) => 2 * v));
    },
  };
  const [a, b, c] = [tensor([1, 2]), tensor([3], { dtype: "float64" }), tensor([4])];
  for (const p of [a, b, c]) p.requiresGrad = true;
  a.grad = tensor([5, 6]);
  b.grad = tensor([7], { dtype: "float64" });
  sumGradients(twice, [a, b, c]);
  expect(sent).toEqual(["Float64Array 7", "Float32Array 5 6 0"]);
  expect([a, b, c].map((p) => [...p.grad!.dataSync()])).toEqual([[10, 12], [14], [0]]);
});

test("broadcastState sends parameters and buffers of every type, exactly", () => {
  const from = new BatchNorm(2);
  from.weight!.assign([0.1, 0.2]);
  from.numBatchesTracked!.assign([2 ** 30 + 1]);
  let held = new Float64Array();
  const keep: Communicator["broadcast"] = (data) => {
    held = Float64Array.from(data);
  };
  broadcastState({ ...loopback, broadcast: keep }, from);
  const to = new BatchNorm(2);
  broadcastState({ ...loopback, rank: 1, broadcast: (data) => data.set(held) }, to);
  for (const [name, t] of Object.entries(from.stateDict())) {
    expect([...to.stateDict()[name]!.dataSync()], name).toEqual([...t.dataSync()]);
  }
});
