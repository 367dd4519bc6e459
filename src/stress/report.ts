/** What a campaign found, as an object, as JSON, as text; and several of them added up. */
import { Histogram } from './histogram.ts';
import { StressError } from './errors.ts';
import type { RoundResult, Violation } from './round.ts';
import { CHECKS, type CheckName, CHECK_NAMES, OPERATION_NAMES, type OperationName } from './vocabulary.ts';

const FORMAT = 'smp86-stress-1';

export interface ReportedViolation extends Violation {
  readonly scenario: string;
  readonly round: number;
  /** Command that plays the round again. */
  readonly again: string;
  /** State of everything. */
  readonly dump: string | undefined;
}

interface ScenarioTotal {
  rounds: number;
  seconds: number;
  /** Most threads in a round. */
  threads: number;
}

/** The JSON form. */
interface ReportJson {
  readonly format: typeof FORMAT;
  readonly seed: number;
  readonly shards: readonly string[];
  readonly node: string;
  readonly cpus: number;
  readonly scenarios: Readonly<Record<string, ScenarioTotal>>;
  readonly operations: Readonly<
    Record<string, { max: number; buckets: readonly (readonly [number, number])[] }>
  >;
  readonly checks: Readonly<Record<string, number>>;
  readonly violations: readonly ReportedViolation[];
}

export class Report {
  readonly seed: number;
  readonly shards: string[];
  readonly node: string;
  readonly cpus: number;
  readonly scenarios = new Map<string, ScenarioTotal>();
  readonly operations = new Map<OperationName, Histogram>();
  readonly checks = new Map<CheckName, number>();
  readonly violations: ReportedViolation[] = [];

  constructor(seed: number, shards: readonly string[], node: string, cpus: number) {
    this.seed = seed;
    this.shards = [...shards];
    this.node = node;
    this.cpus = cpus;
  }

  addRound(scenario: string, round: number, result: RoundResult, again: string): void {
    this.#addScenario(scenario, { rounds: 1, seconds: result.seconds, threads: result.threads });
    for (const [name, histogram] of result.operations) this.#histogram(name).add(histogram);
    for (const [name, n] of result.checks) this.#addCheck(name, n);
    result.violations.forEach((violation, i) => {
      this.violations.push({ ...violation, scenario, round, again, dump: i === 0 ? result.dump : undefined });
    });
  }

  /** Throws `ERR_STRESS_REPORT` when a shard is counted twice or the campaigns differ. */
  add(other: Report): void {
    for (const shard of other.shards) {
      if (this.seed === other.seed && this.shards.includes(shard)) {
        throw new StressError('ERR_STRESS_REPORT', `shard ${shard} of seed ${other.seed} is there twice`);
      }
    }
    this.shards.push(...other.shards);
    for (const [name, total] of other.scenarios) this.#addScenario(name, total);
    for (const [name, histogram] of other.operations) this.#histogram(name).add(histogram);
    for (const [name, n] of other.checks) this.#addCheck(name, n);
    this.violations.push(...other.violations);
  }

  get ok(): boolean {
    return this.violations.length === 0;
  }

  get seconds(): number {
    return [...this.scenarios.values()].reduce((sum, s) => sum + s.seconds, 0);
  }

