import { describe, expect, it } from 'vitest';
import { RflagsBits } from 'iced-x86';
import { decode } from '../../src/cpu/decode/decoder.ts';
import { Insn } from '../../src/cpu/decode/insn.ts';
import { NAMES, nameId, type Row, ROWS } from '../../src/cpu/decode/table.ts';
import { FLAG } from '../../src/cpu/flags.ts';
import { opcodeCases, STRIDE } from './cases.ts';
import { Decoder, DecoderOptions, Instruction } from './iced.ts';

/** Names that semantics are written against: renaming one is a change of interface. */
const CONTRACT =
  'jcc setcc cmovcc movs cmps stos lods scas ins outs cbw cwd jmp jmpf call callf ret retf iret int int3 into int1 ' +
  'mov mov_from_sreg mov_to_sreg mov_from_cr mov_to_cr mov_from_dr mov_to_dr rol ror rcl rcr shl shr sar shld shrd ' +
  'test not neg mul imul1 imul div idiv xchg xadd cmpxchg cmpxchg8b cmpxchg16b nop pause loop loope loopne jcxz ' +
  'push pop push_sreg pop_sreg pusha popa pushf popf enter leave lea movsxd movsx movzx bt bts btr btc bsf bsr tzcnt ' +
  'lzcnt popcnt in out ud movsd_xmm cmpsd_xmm movq movd paddb prefetch';

const FLAG_PAIRS: readonly (readonly [number, number])[] = [
  [RflagsBits.OF, FLAG.OF],
  [RflagsBits.SF, FLAG.SF],
  [RflagsBits.ZF, FLAG.ZF],
  [RflagsBits.AF, FLAG.AF],
  [RflagsBits.CF, FLAG.CF],
  [RflagsBits.PF, FLAG.PF],
  [RflagsBits.DF, FLAG.DF],
  [RflagsBits.IF, FLAG.IF],
  [RflagsBits.AC, FLAG.AC],
];
function flagsOf(bits: number): number {
  return FLAG_PAIRS.reduce((mask, [theirs, ours]) => mask | (bits & theirs ? ours : 0), 0);
}

/** Rows whose flags are described differently on purpose. */
function differsOnPurpose(row: Row): boolean {
  // what a condition reads depends on it; the table says what it may read
  if (row.name === 'jcc' || row.name === 'setcc' || row.name === 'cmovcc') return true;
  // OF is defined for a count of 1, and a count of 0 leaves all as they were
  if (/^(rol|ror|rcl|rcr|shl|shr|sar|shld|shrd)$/.test(row.name)) return true;
  // AC with a 32-bit operand; the flags that are pushed or saved
  return /^(popf|pushf|iret|int|int3|into|int1|syscall)$/.test(row.name);
}

describe('the instruction table', () => {
  it('has the names that semantics rely on, sorted', () => {
    for (const name of CONTRACT.split(' ')) expect(NAMES[nameId(name)]).toBe(name);
    expect([...NAMES].sort()).toEqual(NAMES);
    expect(() => nameId('frobnicate')).toThrow();
  });
  it('numbers its rows', () => {
    ROWS.forEach((row, i) => expect(row.id).toBe(i));
  });
  it('lets only instructions with a destination that can be memory be locked', () => {
    for (const row of ROWS) if (row.lockable) expect(row.operands[0]).toMatch(/^[EM]/);
  });
  it('agrees with iced-x86 on flags read, written and undefined', () => {
    const ins = new Instruction();
    const insn = new Insn();
    const wrong = new Set<string>();
    for (const bits of [64, 32]) {
      const bytes = opcodeCases(bits + 1);
      const decoder = new Decoder(bits, bytes, DecoderOptions.None);
      const seen = new Set<number>();
      for (let at = 0; at + STRIDE < bytes.length; at += STRIDE) {
        if (decode(bytes, at, STRIDE, bits >> 5, insn) <= 0 || seen.has(insn.row)) continue;
        const row = ROWS[insn.row];
        // a shift by an immediate 0 is a different instruction to iced-x86
        if (differsOnPurpose(row)) continue;
        seen.add(insn.row);
        decoder.position = at;
        decoder.decodeOut(ins);
        const written = flagsOf(ins.rflagsWritten | ins.rflagsCleared | ins.rflagsSet);
        const same =
          flagsOf(ins.rflagsRead) === row.flagsRead &&
          written === row.flagsWritten &&
          flagsOf(ins.rflagsUndefined) === row.flagsUndefined;
        if (!same) wrong.add(`${row.opcode} ${row.name}`);
      }
      decoder.free();
    }
    expect([...wrong]).toEqual([]);
  }, 20_000);
});
