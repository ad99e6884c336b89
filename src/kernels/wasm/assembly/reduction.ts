// reduction kernels
