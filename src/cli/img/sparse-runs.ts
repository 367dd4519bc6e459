/** Splits data that was read into what must be written and what is zero. */
import { isZero } from './zeroes.ts';

export interface SparseRun {
  readonly start: number;
  readonly end: number;
  readonly zero: boolean;
}

/**
 * Runs of `data` [0, length), which lies at `offset` in the image. Zeroes count in whole blocks of `step` bytes, and
 * from `minimum` bytes on; less is data.
 */
export function* sparseRuns(
  data: Buffer,
  length: number,
  offset: number,
  step: number,
  minimum: number,
): Generator<SparseRun> {
  let start = 0;
  let zeroFrom: number | undefined;
  for (let at = 0; at < length;) {
    const end = Math.min(length, at + step - ((offset + at) % step));
    if (isZero(data, at, end)) {
      zeroFrom ??= at;
    } else {
      if (zeroFrom !== undefined && at - zeroFrom >= minimum) {
        if (zeroFrom > start) yield { start, end: zeroFrom, zero: false };
        yield { start: zeroFrom, end: at, zero: true };
        start = at;
      }
      zeroFrom = undefined;
    }
    at = end;
  }
  // a run that goes on beyond this piece may be a long one
  if (zeroFrom === undefined || zeroFrom >= length) {
    if (length > start) yield { start, end: length, zero: false };
    return;
  }
  if (zeroFrom > start) yield { start, end: zeroFrom, zero: false };
  yield { start: zeroFrom, end: length, zero: true };
}
