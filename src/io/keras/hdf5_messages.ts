// What goes between the main thread and the worker that HDF5's C library runs in.

/** Where the worker finds a file: its bytes, a Blob that it reads part by part, or in Node a path. */
export type Hdf5Place = { readonly bytes: Uint8Array } | { readonly blob: Blob } | { readonly path: string };

export interface NewDataset {
  readonly path: string;
  readonly shape: readonly number[];
  /** HDF5's class of the type: 0 whole numbers, 1 floats. */
  readonly kind: 0 | 1;
  readonly elementBytes: number;
  readonly signed: boolean;
  /** Little-endian. */
  readonly bytes: Uint8Array;
}

export type Hdf5Request =
  | { readonly kind: "open"; readonly file: number; readonly place: Hdf5Place; readonly size: number }
  | { readonly kind: "read"; readonly file: number; readonly path: string; readonly bytes: number }
  | { readonly kind: "close"; readonly file: number }
  | { readonly kind: "write"; readonly groups: readonly string[]; readonly datasets: readonly NewDataset[] };

/** A dataset as its header announces it. */
export interface Hdf5Dataset {
  readonly path: string;
  /** Null for a dataset without any extent. */
  readonly shape: readonly number[] | null;
  /** HDF5's class of the type: 0 whole numbers, 1 floats, 3 text, 5 opaque, 8 enumeration, ... */
  readonly kind: number;
  readonly elementBytes: number;
  readonly signed: boolean;
  readonly chunked: boolean;
  /** Put together from parts of other datasets or files. */
  readonly virtual: boolean;
  readonly filters: readonly number[];
  /** What Keras writes beside numbers that HDF5 has no type for. */
  readonly note: string | null;
}

export interface Hdf5Listing {
  readonly datasets: readonly Hdf5Dataset[];
  /** Links that are not followed, with their kind. */
  readonly links: readonly (readonly [path: string, kind: string])[];
  /** Texts of the attributes that Keras writes, by the path of their group and their name. */
  readonly attributes: readonly (readonly [group: string, name: string, texts: readonly string[]])[];
}

/** `wrong` says what is wrong with the file; `broken` means that the C library itself failed and must not be used again. */
export type Hdf5Reply =
  | { readonly value: Hdf5Listing | Uint8Array | null; readonly heap: number }
  | { readonly wrong: string; readonly at: string; readonly broken: boolean; readonly heap: number };
