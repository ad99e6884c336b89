// activation kernels
