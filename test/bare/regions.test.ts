/** More hot code than tier 1 keeps, and resets while it is compiled. */
import { expect, test } from 'vitest';
import { formatJitInfo } from '../../src/jit/info.ts';
import { REGION_SLOTS } from '../../src/jit/layout.ts';
import { binaryPath } from './build.ts';
import { startSmp86 } from './run.ts';

const OPTIONS = ['-smp', '2', '-append', '+'];
const TIMEOUT_MS = 240_000;
const POLL_MS = 200;
const RESETS = 12;
/** What is kept of regions' modules, and how many are to make room. */
const BYTES = 1 << 20;
const EVICTED = 200;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test(
  'regions beyond the bound: old ones make room, and the sums stay right',
  async () => {
    await using run = await startSmp86(binaryPath('regions'), [...OPTIONS, '-accel', 'tcg,tb-size=1']);
    const end = performance.now() + TIMEOUT_MS;
    let info = await run.machine.jitInfo();
    while (info !== undefined && info.compiler.evicted < EVICTED && performance.now() < end) {
      expect(info.compiler.bytes).toBeLessThanOrEqual(BYTES);
      await sleep(POLL_MS);
      info = await run.machine.jitInfo();
    }
    expect(info?.compiler.evicted).toBeGreaterThanOrEqual(EVICTED);
    expect(info?.compiler.bytes).toBeGreaterThan(BYTES * 0.9);
    expect(info?.codeCache.flushes).toBe(0);
    expect(info?.use.entered).toBeGreaterThan(info?.compiler.modules ?? Infinity);
    expect(info?.regions.filter((r) => r.valid).length).toBeGreaterThan(
      (info?.compiler.modules ?? Infinity) / 2,
    );
    if (info !== undefined) {
      expect(formatJitInfo(info)).toContain(
        `live modules             ${info.compiler.modules}/${REGION_SLOTS}`,
      );
      expect(formatJitInfo(info)).toContain(`module bytes             ${info.compiler.bytes}/${BYTES}`);
    }
    run.machine.serial[0]?.write('.');
    const result = await run.end(60_000);
    expect(result.output).toMatch(/^begin\r?\nrounds: [0-9a-f]+\r?\nbad sums: 0\r?\n$/);
    expect(result.status).toBe(33);
  },
  TIMEOUT_MS + 90_000,
);

test(
  'resets while regions are compiled: each begins with none, and the sums stay right',
  async () => {
    await using run = await startSmp86(binaryPath('regions'), [...OPTIONS, '-action', 'reboot=reset']);
    const { machine } = run;
    const end = performance.now() + TIMEOUT_MS;
    for (let i = 1; i <= RESETS; i++) {
      // a little further every time, so that it comes at different moments of a compilation
      let regions = await machine.regions();
      while (regions.length < 3 * i && performance.now() < end) {
        await sleep(2);
        regions = await machine.regions();
      }
      expect(regions.length).toBeGreaterThanOrEqual(3 * i);
      await machine.reset();
      expect((await machine.jitInfo())?.codeCache.flushes).toBe(i);
    }
    while ((await machine.regions()).length < 100 && performance.now() < end) await sleep(POLL_MS);
    machine.serial[0]?.write('.');
    const result = await run.end(60_000);
    expect(result.output).toMatch(/begin\r?\nrounds: [0-9a-f]+\r?\nbad sums: 0\r?\n$/);
    expect(result.output.match(/begin/g)?.length).toBeGreaterThan(1);
    expect(result.status).toBe(33);
  },
  TIMEOUT_MS + 90_000,
);
