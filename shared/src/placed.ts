/** Primitives as fields of a struct. */
import type { Field } from './struct.ts';

/** A primitive of fixed size, and a ring, whose size depends on its capacity. */
export interface PrimitiveType<T> {
  new (buffer: SharedArrayBuffer, at: number): T;
  readonly BYTES: number;
  readonly ALIGN: number;
}
export interface RingType<T> {
  new (buffer: SharedArrayBuffer, at: number, capacity: number): T;
  bytesFor(capacity: number): number;
  readonly ALIGN: number;
}

/** `struct({ lock: placed(Mutex), … })` */
export function placed<T>(type: PrimitiveType<T>): Field<T> {
  return { size: type.BYTES, align: type.ALIGN, make: (views, at) => new type(views.buffer, at) };
}

/** `struct({ output: placedRing(SpscRing, 4096), … })` */
export function placedRing<T>(type: RingType<T>, capacity: number): Field<T> {
  return {
    size: type.bytesFor(capacity),
    align: type.ALIGN,
    make: (views, at) => new type(views.buffer, at, capacity),
  };
}
