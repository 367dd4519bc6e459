/** Runs the oracle's cases in tier 1 and compares the outcome with tier 0's and the host CPU's. */
import { decode } from '../../src/cpu/decode/decoder.ts';
import { Insn } from '../../src/cpu/decode/insn.ts';
import type { Row } from '../../src/cpu/decode/table.ts';
import { FLAG } from '../../src/cpu/flags.ts';
import { isCompilable } from '../../src/jit/region-module.ts';
import { compare, type Difference, inconclusive, report } from '../oracle/compare.ts';
import { type Form, formsOf } from '../oracle/encode.ts';
import { type Case, FX, type Outcome, PAGE, TIMEOUT } from '../oracle/format.ts';
import { baseImage, singleCase } from '../oracle/generate.ts';
import { NativeRunner } from '../oracle/native.ts';
import { Rng } from '../oracle/rng.ts';
import { ROWS, rowSelector, rowText } from '../oracle/rows.ts';
import { sequenceCase, sequenceForms } from '../oracle/sequences.ts';
import { formKey, JitGuest, type TierCounts } from './guest.ts';
import { type Forms, programForms, type ProgramKind, registersOf } from './program-forms.ts';
import { programCase } from './programs.ts';

export interface TierOptions {
  readonly seed: number;
  /** Cases a row, at least one a form. */
  readonly cases: number;
  readonly sequences: number;
  readonly programs: number;
  /** Programs mostly of x87 instructions. */
  readonly x87: number;
  /** Programs that write their own code: compared with tier 0 only. */
  readonly selfModifying: number;
  /** Tiers change at random places: half of the time one instruction in tier 0, and regions are kicked. */
  readonly switching?: boolean;
  readonly rows?: RegExp;
  /** Only the case of this number. */
  readonly only?: number;
  /** Differences described in full, a row (or for sequences in all). */
  readonly shown: number;
  readonly log: (line: string) => void;
}
export interface TierResult {
  cases: number;
  inconclusive: number;
  /** Forms that can be compiled and were met in no region (`formKey`). */
  readonly notCompiled: readonly string[];
  readonly failures: { where: string; count: number }[];
  readonly counts: TierCounts;
}

interface Item {
  readonly c: Case;
  readonly where: string;
}
const BATCH = 4000;
/** Cases more for a row with a form that was met only where it is not compiled. */
const EXTRA = 200;
const insn = new Insn();

/** Of 64-bit and of 32-bit code. */
function allProgramForms(rows: readonly Row[]): Forms[] {
  return [false, true]
    .map((mode32) => programForms(sequenceForms(rows, mode32), mode32))
    .filter(({ integer }) => integer.length > 0);
}

/** The x87's pointers to its last instruction and operand, which a host CPU does not always save. */
function pointerDifferences(a: Uint8Array, b: Uint8Array): Difference[] {
  const text = (fx: Uint8Array): string => Buffer.from(fx.subarray(FX.FIP, FX.MXCSR)).toString('hex');
  return text(a) === text(b) ? [] : [{ field: 'fip, fdp', host: text(a), guest: text(b) }];
}

/** Has a program passed the end that its counter sets, as one may that overwrites the look at it? It need not come to another in time. */
function ranOn({ mode32 }: Case, { regs }: Outcome): boolean {
  const turns = regs[registersOf({ mode32 }).counter];
  return BigInt.asIntN(mode32 ? 32 : 64, turns) < -1n;
}

export class TierOracle {
  private readonly options: TierOptions;
  private readonly base: Uint8Array;
  private readonly native: NativeRunner;
  private readonly failed = new Map<string, number>();
  private readonly compilable = new Set<string>();
  private pending: Item[] = [];
  private cases = 0;
  private inconclusive = 0;
  readonly guest: JitGuest;

  /** *Errors:* NativeError. */
  constructor(options: TierOptions) {
    this.options = options;
    this.native = new NativeRunner();
    this.base = baseImage(new Rng(options.seed, 1));
    this.guest = new JitGuest(this.base);
    if (options.switching === true) this.guest.switching = new Rng(options.seed, 0x717);
  }
  async close(): Promise<void> {
    this.native.close();
    await this.guest.close();
  }

  run(): TierResult {
    const { options } = this;
    const reasonOf = rowSelector();
    const rows = ROWS.filter(
      (row) => reasonOf(row) === undefined && (options.rows === undefined || options.rows.test(rowText(row))),
    );
    for (const row of rows) this.singles(row);
    this.sequences(rows);
    this.programs(rows, options.programs, 0x960, 'program', 'any');
    this.programs(rows, options.x87, 0x87, 'x87 program', 'x87');
    this.flush();
    this.selfModifying(rows);
    return {
      cases: this.cases,
      inconclusive: this.inconclusive,
      notCompiled: [...this.compilable].filter((key) => !this.guest.counts.forms.has(key)),
      failures: [...this.failed].map(([where, count]) => ({ where, count })),
      counts: this.guest.counts,
    };
  }

  private add(c: Case, where: string): void {
    this.pending.push({ c, where });
    if (this.pending.length >= BATCH) this.flush();
  }

