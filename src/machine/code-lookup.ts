/** How a vCPU comes to the records of the code at ip: from the code cache, or of one instruction translated alone. */
import { DECODE } from '../cpu/decode/insn.ts';
import { CODE_TLB_ENTRIES, CpuEnv, SCRATCH_OFFSET, TLB_SET } from '../cpu/env.ts';
import type { Cpu } from '../cpu/sys/cpu.ts';
import { SCRATCH_DATA_SIZE } from '../cpu/sys/mmu.ts';
import { SEG_WORDS, W_CODE_KIND, W_CODE_PAGE, W_CODE_SIZE, W_IP, W_SEGS } from '../cpu/sys/words.ts';
import { OneShot } from '../cpu/tier0/one-shots.ts';
import { PSEUDO, RECORD_SIZE } from '../cpu/tier0/record.ts';
import type { VcpuWorker } from './vcpu-worker.ts';

const W_CODE_DESC = CpuEnv.offsetOf('codeDesc') >>> 2;
const W_TLB_SET_WORD = CpuEnv.offsetOf('tlbSet') >>> 2;
const CS_WORD = W_SEGS + 1 * SEG_WORDS;
/** Records of one-shot code, after the slow paths' data in the scratch area. */
const ONE_SHOT = SCRATCH_OFFSET + Math.ceil(SCRATCH_DATA_SIZE / 64) * 64 + 64;
const MAX_INSN = 16;
/** How often an instruction that crosses a page's end is executed alone before it gets a record. */
const STEADY = 16;

/** *Thread:* vCPU. */
export class CodeLookup {
  private readonly cpu: Cpu;
  private readonly worker: VcpuWorker;
  private readonly w: number;
  private readonly crossing = new Uint8Array(MAX_INSN * 2);

  constructor(cpu: Cpu, worker: VcpuWorker) {
    this.cpu = cpu;
    this.worker = worker;
    this.w = cpu.w;
  }

  /**
   * Makes the code at ip known to the code TLB: 0. An instruction that cannot be kept is translated alone: gives its
   * record. -1: exception set.
   */
  lookup(): number {
    const { cpu, worker, w } = this;
    const { u32 } = cpu;
    const lo = (u32[w + W_IP] + u32[w + CS_WORD]) >>> 0;
    const hi = this.linearHigh();
    const host = cpu.mmu.fetchTranslate(lo, hi);
    if (host < 0) return -1;
    worker.codeCache.reserve();
    const { desc, record, fresh } = worker.codeCache.lookup(host, u32[w + W_CODE_KIND]);
    if (fresh && record !== 0)
      worker.log?.translated(cpu, worker.translator, cpu.u8, host, worker.translator.length);
    if (record === 0 || worker.codeCache.crosses(record)) {
      return this.lookupCrossing(lo, hi, host, record === 0);
    }
    // taking the lock may have flushed: install for what is mapped now
    const again = cpu.mmu.fetchTranslate(lo, hi);
    if (again !== host) return again < 0 ? -1 : 0;
    const entry = this.codeEntry(lo);
    if (u32[entry] === (lo & ~4095) >>> 0) u32[entry + 2] = desc;
    return 0;
  }
  /** The same for an instruction that goes on in the next page: both pages. `fresh`: it has no record yet. */
  private lookupCrossing(lo: number, hi: number, host: number, fresh: boolean): number {
    const { cpu, worker, w } = this;
    const { u32 } = cpu;
    const kind = u32[w + W_CODE_KIND];
    const nextLo = ((lo & ~4095) + 4096) >>> 0;
    // what changes ever again makes its pages be decoded anew each time
    const uses = worker.oneShots.find(host, kind, PSEUDO.CONTINUE)?.uses ?? 0;
    // at the end of 4 GiB the next page is not where the record looks for it
    if ((fresh && uses < STEADY) || nextLo === 0) return this.oneShot(PSEUDO.CONTINUE);
    const second = cpu.mmu.fetchTranslate(nextLo, hi);
    if (second < 0) return -1;
    const found = worker.codeCache.lookupCrossing(host, second, kind);
    if (found === undefined) return this.oneShot(PSEUDO.CONTINUE);
    if (cpu.mmu.fetchTranslate(lo, hi) !== host || cpu.mmu.fetchTranslate(nextLo, hi) !== second) return 0;
    u32[this.codeEntry(lo) + 2] = found.desc;
    u32[this.codeEntry(nextLo) + 2] = found.next;
    return 0;
  }
  /** High half of the linear address of the code at ip. */
  linearHigh(): number {
    const { u32 } = this.cpu;
    // CS.base is 0 in 64-bit code
    return u32[this.w + W_CODE_SIZE] === 2 ? u32[this.w + W_IP + 1] : 0;
  }
  /** Word of the code TLB's entry for a linear address. */
  codeEntry(lo: number): number {
    const set = this.cpu.u32[this.w + W_TLB_SET_WORD];
    return this.w + ((set + TLB_SET.CODE) >>> 2) + ((lo >>> 12) & (CODE_TLB_ENTRIES - 1)) * 4;
  }

