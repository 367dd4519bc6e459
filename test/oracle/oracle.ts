/** Runs rows and sequences on both sides and gathers coverage and differences. */
import type { Row } from '../../src/cpu/decode/table.ts';
import { FLAG } from '../../src/cpu/flags.ts';
import { compare, type Difference, inconclusive, report } from './compare.ts';
import { type Form, formName, formsOf } from './encode.ts';
import type { Case } from './format.ts';
import { baseImage, singleCase } from './generate.ts';
import { sequenceCase, sequenceForms } from './sequences.ts';
import { Guest } from './guest.ts';
import { asIfGiven, expectedOutcome, hostCase, hostCpu } from './host-cpu.ts';
import { NativeRunner } from './native.ts';
import { Rng } from './rng.ts';
import { classOf, offered, ROWS, type RowClass, rowSelector, rowText } from './rows.ts';

export interface OracleOptions {
  readonly seed: number;
  /** Cases a row. */
  readonly cases: number;
  readonly sequences: number;
  /** Only rows whose text matches. */
  readonly rows?: RegExp;
  /** Only this case of each row. */
  readonly only?: number;
  /** Row classes to run; absent: all. */
  readonly classes?: readonly RowClass[];
  /** Differences described in full, per row (or for sequences in all). */
  readonly shown: number;
  readonly log: (line: string) => void;
}

export interface RowCoverage {
  readonly row: Row;
  readonly forms: number;
  cases: number;
  faults: number;
  skipped: number;
  differences: number;
}

export interface Failure {
  readonly where: string;
  readonly count: number;
}

export interface OracleResult {
  readonly rows: readonly RowCoverage[];
  readonly notRun: readonly { row: Row; reason: string }[];
  /** Forms that the host's CPU has not, with the reason. */
  readonly lacking: readonly { form: Form; reason: string }[];
  /** The host's maker. */
  readonly vendor: string;
  /** Cases of rows that the CPU model does not offer: all must be #UD in the emulator. */
  readonly refused: number;
  /** Forms that no encoding reaches: other rows have taken them. */
  readonly unreachable: readonly string[];
  readonly sequences: number;
  readonly sequenceFaults: number;
  readonly sequenceDifferences: number;
  readonly inconclusive: number;
  /** Page faults at a page's first byte: in the middle of an access, or of a repetition. */
  readonly crossingFaults: number;
  readonly failures: readonly Failure[];
  /** Instructions without semantics or helper that were met. */
  readonly missing: readonly string[];
}

const BATCH = 4000;
const INT3 = 3;
const UNDEFINED_OPCODE = 6;
const PAGE_FAULT = 14;

export class Oracle {
  private readonly options: OracleOptions;
  private readonly base: Uint8Array;
  private readonly guest: Guest;
  private readonly native: NativeRunner;
  private readonly hostCpu = hostCpu();
  private readonly lacking: { form: Form; reason: string }[] = [];
  private inconclusive = 0;
  private crossingFaults = 0;
  private readonly failures: Failure[] = [];

  /** *Errors:* NativeError. */
  constructor(options: OracleOptions) {
    this.options = options;
    this.native = new NativeRunner();
    this.base = baseImage(new Rng(options.seed, 1));
    this.guest = new Guest(this.base);
  }
  async close(): Promise<void> {
    this.native.close();
    await this.guest.close();
  }

  run(): OracleResult {
    const { options } = this;
    const reasonOf = rowSelector();
    const wanted = ROWS.filter(
      (row) =>
        (options.rows === undefined || options.rows.test(rowText(row))) &&
        (options.classes === undefined || options.classes.includes(classOf(row))),
    );
    const notRun = wanted.flatMap((row) => {
      const reason = reasonOf(row);
      return reason === undefined ? [] : [{ row, reason }];
    });
    const rows = wanted.filter((row) => reasonOf(row) === undefined);
    const unreachable: string[] = [];
    const coverage = this.singles(rows, unreachable);
    const sequences = this.sequences(rows);
    const missing = [...this.guest.missing];
    const refused = this.refused(wanted.filter((row) => !offered(row)));
    return {
      rows: coverage,
      notRun,
      lacking: this.lacking,
      vendor: this.hostCpu.vendor,
      refused,
      unreachable,
      ...sequences,
      inconclusive: this.inconclusive,
      crossingFaults: this.crossingFaults,
      failures: this.failures,
      missing,
    };
  }

