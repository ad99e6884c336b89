/** A BLAS library that is loaded, with what each thread needs to load it too. */
export interface Found {
  /** Path of the loader of foreign functions. */
  readonly koffi: string;
  readonly library: string;
  readonly require: (name: string) => unknown;
  /** What the library says of itself. */
  readonly version: string;
  /** It is one that is known to be fast. */
  readonly named: boolean;
}

export interface NotFound {
  readonly reason: string;
}
