// column_norm kernels
