// The public names of `evenkeel/distributed`.
export { type Combination, type Communicator, loopback, type Numbers } from "../base/communicator.js";
export { broadcastState, sumGradients } from "./copies.js";
export { abortGroup, type GroupDescription, type GroupOptions, joinGroup, sharedGroup } from "./shared_group.js";