  private singles(rows: readonly Row[], unreachable: string[]): RowCoverage[] {
    const { options } = this;
    const out: RowCoverage[] = [];
    let cases: Case[] = [];
    let owners: RowCoverage[] = [];
    const flush = (): void => {
      this.batch(cases, (i, faulted, skipped, differences) => {
        const owner = owners[i];
        if (skipped) owner.skipped++;
        if (faulted) owner.faults++;
        if (differences) owner.differences++;
        return owner.differences <= options.shown;
      });
      cases = [];
      owners = [];
    };
    for (const row of rows) {
      const forms = this.reachableForms(row, unreachable);
      const one: RowCoverage = { row, forms: forms.length, cases: 0, faults: 0, skipped: 0, differences: 0 };
      out.push(one);
      if (forms.length === 0) continue;
      const count = Math.max(options.cases, options.cases === 0 ? 0 : forms.length);
      for (let i = 0; i < count; i++) {
        if (options.only !== undefined && i !== options.only) continue;
        const rng = new Rng(options.seed, row.id, i);
        const c = singleCase(rng, forms[i % forms.length], `${rowText(row)} #${i}`);
        if (c === undefined) continue;
        one.cases++;
        cases.push(c);
        owners.push(one);
        if (cases.length >= BATCH) flush();
      }
    }
    flush();
    for (const one of out) {
      if (one.differences) this.failures.push({ where: rowText(one.row), count: one.differences });
    }
    return out;
  }

  /** Runs rows that the CPU model does not offer on the emulator alone, and gives the number of cases. */
  private refused(rows: readonly Row[]): number {
    let cases = 0;
    for (const row of rows) {
      const wrong = formsOf(row).flatMap((form, i) => {
        const c = singleCase(new Rng(this.options.seed, row.id, i, 13), form, `${rowText(row)} #${i}`);
        if (c === undefined) return [];
        cases++;
        const { trap } = this.guest.run({ ...c, rflags: c.rflags & ~FLAG.TF });
        // the second page of an instruction at a page's end may be missing
        return trap === UNDEFINED_OPCODE || trap === PAGE_FAULT ? [] : [trap];
      });
      if (wrong.length > 0) {
        this.failures.push({
          where: `${rowText(row)} (not offered, yet executed: ${wrong[0]})`,
          count: wrong.length,
        });
      }
    }
    return cases;
  }

  private reachableForms(row: Row, unreachable: string[]): Form[] {
    return formsOf(row).filter((form, i) => {
      const reason = this.hostCpu.lacks(form);
      if (reason !== undefined) {
        this.lacking.push({ form, reason });
        return false;
      }
      for (let attempt = 0; attempt < 4; attempt++) {
        if (singleCase(new Rng(this.options.seed, row.id, i, attempt, 77), form, '') !== undefined)
          return true;
      }
      unreachable.push(`${rowText(row)} ${formName(form)}`);
      return false;
    });
  }

  private sequences(
    rows: readonly Row[],
  ): Pick<OracleResult, 'sequences' | 'sequenceFaults' | 'sequenceDifferences'> {
    const { options } = this;
    const forms = [false, true].map((mode32) => sequenceForms(rows, mode32).filter(this.hostCpu.inSequences));
    let differing = 0;
    let faults = 0;
    let done = 0;
    if (forms[0].length === 0) return { sequences: 0, sequenceFaults: 0, sequenceDifferences: 0 };
    while (done < options.sequences) {
      const cases: Case[] = [];
      for (; cases.length < BATCH && done < options.sequences; done++) {
        if (options.only !== undefined && done !== options.only) continue;
        const rng = new Rng(options.seed, 0x5e9, done);
        const mode32 = rng.once(4) && forms[1].length > 0;
        cases.push(sequenceCase(rng, forms[mode32 ? 1 : 0], mode32, 1 + rng.below(16), `sequence #${done}`));
      }
      this.batch(cases, (_i, faulted, _skipped, differences) => {
        if (faulted) faults++;
        if (differences) differing++;
        return differing <= options.shown;
      });
    }
    if (differing) this.failures.push({ where: 'sequences', count: differing });
    return { sequences: done, sequenceFaults: faults, sequenceDifferences: differing };
  }

  /** Runs cases on both sides; `seen` is told of each and says whether a difference is worth describing. */
  private batch(
    cases: readonly Case[],
    seen: (i: number, faulted: boolean, skipped: boolean, differences: boolean) => boolean,
  ): void {
    if (cases.length === 0) return;
    const given = cases.map((c) => hostCase(this.hostCpu, c));
    const outcomes = this.native.run(this.base, given);
    cases.forEach((c, i) => {
      const host = asIfGiven(this.base, c, given[i], outcomes[i]);
      if (inconclusive(host)) {
        this.inconclusive++;
        seen(i, false, true, false);
        return;
      }
      if (host.trap === PAGE_FAULT && (host.cr2 & 4095n) === 0n) this.crossingFaults++;
      const expected = expectedOutcome(this.hostCpu, this.base, c, host, this.guest.run(c));
      const differences: Difference[] = compare(c, host, expected);
      const show = seen(i, host.trap !== INT3, false, differences.length > 0);
      if (differences.length > 0 && show) this.options.log(report(c, differences, host));
    });
  }
}
