/** Shared words of tier 1: jump caches, region descriptions, table slots. */
import { SCRATCH_OFFSET, SCRATCH_SIZE } from '../cpu/env.ts';

/** Table slots for regions; bounded, since each live module costs the collector time. */
export const REGION_SLOTS = 4096;

/**
 * A vCPU's return cache, after its scratch area: where a call of a region stores the block it returns to.
 * Entry: linear return address u64, page base | slot u64, block u32.
 */
export const RETURN_CACHE = SCRATCH_OFFSET + SCRATCH_SIZE;
export const RETURN_ENTRIES = 256;
export const RETURN_ENTRY_SIZE = 32;
export const RETURN_CACHE_SIZE = RETURN_ENTRIES * RETURN_ENTRY_SIZE;

export const MAX_REFUSALS = 64;
/** A power of two. */
export const EXIT_SAMPLE = 1024;

/** Most pages that a region's code lies in. */
export const MAX_REGION_PAGES = 6;

/**
 * A region's description in shared memory. VALID is 1 until code of one of its pages changes. Written by the JIT
 * worker before the region is published; VALID is cleared under the code cache's lock.
 */
export const REGION = {
  VALID: 0,
  SLOT: 4,
  /** Record whose handler is the region's. */
  RECORD: 8,
  /** Page offset of the head. */
  HEAD: 12,
  PAGES: 16,
  /** Jumps out of the region so far (wrapping); one in EXIT_SAMPLE asks for its target to be compiled. */
  EXITS: 20,
  /** Times it could not be entered because its pages are mapped otherwise; at MAX_REFUSALS it is given up. */
  REFUSALS: 24,
  /** Per page, the head's first: distance from the head's page (i32), descriptor (u32). */
  PAGE_LIST: 32,
  SIZE: 32 + MAX_REGION_PAGES * 8,
} as const;
