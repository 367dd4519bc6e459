/**
 * What regions have in common, as functions of the tier 0 instance: how they are entered from tier 0, and what happens
 * when they are left for it. What is executed often is in each region's own code, see emit.ts.
 */
import { atomicLoad8, type Expr, type FuncRef, i32, i64, load, type ModuleBuilder } from '../wasm/index.ts';
import {
  CODE_TLB_ENTRIES,
  CpuEnv,
  JUMP,
  JUMP_ENTRIES,
  JUMP_ENTRY_SIZE,
  REASON,
  SEG,
  Segment,
  TLB_SET,
} from '../cpu/env.ts';
import { STATUS } from '../cpu/tier0/context.ts';
import { RECORD } from '../cpu/tier0/record.ts';
import {
  EXIT_CODE,
  EXIT_COUNT,
  EXIT_INDIRECT,
  EXIT_JUMP,
  EXIT_MISS,
  EXIT_SAMPLE,
  PAGE_CHECK_SIZE,
  PAGE_CHECKS,
  PLACE,
  REGION,
} from './layout.ts';

const OFF = {
  codePage: CpuEnv.offsetOf('codePage'),
  codeSize: CpuEnv.offsetOf('codeSize'),
  tlbSet: CpuEnv.offsetOf('tlbSet'),
  ip: CpuEnv.offsetOf('ip'),
  jumpTarget: CpuEnv.offsetOf('jumpTarget'),
  exitDetail: CpuEnv.offsetOf('exitDetail'),
  exitSite: CpuEnv.offsetOf('exitSite'),
  exits: CpuEnv.offsetOf('statRegionExits'),
  csBase: CpuEnv.offsetOf('segs') + SEG.CS * Segment.size,
} as const;

/** i64: in 32-bit code addresses wrap. */
function wrapped(env: Expr, linear: Expr): Expr {
  const wide = load('i32', env, OFF.codeSize).eq(2);
  return linear.and(wide.select(i64(-1), i64(0xffffffffn)));
}
/** i32: what with TLB_SET.JUMPS is the wasm address of the jump cache's entry for a linear address. `Tlb.forgetJump` knows it too. */
export function jumpEntry(tlb: Expr, linear: Expr): Expr {
  const low = linear.i32();
  const index = low.xor(low.shrU(12)).and(JUMP_ENTRIES - 1);
  return tlb.add(index.shl(Math.log2(JUMP_ENTRY_SIZE)));
}
/** i64: the set's. */
export function losses(tlb: Expr): Expr {
  return load('i64', tlb, TLB_SET.LOSSES);
}

/** (env, description, base, reason) → status: the region may not be entered at `jumpTarget`. `base`: linear address of its head's page. */
function refuseFunction(m: ModuleBuilder): FuncRef {
  const f = m.func('refuseRegion', ['i32', 'i32', 'i64', 'i32'], ['i32']);
  const [env, description, base, reason] = [f.param(0), f.param(1), f.param(2), f.param(3)];
  f.store(4, env, OFF.exitDetail, description);
  const ip = load('i64', env, OFF.jumpTarget).sub(load('i64', env, OFF.csBase));
  f.store(8, env, OFF.ip, wrapped(env, ip));
  f.store(8, env, OFF.jumpTarget, base);
  f.ret(reason.add(STATUS.EXIT));
  return f;
}

/**
 * (env, record, description) → its PLACE, or a status (positive): the region is entered from tier 0, at a record of page
 * `codePage`. Sees to it that its pages are in the code TLB, and notes where it begins for those that jump there.
 */
