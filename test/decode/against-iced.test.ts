import { describe, expect, it } from 'vitest';
import { decode } from '../../src/cpu/decode/decoder.ts';
import { Insn } from '../../src/cpu/decode/insn.ts';
import { ROWS } from '../../src/cpu/decode/table.ts';
import { hexOf, modrmCases, opcodeCases, randomCases, STRIDE } from './cases.ts';
import { Code, Decoder, DecoderOptions, Instruction, notOffered, operandDifference } from './iced.ts';

/** Compares all cases; returns up to 20 lines that name differences, and how many instructions were valid. */
function compare(
  bytes: Uint8Array,
  bits: number,
): { differences: string[]; valid: number; rows: Set<number> } {
  const differences: string[] = [];
  const rows = new Set<number>();
  const decoder = new Decoder(bits, bytes, DecoderOptions.None);
  const ins = new Instruction();
  const insn = new Insn();
  const codeSize = bits === 64 ? 2 : bits === 32 ? 1 : 0;
  let valid = 0;
  for (let at = 0; at + STRIDE < bytes.length && differences.length < 20; at += STRIDE) {
    const ip = BigInt(at & 0xffff);
    decoder.position = at;
    decoder.ip = ip;
    decoder.decodeOut(ins);
    const length = decode(bytes, at, STRIDE, codeSize, insn);
    if (ins.code === Code.INVALID) {
      if (length > 0) differences.push(`${hexOf(bytes, at, length)}: invalid, here ${ROWS[insn.row].opcode}`);
      continue;
    }
    if (length <= 0) {
      const name = Code[ins.code];
      if (!notOffered(name)) differences.push(`${hexOf(bytes, at, ins.length)}: ${name}, here ${length}`);
      continue;
    }
    valid++;
    rows.add(insn.row);
    if (length !== ins.length) {
      differences.push(`${hexOf(bytes, at, ins.length)}: ${Code[ins.code]}, here length ${length}`);
      continue;
    }
    const difference = operandDifference(ins, insn, ip);
    if (difference) differences.push(`${hexOf(bytes, at, length)}: ${Code[ins.code]} ${difference}`);
  }
  ins.free();
  decoder.free();
  return { differences, valid, rows };
}

describe('the decoder agrees with iced-x86 on length, validity and operands', () => {
  const reached = new Set<number>();
  for (const bits of [64, 32, 16]) {
    it(`for random instructions of ${bits}-bit code`, () => {
      const { differences, valid } = compare(randomCases(120_000, bits), bits);
      expect(differences).toEqual([]);
      expect(valid).toBeGreaterThan(50_000);
    }, 30_000);
    it(`for every opcode, prefix, W, L and ModRM.reg in ${bits}-bit code`, () => {
      const { differences, rows } = compare(opcodeCases(bits), bits);
      for (const row of rows) reached.add(row);
      expect(differences).toEqual([]);
    }, 30_000);
    it(`for every ModRM byte of the groups and the x87 in ${bits}-bit code`, () => {
      const { differences, rows } = compare(modrmCases(bits), bits);
      for (const row of rows) reached.add(row);
      expect(differences).toEqual([]);
    });
  }
  it('and these cases reach every row of the table', () => {
    const missed = ROWS.filter((row) => !reached.has(row.id)).map((row) => `${row.opcode} ${row.name}`);
    expect(missed).toEqual([]);
  });
});
