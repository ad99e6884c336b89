import { serialization } from "@tensorflow/tfjs-core";

/** A layer class of this folder. */
export interface NormClass extends serialization.SerializableConstructor<serialization.Serializable> {
  /** Its name in a saved model. */
  readonly className: string;
  /** Keras's name for the same layer. */
  readonly kerasName: string;
  readonly defaults: object;
}

const classes: NormClass[] = [];
let keras = false;

/** The last part of className: what errors and names of layers say. */
export const ownName = (layer: NormClass): string => layer.className.split(">").at(-1)!;

export const savedName = (layer: NormClass): string => (keras ? layer.kerasName : layer.className);

type Registry = serialization.SerializationMap["classNameMap"];
const registry = (): Registry => serialization.SerializationMap.getMap().classNameMap;

/**
 * Makes a class known to TensorFlow.js by its own name, and by Keras's where TensorFlow.js has no layer of that name.
 * Stands beside each class, so that a bundler keeps it with the class.
 */
export function register(layer: NormClass): void {
  classes.push(layer);
  serialization.registerClass(layer, "Evenkeel", ownName(layer));
  registry()[layer.kerasName] ??= [layer, layer.fromConfig];
}

/**
 * From now on a saved model's "BatchNormalization" and "LayerNormalization", which TensorFlow.js has layers for, are read as
 * those of Evenkeel, and Evenkeel's layers are saved under Keras's names. Weights have the same names and order either way.
 * Returns a function that puts back what was before.
 */
export function useKerasNames(): () => void {
  const names = registry();
  const before = { keras, entries: classes.map((layer) => [layer.kerasName, names[layer.kerasName]!] as const) };
  // A name that two classes share means the first of them.
  for (const layer of [...classes].reverse()) names[layer.kerasName] = [layer, layer.fromConfig];
  keras = true;
  return () => {
    for (const [name, entry] of before.entries) names[name] = entry;
    keras = before.keras;
  };
}
