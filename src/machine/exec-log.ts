/**
 * `-d in_asm,op,exec,mmu,nochain`: what guest code is translated and executed, in QEMU's lines where they say the same.
 * A *block* here is what is decoded in one go: up to a jump that is always taken, or code that is known. With `nochain`
 * every jump comes back to the vCPU's loop, so that `exec` shows each; tier 1 is off then. `hotblocks` counts them, as
 * QEMU's plugin of that name does blocks.
 */
import { CHECKED, CpuEnv, SEG, XMM_STRIDE } from '../cpu/env.ts';
import { decode } from '../cpu/decode/decoder.ts';
import { formatInsn, registerName } from '../cpu/decode/format.ts';
import { Insn } from '../cpu/decode/insn.ts';
import type { Cpu } from '../cpu/sys/cpu.ts';
import { SEG_WORDS, W_CODE_KIND, W_CODE_SIZE, W_CPL, W_IP, W_SEGS } from '../cpu/sys/words.ts';
import type { HandlerTable } from '../cpu/tier0/handlers.ts';
import { HELPER, PSEUDO, RECORD, RECORD_SIZE, SLOTS } from '../cpu/tier0/record.ts';
import type { Translator } from '../cpu/tier0/translate.ts';
import { helperName } from './helpers.ts';
import type { Log, LogRange } from './log.ts';

const CS_WORD = W_SEGS + SEG.CS * SEG_WORDS;
const MAX_LENGTH = 15;
/** Bytes to a line of `in_asm`. */
const LINE_BYTES = 8;
const PSEUDO_NAMES = new Map(Object.entries(PSEUDO).map(([name, n]) => [n, name.toLowerCase()]));
const XMM = CpuEnv.offsetOf('xmm');
const ENV_NAMES = new Map([
  [CpuEnv.offsetOf('zero'), 'zero'],
  [CpuEnv.offsetOf('tmpAddr'), 'addr'],
]);

function hex(value: number | bigint, digits: number): string {
  return BigInt.asUintN(64, BigInt(value)).toString(16).padStart(digits, '0');
}

/** What is at an env offset that a record names. */
function slotName(offset: number): string {
  if (offset < 16 * 8) return registerName(offset >> 3, (offset & 7) === 1 ? 1 : 8, (offset & 7) === 1);
  if (offset >= XMM && offset < XMM + 16 * XMM_STRIDE) return `xmm${(offset - XMM) / XMM_STRIDE}`;
  return ENV_NAMES.get(offset) ?? `env+0x${offset.toString(16)}`;
}

/** A record as a line of `op`. */
function recordText(view: DataView, at: number, names: ReadonlyMap<number, string>): string {
  const u16 = (field: number): number => view.getUint16(at + field, true);
  const handler = u16(RECORD.HANDLER);
  const name = names.get(handler) ?? `handler ${handler}`;
  const parts: string[] = [];
  const memory =
    u16(RECORD.BASE) !== CpuEnv.offsetOf('zero') || u16(RECORD.INDEX) !== CpuEnv.offsetOf('zero');
  const disp = view.getInt32(at + RECORD.DISP, true);
  const imm = view.getBigInt64(at + RECORD.IMM, true);
  if (handler === PSEUDO.HELPER || handler === PSEUDO.CHECK_HELPER) {
    parts.push(helperName(u16(RECORD.SLOT2)), `fields 0x${hex(u16(RECORD.SLOT3) & ~HELPER.RESULT, 1)}`);
  } else {
    const registers = /\.([a-z]+)/.exec(name.replace(/^[^.]*\.\d+/, ''))?.[1].match(/[rxqs]/g)?.length ?? 0;
    for (const slot of SLOTS.slice(0, registers)) parts.push(slotName(u16(slot)));
  }
  if (memory || disp !== 0) {
    const scale = 1 << view.getUint8(at + RECORD.SCALE);
    const base = slotName(u16(RECORD.BASE));
    const index = slotName(u16(RECORD.INDEX));
    const terms = [base, `${index}*${scale}`, `0x${hex(disp >>> 0, 1)}`];
    parts.push(`[${terms.filter((t) => !t.startsWith('zero') && t !== '0x0').join('+')}]`);
  }
  if (imm !== 0n) parts.push(`$0x${hex(imm, 1)}`);
  return ` ${name}${parts.length > 0 ? ` ${parts.join(',')}` : ''}\n`;
}

/** A block, for `hotblocks`. */
interface Entry {
  /** Where it was first met: its address, and the low half of ip. */
  readonly linear: bigint;
  readonly ip: number;
  /** Times that it was entered. */
  count: number;
}

/** *Thread:* a vCPU worker's. *May block:* for the log. */
export class ExecLog {
  /** Each jump comes back to the vCPU's loop. */
  readonly nochain: boolean;
  private readonly log: Log;
  private readonly filter: readonly LogRange[];
  private readonly inAsm: boolean;
  private readonly op: boolean;
  /** What generated code begins with is to be known. */
  readonly exec: boolean;
  private readonly names: ReadonlyMap<number, string>;
  private readonly insn = new Insn();
  /** By record: its address, and how often it was entered. */
  private readonly entries: Map<number, Entry> | undefined;

