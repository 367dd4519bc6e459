import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bucketEnd, bucketOf, BUCKETS, Histogram } from '../../src/stress/histogram.ts';

it('a bucket holds its duration and is at most a sixteenth wider', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 46 }), (ns) => {
      const bucket = bucketOf(ns);
      expect(bucket).toBeLessThan(BUCKETS);
      expect(bucketEnd(bucket)).toBeGreaterThanOrEqual(ns);
      if (bucket > 0) expect(bucketEnd(bucket - 1)).toBeLessThan(ns);
      expect(bucketEnd(bucket)).toBeLessThanOrEqual(ns * (1 + 1 / 16));
    }),
  );
});

it('durations out of range go to the first and the last bucket', () => {
  expect(bucketOf(-5)).toBe(0);
  expect(bucketOf(2 ** 60)).toBe(BUCKETS - 1);
});

it('percentiles of known durations are right to a bucket, and never above the longest', () => {
  const histogram = new Histogram();
  for (let ns = 1; ns <= 10_000; ns++) histogram.addBucket(bucketOf(ns), 1);
  histogram.max = 10_000;
  expect(Math.abs(histogram.percentile(0.5) - 5000)).toBeLessThan(5000 / 16);
  expect(Math.abs(histogram.percentile(0.99) - 9900)).toBeLessThan(9900 / 16);
  expect(histogram.percentile(1)).toBe(10_000);
  expect(new Histogram().percentile(0.5)).toBe(0);
});

it('adding two histograms is as if all durations had gone into one', () => {
  const durations = fc.array(fc.integer({ min: 0, max: 1e9 }));
  fc.assert(
    fc.property(durations, durations, (a, b) => {
      const of = (list: readonly number[]): Histogram => {
        const histogram = new Histogram();
        for (const ns of list) histogram.addBucket(bucketOf(ns), 1);
        histogram.max = Math.max(0, ...list);
        return histogram;
      };
      const sum = of(a);
      sum.add(of(b));
      const all = of([...a, ...b]);
      expect(sum.entries()).toEqual(all.entries());
      expect([sum.count, sum.max]).toEqual([all.count, all.max]);
    }),
  );
});
