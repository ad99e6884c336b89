/** The choices of the page, without the layers: the page's own thread need not load the library. */
export const normalizationChoices = [
  {
    id: "batch",
    label: "BatchNorm2d",
    explanation: "Mean and variance of each channel over the whole batch; running ones when it classifies.",
  },
  {
    id: "group",
    label: "GroupNorm, 4 channels a group",
    explanation: "Mean and variance over four channels of one image; the batch does not matter.",
  },
  {
    id: "layer",
    label: "GroupNorm(1), like LayerNorm",
    explanation: "Mean and variance over all channels and positions of one image.",
  },
  {
    id: "position",
    label: "LayerNorm2d",
    explanation: "Mean and variance over the channels, at each position of each image by itself.",
  },
  {
    id: "instance",
    label: "InstanceNorm2d",
    explanation: "Mean and variance of each channel of each image by itself.",
  },
  {
    id: "rms",
    label: "RMSNorm",
    explanation: "Division by the root mean square of one image; the mean stays where it is.",
  },
  {
    id: "response",
    label: "FilterResponseNorm",
    explanation: "Division by the root mean square of each channel of each image.",
  },
  {
    id: "dyt",
    label: "DyT",
    explanation: "No statistics: tanh(alpha x) with a learned alpha holds the numbers in bounds.",
  },
  {
    id: "none",
    label: "None",
    explanation: "The numbers go from convolution to ReLU as they are.",
  },
] as const;

export type NormalizationId = (typeof normalizationChoices)[number]["id"];
