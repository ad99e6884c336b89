// row_norm kernels