  /** Translates the instruction at ip alone. Gives its record, or -1 with an exception set. */
  oneShot(end: number): number {
    const { cpu, worker, w } = this;
    const { u32, u8 } = cpu;
    const lo = (u32[w + W_IP] + u32[w + CS_WORD]) >>> 0;
    const hi = this.linearHigh();
    const host = cpu.mmu.fetchTranslate(lo, hi);
    if (host < 0) return -1;
    const offset = lo & 4095;
    const kind = u32[w + W_CODE_KIND];
    const inPage = Math.min(4096 - offset, MAX_INSN);
    const known = worker.oneShots.find(host, kind, end);
    let second = -1;
    const at = cpu.base + ONE_SHOT;
    const mapSecond = (): boolean => {
      const nextLo = ((lo & ~4095) + 4096) >>> 0;
      const nextHi = nextLo === 0 && kind === 2 ? (hi + 1) >>> 0 : hi;
      second = cpu.mmu.fetchTranslate(nextLo, nextHi);
      return second >= 0;
    };
    if (known !== undefined && known.matches(u8, host, 0, inPage)) {
      if (known.bytes.length > inPage && !mapSecond()) return -1;
      if (known.matches(u8, second, inPage, MAX_INSN)) {
        known.uses++;
        u8.set(known.records, at);
        return this.beginOneShot(at, lo, hi);
      }
    }
    const { translator } = worker;
    // from a copy, which another vCPU cannot change meanwhile: records and bytes that are kept belong together
    const bytes = this.crossing;
    bytes.set(u8.subarray(host, host + inPage));
    let length = translator.single(bytes, 0, inPage, offset, kind, end);
    if (length === DECODE.MORE) {
      if (second < 0 && !mapSecond()) return -1;
      bytes.set(u8.subarray(second, second + MAX_INSN), inPage);
      length = translator.single(bytes, 0, inPage + MAX_INSN, offset, kind, end);
    }
    if (length > 0) worker.log?.translated(cpu, translator, bytes, 0, length);
    const records = translator.buffer.slice(0, translator.count * RECORD_SIZE);
    if (length > 0) {
      worker.oneShots.add(new OneShot(host, kind, end, bytes.slice(0, length), records));
    }
    u8.set(records, at);
    return this.beginOneShot(at, lo, hi);
  }
  private beginOneShot(at: number, lo: number, hi: number): number {
    const { w } = this;
    const { u32 } = this.cpu;
    u32[w + W_CODE_PAGE] = (lo & ~4095) >>> 0;
    u32[w + W_CODE_PAGE + 1] = hi;
    u32[w + W_CODE_DESC] = 0;
    return at;
  }
}
