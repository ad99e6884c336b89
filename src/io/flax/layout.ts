// Flax's own types among msgpack's extensions, and the mark of an array that is cut up.

export const NDARRAY = 1;
export const COMPLEX = 2;
export const SCALAR = 3;
export const CHUNKED = "__msgpack_chunked_array__";
