/**
 * Typed structs over shared memory: fields are declared once, and offsets, sizes and typed
 * accessors follow. A struct is placed at a byte offset of a buffer and owns no memory.
 *
 * Plain fields (`u8` … `u64`, `f64`, `ns`, `bool`) read and write like properties and need the
 * protection of a lock. Atomic fields (`atomicI32`, `atomicNs`, see atomic.ts) are objects with
 * methods, so that a reader of the code sees which is which.
 */

/** The typed-array views of one buffer, made once and shared by every struct on it. */
export interface Views {
  readonly buffer: SharedArrayBuffer;
  readonly u8: Uint8Array<SharedArrayBuffer>;
  readonly u16: Uint16Array<SharedArrayBuffer>;
  readonly u32: Uint32Array<SharedArrayBuffer>;
  readonly i32: Int32Array<SharedArrayBuffer>;
  readonly f64: Float64Array<SharedArrayBuffer>;
  readonly u64: BigUint64Array<SharedArrayBuffer>;
  readonly i64: BigInt64Array<SharedArrayBuffer>;
}

const viewCache = new WeakMap<SharedArrayBuffer, Views>();

/** Views of `buffer`. A shared wasm memory that never grows keeps one buffer for its lifetime. */
export function viewsOf(buffer: SharedArrayBuffer): Views {
  let views = viewCache.get(buffer);
  if (views === undefined) {
    views = {
      buffer,
      u8: new Uint8Array(buffer),
      u16: new Uint16Array(buffer, 0, buffer.byteLength >>> 1),
      u32: new Uint32Array(buffer, 0, buffer.byteLength >>> 2),
      i32: new Int32Array(buffer, 0, buffer.byteLength >>> 2),
      f64: new Float64Array(buffer, 0, Math.floor(buffer.byteLength / 8)),
      u64: new BigUint64Array(buffer, 0, Math.floor(buffer.byteLength / 8)),
      i64: new BigInt64Array(buffer, 0, Math.floor(buffer.byteLength / 8)),
    };
    viewCache.set(buffer, views);
  }
  return views;
}

type Plain = 'u8' | 'u16' | 'u32' | 'i32' | 'f64' | 'u64' | 'bool';

/** A field type: how large it is and how it appears on a struct's view. */
export interface Field<V> {
  readonly size: number;
  readonly align: number;
  /** A property read and written through the views; `undefined` when the field is an object. */
  readonly plain?: Plain;
  /** Makes the object that stands for the field at byte offset `at`. */
  readonly make?: (views: Views, at: number) => V;
  /** Type witness; never present at run time. */
  readonly witness?: V;
  /** True when the field's object is replaced by assignment (plain fields only). */
  readonly mutable?: boolean;
}

/** A field whose property can be assigned. */
export interface PlainField<V> extends Field<V> {
  readonly plain: Plain;
  readonly mutable: true;
}

function plainField<V>(plain: Plain, size: number): PlainField<V> {
  return { plain, size, align: size, mutable: true };
}

export const u8 = plainField<number>('u8', 1);
export const u16 = plainField<number>('u16', 2);
export const u32 = plainField<number>('u32', 4);
export const i32 = plainField<number>('i32', 4);
export const f64 = plainField<number>('f64', 8);
/** 64-bit word as a BigInt: for state that is rarely touched from TypeScript. */
export const u64 = plainField<bigint>('u64', 8);
/** A truth value in one byte. */
export const bool = plainField<boolean>('bool', 1);
/** Nanoseconds in a float64: exact to 2^53 ns; `Infinity` is never. */
export const ns = plainField<number>('f64', 8);

/** Names of the fields that are assigned as properties. */
type Fields = Record<string, Field<unknown>>;
type ValueOf<F> = F extends Field<infer V> ? V : never;
/** The view of a struct: plain fields are properties, other fields are objects. */
export type StructView<T extends Fields> = {
  [K in keyof T as T[K] extends { mutable: true } ? K : never]: ValueOf<T[K]>;
} & {
  readonly [K in keyof T as T[K] extends { mutable: true } ? never : K]: ValueOf<T[K]>;
} & { readonly $offset: number; readonly $views: Views };

/** A declared struct. As a field of another struct it is a nested view. */
export interface StructType<T extends Fields> extends Field<StructView<T>> {
  readonly fields: T;
  /** Byte offset of a field from the struct's start. */
  offsetOf(name: keyof T & string): number;
  /** The view of the struct placed at byte offset `at`, which must be a multiple of `align`. */
  at(buffer: SharedArrayBuffer, at: number): StructView<T>;
}
/** `type X = ViewOf<typeof XState>`: the view type of a declared struct. */
export type ViewOf<S> = S extends Field<infer V> ? V : never;

interface RawView {
  $offset: number;
  $views: Views;
}

