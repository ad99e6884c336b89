// optimizers kernels
