/** Shared words of tier 1: jump caches, region descriptions, table slots. */
import { SCRATCH_OFFSET, SCRATCH_SIZE } from '../cpu/env.ts';

/** Table slots for regions: so many modules live at most, since each costs the collector time. */
export const REGION_SLOTS = 2048;
/** Bytes of their modules at most, where `tb-size` does not say another number. */
export const REGION_BYTES = 48 << 20;

/**
 * A vCPU's return cache, after its scratch area: where a call of a region stores the block it returns to.
 * Entry: linear return address u64, page base | slot u64, block u32.
 */
export const RETURN_CACHE = SCRATCH_OFFSET + SCRATCH_SIZE;
export const RETURN_ENTRIES = 256;
export const RETURN_ENTRY_SIZE = 32;
export const RETURN_CACHE_SIZE = RETURN_ENTRIES * RETURN_ENTRY_SIZE;
/**
 * After it, by slot: where a region was found to have all its pages in the code TLB, as base | number of the TLB set u64, and
 * the set's `TLB_SET.LOSSES` of then. As long as that has not changed they are all there.
 */
export const PAGE_CHECKS = RETURN_CACHE + RETURN_CACHE_SIZE;
export const PAGE_CHECK_SIZE = 16;

/** Most targets of indirect jumps that are made part of a region. */
export const MAX_TARGETS = 32;
export const MAX_REFUSALS = 64;
/** One in so many jumps out of a region asks for a region at its target (a power of two). */
export const EXIT_SAMPLE = 4096;

/**
 * Exit reasons that are no REASON: back to tier 0 with the same instruction, since the TLB lacks what it needs; a jump; a
 * jump to the linear address in the env's `jumpTarget`; the same by an indirect jump or call.
 */
export const EXIT_MISS = -1;
export const EXIT_JUMP = -2;
export const EXIT_TARGET = -3;
export const EXIT_INDIRECT = -4;

/** Where to go on and why in one number, since each exit has code for what it sets: 28 bits of region offset, 4 of reason. */
export const EXIT_CODE = { REASON_BITS: 4, REASON_BIAS: 4 } as const;
/** Indices of `CpuEnv.statRegionExits`: a REASON plus 2, or what is none; NEXT: jumps to other regions, JUMP: others. */
export const EXIT_COUNT = { JUMP: 0, MISS: 1, REASON: 2, NEXT: 11 } as const;

/** What a region gets in place of a record from another one: bit 31, number of the block, distance of its page from the head's. */
export const PLACE = { SHORT: 0x8000_0000, BLOCK_SHIFT: 16, BLOCK_MASK: 0x7fff } as const;

/** Most blocks of a region, copies included. */
export const MAX_BLOCKS = 240;
/** Most pages that a region's code lies in. */
export const MAX_REGION_PAGES = 16;
/** Most places where a region can be entered. */
export const MAX_ENTRIES = 64;

/**
 * A region's description in shared memory. VALID is 1 until code of one of its pages changes. Written by the JIT
 * worker before the region is published; VALID is cleared under the code cache's lock.
 */
export const REGION = {
  /** A byte each; REGION.READY when both are 1. */
  VALID: 0,
  /** 1 when it was entered since the JIT worker last looked for regions to give up. */
  USED: 1,
  READY: 0x0101,
  SLOT: 4,
  /** Entries in the list; the first is the head. */
  ENTRY_COUNT: 8,
  PAGES: 16,
  /** Jumps out of the region so far (wrapping); one in EXIT_SAMPLE asks for its target to be compiled. */
  EXITS: 20,
  /** Times it could not be entered because its pages are mapped otherwise; at MAX_REFUSALS it is given up. */
  REFUSALS: 24,
  /** Number of its function among the handlers. */
  HANDLER: 28,
  /**
   * Per entry: its record (0: the code has not been met yet), whose handler is the region's and whose SEQ is the
   * entry's number; then the block's number (u16), distance of its page from the head's (i16).
   */
  ENTRIES: 32,
  /** Per page, the head's first: distance from the head's page (i32), descriptor (u32). */
  PAGE_LIST: 32 + MAX_ENTRIES * 8,
  SIZE: 32 + MAX_ENTRIES * 8 + MAX_REGION_PAGES * 8,
} as const;
