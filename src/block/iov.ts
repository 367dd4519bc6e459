/** Work on vectors of memory pieces. *Thread:* any. *Lock:* none. */
import type { IoVector } from './node.ts';

/** Bytes in `iov`. */
export function iovLength(iov: IoVector): number {
  if (iov.length === 1) return iov[0].length;
  let length = 0;
  for (const piece of iov) length += piece.length;
  return length;
}

/** The part [start, start + length) of `iov`, which has to be in it. */
export function iovSlice(iov: IoVector, start: number, length: number): IoVector {
  if (iov.length === 1) {
    const [piece] = iov;
    return start === 0 && length === piece.length ? iov : [piece.subarray(start, start + length)];
  }
  const result: Uint8Array[] = [];
  let skip = start;
  let left = length;
  for (const piece of iov) {
    if (left === 0) break;
    if (skip >= piece.length) {
      skip -= piece.length;
      continue;
    }
    const take = Math.min(piece.length - skip, left);
    result.push(skip === 0 && take === piece.length ? piece : piece.subarray(skip, skip + take));
    skip = 0;
    left -= take;
  }
  return result;
}

/** Fills [start, start + length) of `iov` with `value`. */
export function iovFill(iov: IoVector, value: number, start = 0, length = iovLength(iov) - start): void {
  for (const piece of iovSlice(iov, start, length)) piece.fill(value);
}

/** Copies `source` into `iov` from its byte `start` on. */
export function iovWrite(iov: IoVector, start: number, source: Uint8Array): void {
  let from = 0;
  for (const piece of iovSlice(iov, start, source.length)) {
    piece.set(source.subarray(from, from + piece.length));
    from += piece.length;
  }
}

/** A copy of [start, start + length) of `iov`, which nobody else changes. */
export function iovGather(iov: IoVector, start = 0, length = iovLength(iov) - start): Uint8Array {
  const result = new Uint8Array(length);
  let to = 0;
  for (const piece of iovSlice(iov, start, length)) {
    result.set(piece, to);
    to += piece.length;
  }
  return result;
}

const ZEROES = Buffer.alloc(65536);

/** A vector of `length` zero bytes; only to be read. */
export function zeroVector(length: number): IoVector {
  const pieces: Uint8Array[] = [];
  for (let left = length; left > 0; left -= ZEROES.length) {
    pieces.push(left >= ZEROES.length ? ZEROES : ZEROES.subarray(0, left));
  }
  return pieces;
}

/** Whether every byte is zero. The memory may be a guest's: a later look may see something else. */
export function isZero(bytes: Uint8Array): boolean {
  const { length } = bytes;
  if (length === 0) return true;
  // most data shows itself at one of these
  if (bytes[0] !== 0 || bytes[length - 1] !== 0 || bytes[length >>> 1] !== 0) return false;
  for (let at = 0; at < length; at += ZEROES.length) {
    const end = Math.min(at + ZEROES.length, length);
    if (ZEROES.compare(bytes, at, end, 0, end - at) !== 0) return false;
  }
  return true;
}

/** Whether every byte of the vector is zero. */
export function iovIsZero(iov: IoVector): boolean {
  return iov.every(isZero);
}