  /** Undefined when the log has none of these items. */
  static of(log: Log, handlers: HandlerTable): ExecLog | undefined {
    const wanted = (['in_asm', 'op', 'exec', 'nochain', 'hotblocks'] as const).some((item) => log.has(item));
    return wanted ? new ExecLog(log, handlers) : undefined;
  }
  private constructor(log: Log, handlers: HandlerTable) {
    this.log = log;
    this.filter = log.filter;
    this.inAsm = log.has('in_asm');
    this.op = log.has('op');
    this.nochain = log.has('nochain') || log.has('hotblocks');
    this.exec = log.has('exec') || this.nochain;
    this.entries = log.has('hotblocks') ? new Map() : undefined;
    this.names = new Map([...PSEUDO_NAMES, ...[...handlers.numbers].map(([key, n]) => [n, key] as const)]);
  }

  private shows(address: bigint): boolean {
    return (
      this.filter.length === 0 || this.filter.some(({ first, last }) => address >= first && address <= last)
    );
  }
  private address(cpu: Cpu): bigint {
    const { u32, w } = cpu;
    const offset = BigInt(u32[w + W_IP + 1]) * 2n ** 32n + BigInt(u32[w + W_IP]);
    if (u32[w + W_CODE_SIZE] === 2) return offset;
    return (offset + BigInt(u32[w + CS_WORD])) & 0xffffffffn;
  }

  /** What `translator` has just made of the `length` bytes at `bytes[at]`, the code at the vCPU's ip. */
  translated(cpu: Cpu, translator: Translator, bytes: Uint8Array, at: number, length: number): void {
    const linear = this.address(cpu);
    if (!(this.inAsm || this.op) || !this.shows(linear)) return;
    const kind = cpu.u32[cpu.w + W_CODE_KIND];
    if (this.inAsm) this.log.write(this.disassembly(linear, bytes, at, length, kind & ~CHECKED));
    if (this.op) this.log.write(this.records(linear, translator));
  }

  private disassembly(
    linear: bigint,
    bytes: Uint8Array,
    at: number,
    length: number,
    codeSize: number,
  ): string {
    const lines = ['----------------', 'IN: '];
    for (let o = 0; o < length;) {
      const taken = decode(
        bytes,
        at + o,
        Math.min(length - o + MAX_LENGTH, bytes.length - at - o),
        codeSize,
        this.insn,
      );
      const size = taken > 0 ? taken : length - o;
      const here = linear + BigInt(o);
      const text = taken > 0 ? formatInsn(this.insn, here) : '(bad)';
      for (let b = 0; b < size; b += LINE_BYTES) {
        const part = bytes.subarray(at + o + b, at + o + Math.min(size, b + LINE_BYTES));
        const digits = Array.from(part, (byte) => hex(byte, 2)).join(' ');
        const first = `0x${hex(here + BigInt(b), 8)}:  `;
        lines.push(b === 0 ? `${first}${digits.padEnd(LINE_BYTES * 3)} ${text}` : `${first}${digits}`);
      }
      o += size;
    }
    return `${lines.join('\n')}\n\n`;
  }

  private records(linear: bigint, translator: Translator): string {
    const view = new DataView(translator.buffer.buffer);
    const page = linear & ~0xfffn;
    let text = 'OP:\n';
    let last = -1;
    for (let i = 0; i < translator.count; i++) {
      const at = i * RECORD_SIZE;
      const offset = view.getUint16(at + RECORD.OFFSET, true);
      if (offset !== last) text += `\n ---- ${hex(page + BigInt(offset), 16)}\n`;
      last = offset;
      text += recordText(view, at, this.names);
    }
    return `${text}\n`;
  }

  /** The vCPU is about to run generated code at its ip; `record`: what it begins with, 0 where generated code looks that up. */
  entered(cpu: Cpu, record: number): void {
    if (this.entries !== undefined) this.count(cpu, record);
    if (!this.log.has('exec')) return;
    const linear = this.address(cpu);
    if (!this.shows(linear)) return;
    const { u32, w } = cpu;
    const base = u32[w + W_CODE_SIZE] === 2 ? 0 : u32[w + CS_WORD];
    const flags = u32[w + W_CODE_KIND] | (u32[w + W_CPL] << 4);
    this.log.write(
      `Trace ${cpu.env.index}: 0x${hex(record, 8)} [${hex(base, 16)}/${hex(linear, 16)}/${hex(flags, 8)}/${hex(0, 8)}] \n`,
    );
  }

  private count(cpu: Cpu, record: number): void {
    const entry = this.entries?.get(record);
    const ip = cpu.u32[cpu.w + W_IP];
    if (entry === undefined) this.entries?.set(record, { linear: this.address(cpu), ip, count: 1 });
    // one-shot code is in one place, whatever it is made of; an alias of a page counts for that
    else if (((entry.ip ^ ip) & 4095) === 0) entry.count++;
  }

  /** The vCPUs execute nothing any more. */
  ended(): void {
    if (this.entries === undefined) return;
    const shown = [...this.entries.values()].filter(({ linear }) => this.shows(linear));
    const lines = shown.sort((a, b) => b.count - a.count).map((e) => `0x${hex(e.linear, 16)}, ${e.count}\n`);
    this.log.write(`collected ${lines.length} entries in the hash table\npc, ecount\n${lines.join('')}`);
  }
}
