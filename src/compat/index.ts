// `evenkeel/compat`: normalization layers under other systems' names and conventions.
export * as dll from "./dll.js";
export * as flax from "./flax.js";
export * as keras from "./keras.js";
export * as mygrad from "./mygrad.js";
export * as npdl from "./npdl.js";
export * as puzzlelib from "./puzzlelib.js";
