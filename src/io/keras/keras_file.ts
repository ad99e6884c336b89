import type { TensorFile } from "../tensor_file.js";

/** What a tensor of a Keras file is to its layer, as far as the file tells. */
export interface KerasVariable {
  /** The layer's name; behind the names of the models and layers around it, with a "/" between. */
  readonly layer: string;
  /** "Conv2D", "BatchNormalization", ...; null where the file does not say and the name tells nothing. */
  readonly class: string | null;
  /** "kernel", "moving_variance", ...; null where it cannot be told. */
  readonly variable: string | null;
}

export interface KerasFile extends TensorFile {
  readonly format: "keras";
  /** Keras 3 numbers a layer's variables ("layers/conv2d/vars/0"); Keras 1 and 2 name them ("conv2d/kernel:0"). */
  readonly layout: "numbered" | "named";
  /** The model's configuration, parsed: of a .keras file, and of a whole model in an .h5 file. Null when there are only weights. */
  readonly config: unknown;
  /** In the order of the model where a configuration tells it. Optimizers' and models' own variables have none. */
  readonly variables: ReadonlyMap<string, KerasVariable>;
  /** What the file holds besides numbers, by path: texts, links. With the reason why each is not among the tensors. */
  readonly skipped: ReadonlyMap<string, string>;
}
