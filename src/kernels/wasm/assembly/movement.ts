// movement kernels
