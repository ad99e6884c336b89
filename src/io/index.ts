// Everything under `evenkeel/io`: models and tensors in the formats of others.

export * from "./convert/index.js";
export { openFlax } from "./flax/open_flax.js";
export { saveFlax } from "./flax/save_flax.js";
export type { KerasFile, KerasVariable } from "./keras/keras_file.js";
export { type KerasOptions, openKeras } from "./keras/open_keras.js";
export { saveKerasWeights } from "./keras/save_keras.js";
export { loadInto } from "./load_into.js";
export { tensorOf } from "./load_tensors.js";
export { loadNpy, loadNpz, openNpz } from "./numpy/read.js";
export { type NpyOptions, type NpzOptions, saveNpy, saveNpz } from "./numpy/write.js";
export { type ExternalData, type LoadOnnxOptions, loadOnnx } from "./onnx/load_onnx.js";
export { type OnnxInput, OnnxModule } from "./onnx/model.js";
export { type ExportOnnxOptions, exportOnnx, type OnnxPort, type OnnxReport } from "./onnx/write/export_onnx.js";
export { loadSafetensors, openSafetensors } from "./safetensors/read.js";
export { type SafetensorsOptions, saveSafetensors } from "./safetensors/write.js";
export type { ByteSource } from "./source/byte_source.js";
export type { LaterInput, NowInput } from "./source/open.js";
export type { FileTensor, TensorFile, TensorInfo } from "./tensor_file.js";
export { openTensors, saveTensors } from "./tensor_formats.js";
export type { ElementTypes, TensorsToWrite } from "./tensors_to_write.js";
export { openTfjs, type TfjsFile, type TfjsModel } from "./tfjs_files/open_tfjs.js";
export { saveTfjs, type TfjsOptions } from "./tfjs_files/save_tfjs.js";
export { loadTorch, openTorch, type TorchOptions } from "./torch/read.js";