function enterFunction(m: ModuleBuilder, refuse: FuncRef): FuncRef {
  const f = m.func('enterRegion', ['i32', 'i32', 'i32'], ['i32']);
  const [env, record, description] = [f.param(0), f.param(1), f.param(2)];
  // which entry: block in the low half, distance of its page from the head's in the high half
  const entries = description.add(load('i32_16u', record, RECORD.SEQ).shl(3));
  const entry = f.copy(load('i32', entries, REGION.ENTRIES + 4));
  const distance = f.copy(entry.shrS(16));
  const page = load('i64', env, OFF.codePage);
  const linear = f.copy(page.or(load('i64_16u', record, RECORD.OFFSET)));
  const base = f.copy(wrapped(env, page.sub(distance.shl(12).i64s())));
  const tlb = f.copy(env.add(load('i32', env, OFF.tlbSet)));
  const pages = f.copy(load('i32', description, REGION.PAGES));
  f.store(8, env, OFF.jumpTarget, linear);
  f.if(pages.gtU(1), () => {
    const note = f.copy(env.add(load('i32', description, REGION.SLOT).mul(PAGE_CHECK_SIZE)));
    // the low 12 bits of the base are 0, and the number is not
    const key = f.copy(base.or(load('i32', env, OFF.tlbSet).shrU(12).i64u()));
    const changed = load('i64', note, PAGE_CHECKS)
      .xor(key)
      .or(load('i64', note, PAGE_CHECKS + 8).xor(losses(tlb)));
    f.if(changed, () => {
      const at = f.copy(description);
      f.loop((next) => {
        const address = f.copy(wrapped(env, base.add(load('i32', at, REGION.PAGE_LIST).shl(12).i64s())));
        const index = address
          .i32()
          .shrU(8)
          .and((CODE_TLB_ENTRIES - 1) << 4);
        const slot = f.copy(tlb.add(index));
        const elsewhere = load('i64', slot, TLB_SET.CODE).ne(address);
        const other = load('i32', slot, TLB_SET.CODE + 8).ne(load('i32', at, REGION.PAGE_LIST + 4));
        f.if(elsewhere.or(other), () => f.ret(f.call(refuse, env, description, base, i32(REASON.REGION))));
        f.set(at, at.add(8));
        f.set(pages, pages.sub(1));
        f.brIf(next, pages);
      });
      f.store(8, note, PAGE_CHECKS, key);
      f.store(8, note, PAGE_CHECKS + 8, losses(tlb));
    });
  });
  const place = f.copy(
    entry
      .or(PLACE.SHORT >>> PLACE.BLOCK_SHIFT)
      .shl(PLACE.BLOCK_SHIFT)
      .or(distance.and(0xffff)),
  );
  const jump = f.copy(jumpEntry(tlb, linear));
  f.store(8, jump, TLB_SET.JUMPS + JUMP.LINEAR, linear);
  f.store(8, jump, TLB_SET.JUMPS + JUMP.LOSSES, losses(tlb));
  f.store(4, jump, TLB_SET.JUMPS + JUMP.HANDLER, load('i32', description, REGION.HANDLER));
  f.store(4, jump, TLB_SET.JUMPS + JUMP.PLACE, place);
  f.ret(place);
  return f;
}

/** (env, description, base) → 0, or a status: what a region that is not READY does where it is entered. */
function readyFunction(m: ModuleBuilder, refuse: FuncRef): FuncRef {
  const f = m.func('readyRegion', ['i32', 'i32', 'i64'], ['i32']);
  const [env, description, base] = [f.param(0), f.param(1), f.param(2)];
  f.if(atomicLoad8(description, REGION.VALID).eqz(), () =>
    f.ret(f.call(refuse, env, description, base, i32(REASON.REGION))),
  );
  // read by all vCPUs and hardly ever written: its line stays shared
  f.store(1, description, REGION.USED, i32(1));
  f.ret(i32(0));
  return f;
}

/**
 * (env, description, exit code, linear address where to go on, base) → status: a region is left for tier 0 or TypeScript.
 * Where the code says that it is a jump, `jumpTarget` is that address already.
 */
function leaveFunction(m: ModuleBuilder): FuncRef {
  const f = m.func('leaveRegion', ['i32', 'i32', 'i32', 'i64', 'i64'], ['i32']);
  const [env, description, exitCode] = [f.param(0), f.param(1), f.param(2)];
  const [linear, base] = [f.param(3), f.param(4)];
  const reason = f.copy(exitCode.and((1 << EXIT_CODE.REASON_BITS) - 1).sub(EXIT_CODE.REASON_BIAS));
  const count = (word: Expr, index: number): void => {
    const at = OFF.exits + index * 8;
    f.store(8, word, at, load('i64', word, at).add(i64(1)));
  };
  f.if(reason.leS(EXIT_JUMP), () => {
    count(env, EXIT_COUNT.JUMP);
    const exits = f.copy(load('i32', description, REGION.EXITS).add(1));
    f.store(4, description, REGION.EXITS, exits);
    // what is often gone on with may be worth a region too
    f.if(exits.and(EXIT_SAMPLE - 1), () => f.ret(i32(STATUS.JUMP)), undefined, true);
    // and may become part of this one
    f.store(4, env, OFF.exitDetail, reason.eq(EXIT_INDIRECT).select(description, i32(0)));
    f.store(4, env, OFF.exitSite, exitCode.shrS(EXIT_CODE.REASON_BITS));
    f.store(8, env, OFF.jumpTarget, base);
    f.store(8, env, OFF.ip, linear);
    f.ret(i32(STATUS.EXIT + REASON.HOT));
  });
  count(f.copy(env.add(reason.shl(3))), EXIT_COUNT.REASON);
  f.if(reason.eq(EXIT_MISS), () => {
    f.store(8, env, OFF.jumpTarget, linear);
    f.ret(i32(STATUS.JUMP));
  });
  f.store(8, env, OFF.ip, linear);
  f.ret(reason.add(STATUS.EXIT));
  return f;
}

/** Adds them to tier 0's module, by name. */
export function emitRegionRuntime(m: ModuleBuilder): Record<string, FuncRef> {
  const refuseRegion = refuseFunction(m);
  return {
    refuseRegion,
    enterRegion: enterFunction(m, refuseRegion),
    readyRegion: readyFunction(m, refuseRegion),
    leaveRegion: leaveFunction(m),
  };
}
