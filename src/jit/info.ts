/** What tier 1 has done, and how it is told: the counterpart of the QEMU monitor's `info jit`. */
import { CpuEnv, REASON, VCPU_BLOCK_SIZE } from '../cpu/env.ts';
import type { QueueStatistics } from './compile-queue.ts';
import type { CompilerStatistics, RegionInfo } from './compiler.ts';
import { EXIT_COUNT } from './layout.ts';

/** Why regions were left, in the order of `CpuEnv.statRegionExits`. */
export type RegionExit =
  | 'miss'
  | 'jump'
  | 'kick'
  | 'exception'
  | 'lookup'
  | 'halt'
  | 'special'
  | 'budget'
  | 'alone'
  | 'hot'
  | 'region';

/** Of all vCPUs, since the machine's start. */
export interface RegionUseCounts {
  /** Times that a region was entered, from tier 0 and from other regions. */
  readonly entered: number;
  /** Of those, from another region. */
  readonly linked: number;
  readonly exits: Readonly<Record<RegionExit, number>>;
}

export interface CodeCacheInfo {
  readonly used: number;
  readonly size: number;
  /** Times that a page became code, since all was dropped. */
  readonly pages: number;
  readonly invalidations: number;
  /** Times that all code was dropped, by resets too. */
  readonly flushes: number;
}

/** The JIT worker's answer. */
export interface JitReport {
  readonly regions: RegionInfo[];
  readonly compiler: CompilerStatistics;
  readonly queue: QueueStatistics;
  readonly codeCache: CodeCacheInfo;
}
export interface JitInfo extends JitReport {
  readonly use: RegionUseCounts;
}

const EXITS: readonly RegionExit[] = [
  'jump',
  'miss',
  ...(Object.entries(REASON) as [string, number][])
    .sort(([, a], [, b]) => a - b)
    .map(([name]) => name.toLowerCase() as RegionExit),
];

/** Reads the vCPUs' counters. *Thread:* any; a vCPU that runs may be in the middle of one. */
export function regionUse(buffer: SharedArrayBuffer, vcpus: number, count: number): RegionUseCounts {
  const words = new BigUint64Array(buffer);
  const sum = (index: number): number => {
    let total = 0n;
    for (let i = 0; i < count; i++) {
      total += words[(vcpus + i * VCPU_BLOCK_SIZE + CpuEnv.offsetOf('statRegionExits')) / 8 + index];
    }
    return Number(total);
  };
  const linked = sum(EXIT_COUNT.NEXT);
  const exits = Object.fromEntries(EXITS.map((name, i) => [name, sum(i)])) as Record<RegionExit, number>;
  exits.jump += linked;
  // whatever was entered has been left, but for what is inside now
  const entered = Object.values(exits).reduce((a, b) => a + b, 0);
  return { entered, linked, exits };
}

/** Several lines, each with its newline. */
export function formatJitInfo({ regions, compiler, queue, codeCache, use }: JitInfo): string {
  const lines: string[] = [];
  const line = (title: string, value: string | number): void => {
    lines.push(`${title.padEnd(24)} ${value}`);
  };
  const valid = regions.filter((r) => r.valid);
  const sum = (of: (r: RegionInfo) => number): number => valid.reduce((total, r) => total + of(r), 0);
  lines.push('Translation buffer state:');
  line('decoded code size', `${codeCache.used}/${codeCache.size}`);
  line('decoded pages', codeCache.pages);
  line('region count', valid.length);
  line('optimised regions', valid.filter((r) => r.optimised).length);
  line(
    'region instructions',
    sum((r) => r.instructions),
  );
  line('live modules', `${compiler.modules}/${compiler.limit.slots}`);
  line('module bytes', `${compiler.bytes}/${compiler.limit.bytes}`);
  lines.push('', 'Statistics:');
  line('regions compiled', `${compiler.compiled} (${compiler.instructions} instructions)`);
  line('compile time', `${queue.milliseconds.toFixed(0)} ms`);
  line('requests', `${queue.requests} (${queue.merged} merged, ${queue.overflowed} overflowed)`);
  line('requests refused', compiler.refused);
  line('requests waiting', queue.waiting);
  line('waits for the budget', queue.throttled);
  line('outdated when compiled', compiler.outdated);
  line('regions evicted', compiler.evicted);
  line('page invalidations', codeCache.invalidations);
  line('full flushes', codeCache.flushes);
  line('regions entered', use.entered);
  line('  from a region', use.linked);
  for (const name of EXITS) if (use.exits[name] > 0) line(`  left by ${name}`, use.exits[name]);
  return `${lines.join('\n')}\n`;
}