  #histogram(name: OperationName): Histogram {
    let histogram = this.operations.get(name);
    if (histogram === undefined) this.operations.set(name, (histogram = new Histogram()));
    return histogram;
  }
  #addCheck(name: CheckName, n: number): void {
    this.checks.set(name, (this.checks.get(name) ?? 0) + n);
  }
  #addScenario(name: string, add: ScenarioTotal): void {
    const old = this.scenarios.get(name) ?? { rounds: 0, seconds: 0, threads: 0 };
    this.scenarios.set(name, {
      rounds: old.rounds + add.rounds,
      seconds: old.seconds + add.seconds,
      threads: Math.max(old.threads, add.threads),
    });
  }

  toJSON(): ReportJson {
    const { seed, shards, node, cpus, violations } = this;
    return {
      format: FORMAT,
      seed,
      shards,
      node,
      cpus,
      scenarios: Object.fromEntries(this.scenarios),
      operations: Object.fromEntries(
        [...this.operations].map(([name, h]) => [name, { max: h.max, buckets: h.entries() }]),
      ),
      checks: Object.fromEntries(this.checks),
      violations,
    };
  }

  /** Throws `ERR_STRESS_REPORT`; `source` is named in the message. */
  static parse(text: string, source: string): Report {
    let json: ReportJson;
    try {
      json = JSON.parse(text) as ReportJson;
    } catch (cause) {
      throw new StressError('ERR_STRESS_REPORT', `${source}: not JSON`, { cause });
    }
    if (json?.format !== FORMAT)
      throw new StressError('ERR_STRESS_REPORT', `${source}: not a report of smp86 stress`);
    const report = new Report(json.seed, json.shards, json.node, json.cpus);
    for (const [name, total] of Object.entries(json.scenarios)) report.#addScenario(name, total);
    for (const [name, { max, buckets }] of Object.entries(json.operations)) {
      const histogram = report.#histogram(name as OperationName);
      for (const [bucket, n] of buckets) histogram.addBucket(bucket, n);
      histogram.max = max;
    }
    for (const [name, n] of Object.entries(json.checks)) report.#addCheck(name as CheckName, n);
    report.violations.push(...json.violations);
    return report;
  }

  toString(): string {
    const lines = [
      `seed ${this.seed}, shards ${this.shards.join(' ')}, Node ${this.node}, ${this.cpus} CPUs`,
      '',
    ];
    lines.push('scenario        rounds  seconds  threads');
    for (const [name, { rounds, seconds, threads }] of this.scenarios) {
      lines.push(
        `${name.padEnd(14)} ${String(rounds).padStart(7)} ${seconds.toFixed(1).padStart(8)} ${String(threads).padStart(8)}`,
      );
    }
    const head = ['p50', 'p99', 'p99.9', 'max'].map((s) => s.padStart(9)).join(' ');
    lines.push('', `${'operation'.padEnd(20)} ${'count'.padStart(11)} ${'per s'.padStart(9)} ${head}`);
    for (const name of OPERATION_NAMES) {
      const h = this.operations.get(name);
      if (h === undefined || h.count === 0) continue;
      const cells = [0.5, 0.99, 0.999].map((p) => duration(h.percentile(p)));
      const rate = this.seconds > 0 ? Math.round(h.count / this.seconds) : 0;
      lines.push(
        `${name.padEnd(20)} ${String(h.count).padStart(11)} ${String(rate).padStart(9)} ` +
          [...cells, duration(h.max)].map((s) => s.padStart(9)).join(' '),
      );
    }
    lines.push('', 'checks that held');
    for (const name of CHECK_NAMES) {
      const n = this.checks.get(name) ?? 0;
      if (n > 0) lines.push(`${String(n).padStart(12)}  ${CHECKS[name]}`);
    }
    lines.push('');
    for (const v of this.violations) lines.push(violationText(v));
    lines.push(this.ok ? 'no violation, no hang' : `${this.violations.length} violations`);
    return lines.join('\n');
  }
}

export function violationText(v: ReportedViolation): string {
  const what = v.check === 'hang' ? 'HANG' : `VIOLATION of ${v.check}`;
  const state = v.dump === undefined ? '' : `\n${v.dump}\n`;
  return `${what} in scenario ${v.scenario}, round ${v.round}, ${v.thread}: ${v.message}\n  again: ${v.again}${state}`;
}

/** A duration in ns, in three digits or so. */
export function duration(ns: number): string {
  if (ns < 1000) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toPrecision(3)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toPrecision(3)} ms`;
  return `${(ns / 1e9).toPrecision(3)} s`;
}
