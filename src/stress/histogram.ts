/**
 * Histograms of durations: exact below 16 ns, then 16 buckets to each power of two, so a percentile is right to
 * about 6 %. One thread writes a histogram; others may read it at any time.
 */

/** Buckets reach 2^47 ns, a day and a half. */
export const BUCKETS = (47 - 4 + 1) * 16;

/** Bucket of a duration in ns; negative ones count as 0. */
export function bucketOf(ns: number): number {
  let value = ns < 1 ? 0 : Math.floor(ns);
  if (value < 16) return value;
  let exponent = 0;
  if (value >= 0x80000000) {
    value = Math.floor(value / 65536);
    exponent = 16;
    if (value >= 0x80000000) return BUCKETS - 1;
  }
  const log = 31 - Math.clz32(value);
  return (log - 4 + exponent + 1) * 16 + ((value >>> (log - 4)) & 15);
}

/** Longest duration, ns, that falls into a bucket. */
export function bucketEnd(bucket: number): number {
  if (bucket < 16) return bucket;
  const exponent = (bucket >>> 4) - 1;
  return (16 + (bucket & 15) + 1) * 2 ** exponent - 1;
}

/** Durations of one operation, as they are added up and written to reports. */
export class Histogram {
  /** Bucket to number of durations. */
  readonly counts = new Map<number, number>();
  count = 0;
  /** Longest, ns. */
  max = 0;

  addBucket(bucket: number, n: number): void {
    this.counts.set(bucket, (this.counts.get(bucket) ?? 0) + n);
    this.count += n;
  }

  add(other: Histogram): void {
    for (const [bucket, n] of other.counts) this.addBucket(bucket, n);
    this.max = Math.max(this.max, other.max);
  }

  /** The duration, ns, that `share` (0 … 1) of all do not exceed; 0 when there are none. */
  percentile(share: number): number {
    let left = Math.ceil(this.count * share);
    for (const [bucket, n] of this.entries()) {
      left -= n;
      if (left <= 0) return Math.min(bucketEnd(bucket), this.max);
    }
    return this.max;
  }

  /** In ascending order. */
  entries(): [number, number][] {
    return [...this.counts].sort((a, b) => a[0] - b[0]);
  }
}
