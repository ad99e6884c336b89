// Names and conventions of frameworks.
export type { KindOptions } from "./asked.js";
export { type Conversion, type ConvertOptions, convertTensors } from "./convert_tensors.js";
export { type Framework, frameworkNames } from "./frameworks.js";
export { layerKinds } from "./layer_kinds.js";
export { type NormLayer, type NormMeaning, normLayers, normOptions } from "./norm_options.js";
export type { ConversionReport, LayerOptions, Outcome, ReportEntry } from "./report.js";
export type { GivenTensor, TensorSource } from "./sources.js";