  private singles(row: Row): void {
    const { options } = this;
    const forms: Form[] = formsOf(row);
    if (forms.length === 0 || options.cases === 0) return;
    const count = Math.max(options.cases, forms.length);
    const single = (i: number): void => {
      if (options.only !== undefined && i !== options.only) return;
      const form = forms[i % forms.length];
      const c = singleCase(new Rng(options.seed, row.id, i), form, `${rowText(row)} #${i}`);
      if (c === undefined) return;
      const codeSize = c.mode32 ? 1 : 2;
      // one that runs out of the code pages has not all of its bytes here
      const compilable =
        c.patches[0].bytes.length === c.codeLength &&
        decode(c.patches[0].bytes, 0, c.codeLength, codeSize, insn) === c.codeLength &&
        isCompilable(insn, codeSize);
      if (compilable) {
        const key = formKey(insn, codeSize);
        this.compilable.add(key);
        // one that crosses a page's end, or is stepped, is done by tier 0
        const inPage = (c.rip & (PAGE - 1)) + c.codeLength <= PAGE;
        (inPage && (c.rflags & FLAG.TF) === 0 ? compiled : met).add(key);
      }
      this.add(c, rowText(row));
    };
    const [met, compiled] = [new Set<string>(), new Set<string>()];
    for (let i = 0; i < count || (i < count + EXTRA && [...met].some((key) => !compiled.has(key))); i++) {
      single(i);
    }
  }
  private sequences(rows: readonly Row[]): void {
    const { options } = this;
    const [forms64, forms32] = [false, true].map((mode32) => sequenceForms(rows, mode32));
    if (forms64.length === 0) return;
    for (let i = 0; i < options.sequences; i++) {
      if (options.only !== undefined && i !== options.only) continue;
      const rng = new Rng(options.seed, 0x5e9, i);
      const mode32 = forms32.length > 0 && rng.once(3);
      const length = 1 + rng.below(16);
      const c = sequenceCase(rng, mode32 ? forms32 : forms64, mode32, length, `sequence #${i}`);
      this.add(c, 'sequences');
    }
  }

  private programs(
    rows: readonly Row[],
    count: number,
    series: number,
    name: string,
    kind: ProgramKind,
  ): void {
    const { options } = this;
    const forms = allProgramForms(rows);
    if (forms.length === 0) return;
    for (let i = 0; i < count; i++) {
      if (options.only !== undefined && i !== options.only) continue;
      const rng = new Rng(options.seed, series, i);
      this.add(programCase(rng, forms[i % forms.length], `${name} #${i}`, kind), `${name}s`);
    }
  }

  private selfModifying(rows: readonly Row[]): void {
    const { options, guest } = this;
    const forms = allProgramForms(rows);
    if (forms.length === 0) return;
    guest.makeCodeWritable();
    for (let i = 0; i < options.selfModifying; i++) {
      if (options.only !== undefined && i !== options.only) continue;
      this.cases++;
      const rng = new Rng(options.seed, 0x5e1f, i);
      const c = programCase(rng, forms[i % forms.length], `self-modifying program #${i}`, 'self-modifying');
      this.sameTiers(c, 'self-modifying programs');
    }
  }

  private failure(where: string, c: Case, other: string, reference: Outcome, found: Difference[]): void {
    const count = (this.failed.get(where) ?? 0) + 1;
    this.failed.set(where, count);
    if (count <= this.options.shown) this.options.log(`(${other})\n${report(c, found, reference)}`);
  }

  /** Runs a case in both tiers. Their outcomes, unless they differ. */
  private sameTiers(c: Case, where: string): { tier0: Outcome; tier1: Outcome } | undefined {
    const tier0 = this.guest.runTier0(c);
    const tier1 = this.guest.runTier1(c);
    // tier 1 may come to an end in time where tier 0 does not, but not the other way round
    if (tier0.trap === TIMEOUT || (tier1.trap === TIMEOUT && ranOn(c, tier1))) {
      this.inconclusive++;
      return undefined;
    }
    // the tiers share their semantics: they agree on what is undefined too
    const exact: Case = { ...c, undefinedFlags: 0, undefinedBefore: new Map(), tolerance: 0, ulps: 0 };
    const differences = [...compare(exact, tier0, tier1), ...pointerDifferences(tier0.fx, tier1.fx)];
    if (differences.length === 0) return { tier0, tier1 };
    this.failure(where, c, 'tier 0', tier0, differences);
    return undefined;
  }

  private flush(): void {
    const items = this.pending;
    this.pending = [];
    if (items.length === 0) return;
    const host = this.native.run(
      this.base,
      items.map((i) => i.c),
    );
    items.forEach(({ c, where }, i) => {
      this.cases++;
      if (inconclusive(host[i])) {
        this.inconclusive++;
        return;
      }
      const both = this.sameTiers(c, where);
      if (both === undefined) return;
      const differences = compare(c, host[i], both.tier1);
      // what tier 0 does as well is its own oracle's business
      if (differences.length > 0 && compare(c, host[i], both.tier0).length === 0) {
        this.failure(where, c, 'host', host[i], differences);
      }
    });
  }
}