function accessor(plain: Plain, offset: number): PropertyDescriptor & ThisType<RawView> {
  const word = offset;
  switch (plain) {
    case 'u8':
      return {
        get() {
          return this.$views.u8[this.$offset + word];
        },
        set(v: number) {
          this.$views.u8[this.$offset + word] = v;
        },
      };
    case 'bool':
      return {
        get() {
          return this.$views.u8[this.$offset + word] !== 0;
        },
        set(v: boolean) {
          this.$views.u8[this.$offset + word] = v ? 1 : 0;
        },
      };
    case 'u16':
      return {
        get() {
          return this.$views.u16[(this.$offset + word) >>> 1];
        },
        set(v: number) {
          this.$views.u16[(this.$offset + word) >>> 1] = v;
        },
      };
    case 'u32':
      return {
        get() {
          return this.$views.u32[(this.$offset + word) >>> 2];
        },
        set(v: number) {
          this.$views.u32[(this.$offset + word) >>> 2] = v;
        },
      };
    case 'i32':
      return {
        get() {
          return this.$views.i32[(this.$offset + word) >>> 2];
        },
        set(v: number) {
          this.$views.i32[(this.$offset + word) >>> 2] = v;
        },
      };
    case 'f64':
      return {
        get() {
          return this.$views.f64[(this.$offset + word) >>> 3];
        },
        set(v: number) {
          this.$views.f64[(this.$offset + word) >>> 3] = v;
        },
      };
    case 'u64':
      return {
        get() {
          return this.$views.u64[(this.$offset + word) >>> 3];
        },
        set(v: bigint) {
          this.$views.u64[(this.$offset + word) >>> 3] = v;
        },
      };
  }
}

function roundUp(n: number, align: number): number {
  return Math.ceil(n / align) * align;
}

/** Declares a struct. Fields are laid out in the order given, each at its natural alignment. */
export function struct<T extends Fields>(fields: T): StructType<T> {
  const offsets = new Map<string, number>();
  const objects: { name: string; offset: number; make: (views: Views, at: number) => unknown }[] = [];
  const properties: PropertyDescriptorMap = {};
  let size = 0;
  let align = 1;
  for (const [name, field] of Object.entries(fields)) {
    size = roundUp(size, field.align);
    align = Math.max(align, field.align);
    offsets.set(name, size);
    if (field.plain !== undefined) {
      properties[name] = { enumerable: true, ...accessor(field.plain, size) };
    } else if (field.make !== undefined) {
      objects.push({ name, offset: size, make: field.make });
    }
    size += field.size;
  }
  size = roundUp(size, align);

  class View {
    $views: Views;
    $offset: number;
    constructor(views: Views, at: number) {
      this.$views = views;
      this.$offset = at;
      for (const o of objects) (this as Record<string, unknown>)[o.name] = o.make(views, at + o.offset);
    }
  }
  Object.defineProperties(View.prototype, properties);
  const make = (views: Views, at: number): StructView<T> => {
    if (at % align !== 0) throw new RangeError(`struct at ${at} needs alignment ${align}`);
    if (at + size > views.buffer.byteLength) throw new RangeError(`struct at ${at} lies outside the buffer`);
    return new View(views, at) as unknown as StructView<T>;
  };
  return {
    size,
    align,
    fields,
    make,
    offsetOf(name) {
      const offset = offsets.get(name);
      if (offset === undefined) throw new RangeError(`no field ${name}`);
      return offset;
    },
    at: (buffer, at) => make(viewsOf(buffer), at),
  };
}

/** The element view of an array field: indexable, with the length fixed. */
export interface NumberArray {
  readonly length: number;
  [index: number]: number;
  fill(value: number, start?: number, end?: number): unknown;
  set(source: ArrayLike<number>, offset?: number): void;
}
type TypedArrayOf<V> = V extends bigint ? BigUint64Array<SharedArrayBuffer> : NumberArray;

const typedArrays = {
  u8: Uint8Array,
  bool: Uint8Array,
  u16: Uint16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f64: Float64Array,
  u64: BigUint64Array,
} as const;

/** A fixed-length array: a typed array of a plain field type, or a list of nested structs. */
export function array<V>(element: PlainField<V>, length: number): Field<TypedArrayOf<V>>;
export function array<V>(element: Field<V>, length: number): Field<readonly V[]>;
export function array(element: Field<unknown>, length: number): Field<unknown> {
  const { plain, make, size, align } = element;
  if (plain !== undefined) {
    const Typed = typedArrays[plain] as Uint8ArrayConstructor; // all have the same constructor shape
    return { size: size * length, align, make: (views, at) => new Typed(views.buffer, at, length) };
  }
  if (make === undefined) throw new TypeError('array of a field without a view');
  return {
    size: size * length,
    align,
    make: (views, at) => Array.from({ length }, (_, i) => make(views, at + i * size)),
  };
}

/** Raw bytes. */
export function bytes(length: number): Field<Uint8Array<SharedArrayBuffer>> {
  return { size: length, align: 1, make: (views, at) => new Uint8Array(views.buffer, at, length) };
}

/** Starts the next field at a multiple of `align` bytes (a cache line is 64). */
export function padTo(align: number): Field<undefined> {
  return { size: 0, align, make: () => undefined };
}
