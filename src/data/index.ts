export * from "./browser.js";
export { cifar10 } from "./cifar10.js";
export { mnist } from "./mnist.js";
