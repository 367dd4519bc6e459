/** Builds tier 0: one WebAssembly module with the main loop, the out-of-line handlers and their runtime. */
import {
  atomicLoad8,
  type Expr,
  type FuncBuilder,
  type FuncRef,
  i32,
  i64,
  load,
  ModuleBuilder,
} from '../../wasm/index.ts';
import { emitRegionRuntime } from '../../jit/region-runtime.ts';
import { CODE_TLB_ENTRIES, CpuEnv, REASON, SEG, Segment, TLB_SET } from '../env.ts';
import { emitFlagWords, FLAG_WORDS } from '../sem/deferred-flags.ts';
import { emitDivide128 } from '../sem/division.ts';
import { emitFpuCheck } from '../sem/fpu-check.ts';
import type { Semantics } from '../sem/ins.ts';
import { isWithinPage, TLB_ADDEND } from '../sem/memory-access.ts';
import { ORDINARY } from '../sys/words.ts';
import { ALIVE, ALIVE_OFFSET } from './code-cache.ts';
import {
  callCheck,
  FLAG_OFFSETS,
  type MainLoop,
  type Runtime,
  STATUS,
  Tier0Ins,
  tlbIndex,
} from './context.ts';
import { type HandlerForm, HandlerSet, hotKeys } from './handlers.ts';
import { ACCESS_MOVED, ACCESS_SIZE, FIRST_INSTRUCTION, PSEUDO, RECORD, RECORD_SIZE } from './record.ts';

const OFF = {
  tlbSet: CpuEnv.offsetOf('tlbSet'),
  slowAddr: CpuEnv.offsetOf('slowAddr'),
  slowValue: CpuEnv.offsetOf('slowValue'),
  tmpAddr: CpuEnv.offsetOf('tmpAddr'),
  codePage: CpuEnv.offsetOf('codePage'),
  codeDesc: CpuEnv.offsetOf('codeDesc'),
  stackSize: CpuEnv.offsetOf('stackSize'),
  record: CpuEnv.offsetOf('record'),
  ip: CpuEnv.offsetOf('ip'),
  nextIp: CpuEnv.offsetOf('nextIp'),
  jumpTarget: CpuEnv.offsetOf('jumpTarget'),
  exitRequest: CpuEnv.offsetOf('exitRequest'),
  exitDetail: CpuEnv.offsetOf('exitDetail'),
  budget: CpuEnv.offsetOf('budget'),
  excVector: CpuEnv.offsetOf('excVector'),
  excError: CpuEnv.offsetOf('excError'),
  csBase: CpuEnv.offsetOf('segs') + SEG.CS * Segment.size,
} as const;
const PAGE_MASK = -4096n;
const INVALID_OPCODE = 6;
const GENERAL_PROTECTION = 13;

/** Imports that the module's user supplies; all take the env's wasm address first. */
export interface Tier0Imports {
  /** Address in `slowAddr`. Gives a wasm address or -1. */
  slowLoad(env: number, size: number): number;
  /** Value in `slowValue`. Gives 0 or -1. */
  slowStore(env: number, size: number): number;
  rmwBegin(env: number, size: number): number;
  rmwCommit(env: number, size: number): number;
  helper(env: number, id: number, size: number): number;
  helperRecord(env: number, record: number): number;
  exclusive(env: number, begin: number): void;
}

export interface Tier0Module {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly handlers: HandlerSet;
  /** Table index, and handler number, of the first region slot. */
  readonly firstRegion: number;
}

interface Options {
  /** Limits of the shared memory, in 64 KiB pages. */
  readonly memoryPages: number;
  readonly semantics: (m: ModuleBuilder) => readonly Semantics[];
  helperId(name: string): number;
  readonly hot?: Iterable<string>;
  /** Table entries for regions of tier 1. */
  readonly regionSlots?: number;
  /** Each instruction takes 1 from `env.budget`; what finds nothing left is not executed: REASON.BUDGET. */
  readonly counting?: boolean;
}

/** What a region's table entry is until the worker has its module. */
function missingRegion(m: ModuleBuilder): FuncRef {
  const f = m.func('missingRegion', ['i32', 'i32'], ['i32']);
  const [env, rec] = [f.param(0), f.param(1)];
  const linear = load('i64', env, OFF.codePage).add(load('i64_16u', rec, RECORD.OFFSET));
  f.store(8, env, OFF.ip, linear.sub(load('i64', env, OFF.csBase)));
  f.store(4, env, OFF.exitDetail, i32(0));
  f.store(4, env, OFF.record, rec);
  f.ret(i32(STATUS.EXIT + REASON.REGION));
  return f;
}

/** Of the runtime, what a module of tier 1 imports from elsewhere or does not need. */
const NOT_EXPORTED: ReadonlySet<string> = new Set<keyof Runtime>([
  'helper',
  'exclusive',
  'rmwCommit',
  'helperId',
  'counting',
]);

type Imports = Record<keyof Tier0Imports, FuncRef>;

/** (env, address, size) → entry hit test shared by the out-of-line probes. */
function probeFunction(m: ModuleBuilder, name: string, array: number, slow: FuncRef): FuncRef {
  const f = m.func(name, ['i32', 'i64', 'i32'], ['i32']);
  const [env, address, size] = [f.param(0), f.param(1), f.param(2)];
  const entry = f.copy(env.add(load('i32', env, OFF.tlbSet)).add(tlbIndex(address)));
  const hit = isWithinPage(load('i64', entry, array).sub(address), size);
  f.if(hit, () => f.ret(address.i32().add(load('i32', entry, array + TLB_ADDEND))), undefined, true);
  f.store(8, env, OFF.slowAddr, address);
  f.ret(f.call(slow, env, size));
  return f;
}

/** (env, address, size): straight to the import. */
function slowFunction(m: ModuleBuilder, name: string, slow: FuncRef): FuncRef {
  const f = m.func(name, ['i32', 'i64', 'i32'], ['i32']);
  f.store(8, f.param(0), OFF.slowAddr, f.param(1));
  f.ret(f.call(slow, f.param(0), f.param(2)));
  return f;
}

function divide128Function(m: ModuleBuilder): FuncRef {
  const f = m.func('divide128', ['i64', 'i64', 'i64'], ['i64']);
  emitDivide128(f);
  return f;
}

function storeFunctions(m: ModuleBuilder, imports: Imports): { store: FuncRef; slowStore: FuncRef } {
  const slowStore = m.func('slowStore', ['i32', 'i64', 'i64', 'i32'], ['i32']);
  {
    const f = slowStore;
    f.store(8, f.param(0), OFF.slowAddr, f.param(1));
    f.store(8, f.param(0), OFF.slowValue, f.param(2));
    f.ret(f.call(imports.slowStore, f.param(0), f.param(3)));
  }
  const f = m.func('store', ['i32', 'i64', 'i64', 'i32'], ['i32']);
  const [env, address, value, size] = [f.param(0), f.param(1), f.param(2), f.param(3)];
  const entry = f.copy(env.add(load('i32', env, OFF.tlbSet)).add(tlbIndex(address)));
  const hit = isWithinPage(load('i64', entry, TLB_SET.WRITE).sub(address), size);
  f.if(hit, () => {
    const host = f.let(address.i32().add(load('i32', entry, TLB_SET.WRITE + TLB_ADDEND)));
    const stores = [1, 2, 4, 8].map((n) => () => {
      f.store(n, host, 0, value);
      f.ret(i32(0));
    });
    f.switch(size.ctz(), stores, () => f.unreachable());
  });
  f.ret(f.call(slowStore, env, address, value, size));
  return { store: f, slowStore };
}

/** The EA record: an address with a segment base, a 16- or 32-bit wrap, or more than one base. */
function emitAddress(f: FuncBuilder, env: Expr, rec: Expr): void {
  const slot = (field: number): Expr => load('i64', env.add(load('i32_16u', rec, field)));
  const offset = slot(RECORD.BASE)
    .add(slot(RECORD.INDEX).shl(load('i64_8u', rec, RECORD.SCALE)))
    .add(load('i64_32s', rec, RECORD.DISP));
  // IMM: mask of the address size; CHAIN: nonzero when the linear address is 32 bits wide
  const linear = f.let(offset.and(load('i64', rec, RECORD.IMM)).add(slot(RECORD.SLOT0)));
  const narrow = f.let(load('i32', rec, RECORD.CHAIN));
  f.store(8, env, OFF.tmpAddr, narrow.select(linear.and(0xffffffffn), linear));
}

/**
 * CHECKED_ADDRESS and CHECK: the offset against the segment's limit and type. `refused` is emitted for what is not an
 * access within the limit of an ordinary data segment, and gets the offset.
 */
function emitCheck(f: FuncBuilder, env: Expr, rec: Expr, refused: (offset: Expr) => void): void {
  const slot = (field: number): Expr => load('i64', env.add(load('i32_16u', rec, field)));
  const address = slot(RECORD.BASE)
    .add(slot(RECORD.INDEX).shl(load('i64_8u', rec, RECORD.SCALE)))
    .add(load('i64_32s', rec, RECORD.DISP));
  const given = f.let(load('i64', rec, RECORD.IMM));
  const stack = load('i32', env, OFF.stackSize).select(i64(0xffffffffn), i64(0xffffn));
  const offset = f.copy(address.and(given.eqz().select(stack, given)));
  const access = f.let(load('i32_16u', rec, RECORD.SLOT1));
  const segment = f.let(env.add(load('i32_16u', rec, RECORD.SLOT0)));
  const last = offset.add(access.and(ACCESS_SIZE).i64u()).sub(i64(1));
  const usual = load('i32', segment, Segment.offsetOf('attr'))
    .and(ORDINARY.MASK)
    .eq(ORDINARY.VALUE)
    .and(last.leU(load('i32', segment, Segment.offsetOf('limit')).i64u()));
  f.if(usual.or(access.and(ACCESS_MOVED)).eqz(), () => refused(offset), undefined, false);
}

/** A check outside the main loop: TypeScript has the last word. */
function checkHandler(m: ModuleBuilder, name: string, runtime: Runtime, address: boolean): FuncRef {
  const f = m.func(name, ['i32', 'i32'], ['i32']);
  const [env, rec] = [f.param(0), f.param(1)];
  if (address) emitAddress(f, env, rec);
  emitCheck(f, env, rec, (offset) => {
    const ip = f.copy(
      load('i64', env, OFF.codePage)
        .add(load('i64_16u', rec, RECORD.OFFSET))
        .sub(load('i64', env, OFF.csBase)),
    );
    f.store(8, env, OFF.ip, ip);
    f.store(8, env, OFF.nextIp, ip.add(load('i64_8u', rec, RECORD.LENGTH)));
    const status = f.copy(callCheck(f, env, runtime, offset, rec));
    f.if(status, () => f.ret(status.add(STATUS.EXIT)));
  });
  f.ret(i32(STATUS.NEXT));
  return f;
}

function addressHandler(m: ModuleBuilder): FuncRef {
  const f = m.func('address', ['i32', 'i32'], ['i32']);
  emitAddress(f, f.param(0), f.param(1));
  f.ret(i32(STATUS.NEXT));
  return f;
}

/** A direct 64-bit address. */
function addressImmediateHandler(m: ModuleBuilder): FuncRef {
  const f = m.func('addressImmediate', ['i32', 'i32'], ['i32']);
  const [env, rec] = [f.param(0), f.param(1)];
  const segment = load('i64', env.add(load('i32_16u', rec, RECORD.SLOT0)));
  f.store(8, env, OFF.tmpAddr, load('i64', rec, RECORD.IMM).add(segment));
  f.ret(i32(STATUS.NEXT));
  return f;
}

/** The HELPER record: TypeScript finds the operands in the record. */
function helperHandler(m: ModuleBuilder, imports: Imports): FuncRef {
  const f = m.func('helper', ['i32', 'i32'], ['i32']);
  const [env, rec] = [f.param(0), f.param(1)];
  const slot = (field: number): Expr => load('i64', env.add(load('i32_16u', rec, field)));
  const address = slot(RECORD.BASE)
    .add(slot(RECORD.INDEX).shl(load('i64_8u', rec, RECORD.SCALE)))
    .add(load('i64_32s', rec, RECORD.DISP));
  f.store(8, env, OFF.slowAddr, address);
  const ip = f.copy(
    load('i64', env, OFF.codePage)
      .add(load('i64_16u', rec, RECORD.OFFSET))
      .sub(load('i64', env, OFF.csBase)),
  );
  f.store(8, env, OFF.ip, ip);
  f.store(8, env, OFF.nextIp, ip.add(load('i64_8u', rec, RECORD.LENGTH)));
  const status = f.copy(f.call(imports.helperRecord, env, rec));
  f.if(status, () => f.ret(status.add(STATUS.EXIT)));
  f.ret(i32(STATUS.NEXT));
  return f;
}

/** i32: byte offset, within the code TLB, of the entry for a linear address. */
function codeTlbIndex(address: Expr): Expr {
  return address
    .i32()
    .shrU(8)
    .and((CODE_TLB_ENTRIES - 1) << 4);
}

/** The instruction's code, after the check that its unit asks for. */
function emitForm(ins: Tier0Ins, form: HandlerForm): void {
  const { semantics } = form;
  if (semantics.unit !== undefined) emitFpuCheck(ins, semantics.unit);
  semantics.emit(ins);
}

function coldHandler(m: ModuleBuilder, form: HandlerForm, runtime: Runtime): FuncRef {
  const f = m.func(form.key, ['i32', 'i32'], ['i32']);
  f.scope(() => emitForm(new Tier0Ins(f, form, runtime, f.param(0), f.param(1)), form));
  f.ret(i32(STATUS.NEXT));
  return f;
}

/** The main loop: `run(env, record)`; record 0 starts with a lookup of env.ip. */
function emitMain(
  f: FuncBuilder,
  handlers: HandlerSet,
  runtime: Runtime,
  coldType: number,
  flagWords: FuncRef,
): void {
  const env = f.param(0);
  const record = f.param(1);
  const flags = { res: f.local('i64'), carry: f.local('i64'), aux: f.local('i32') };
  const tlb = f.local('i32');
  const target = f.local('i64');
  const reason = f.local('i32');

  const loadFlags = (): void => {
    f.set(flags.res, load('i64', env, FLAG_OFFSETS.res));
    f.set(flags.carry, load('i64', env, FLAG_OFFSETS.carry));
    f.set(flags.aux, load('i32', env, FLAG_OFFSETS.aux));
  };
  const storeFlags = (): void => {
    f.store(8, env, FLAG_OFFSETS.res, flags.res);
    f.store(8, env, FLAG_OFFSETS.carry, flags.carry);
    f.store(4, env, FLAG_OFFSETS.aux, flags.aux);
  };
  const recordLinear = (): Expr => load('i64', env, OFF.codePage).add(load('i64_16u', record, RECORD.OFFSET));

  loadFlags();
  f.set(tlb, env.add(load('i32', env, OFF.tlbSet)));
  f.set(target, load('i64', env, OFF.ip).add(load('i64', env, OFF.csBase)));
  f.block((exitLabel) => {
    // leaves with `reason`; ip is stored
    const leaveAt = (why: number, linear: Expr): void => {
      f.store(8, env, OFF.ip, linear.sub(load('i64', env, OFF.csBase)));
      f.set(reason, i32(why));
      f.br(exitLabel);
    };
    f.block((faultLabel) => {
      f.block((hotLabel) => {
        f.loop((lookupLabel) => {
          f.block((chainLabel) => {
            f.block((startLabel) => {
              f.brIf(startLabel, record.ne(0));
              f.if(atomicLoad8(env, OFF.exitRequest), () => leaveAt(REASON.KICK, target), undefined, false);
              const page = f.copy(target.and(PAGE_MASK));
              const entry = f.copy(tlb.add(codeTlbIndex(target)));
              f.if(
                load('i64', entry, TLB_SET.CODE).eq(page),
                () => {
                  const desc = f.copy(load('i32', entry, TLB_SET.CODE + 8));
                  f.set(record, load('i32', desc.add(target.i32().and(0xfff).shl(2))));
                  f.store(8, env, OFF.codePage, page);
                  f.store(4, env, OFF.codeDesc, desc);
                },
                undefined,
                true,
              );
              f.if(record.eqz(), () => leaveAt(REASON.LOOKUP, target), undefined, false);
            });
            f.loop((dispatchLabel) => {
              f.block((nextLabel) => {
                const main: MainLoop = {
                  record,
                  tlb,
                  target,
                  flags,
                  nextLabel,
                  dispatchLabel,
                  lookupLabel,
                  chainLabel,
                  faultLabel,
                  hotLabel,
                };
                // jumps to lookupLabel leave `record` nonzero: a handler that looks up must clear it
                const lookup = (linear: Expr): void => {
                  f.set(target, linear);
                  f.set(record, i32(0));
                  f.br(lookupLabel);
                };
                const pseudo: (() => void)[] = [];
                pseudo[PSEUDO.RELOOKUP] = () => lookup(recordLinear());
                pseudo[PSEUDO.CONTINUE] = () => lookup(recordLinear());
                pseudo[PSEUDO.STOP] = () => leaveAt(REASON.BUDGET, recordLinear());
                pseudo[PSEUDO.GOTO] = () => {
                  f.set(record, load('i32', record, RECORD.CHAIN));
                  f.br(dispatchLabel);
                };
                pseudo[PSEUDO.CROSSING] = () => {
                  const page = f.copy(load('i64', env, OFF.codePage).add(4096));
                  const entry = f.copy(tlb.add(codeTlbIndex(page)));
                  const desc = f.copy(load('i32', record, RECORD.CHAIN));
                  const there = load('i64', entry, TLB_SET.CODE)
                    .eq(page)
                    .and(load('i32', entry, TLB_SET.CODE + 8).eq(desc))
                    .and(load('i32', desc, ALIVE_OFFSET).eq(ALIVE));
                  f.brIf(nextLabel, there, true);
                  leaveAt(REASON.LOOKUP, recordLinear());
                };
                // unlike other instructions that fault these count: what counted them is taken back at every fault
                const countFault = (): void => {
                  if (runtime.counting) f.store(4, env, OFF.budget, load('i32', env, OFF.budget).sub(1));
                };
                pseudo[PSEUDO.UNDEFINED] = () => {
                  countFault();
                  f.store(4, env, OFF.excVector, i32(INVALID_OPCODE));
                  f.store(4, env, OFF.excError, i32(-1));
                  f.br(faultLabel);
                };
                pseudo[PSEUDO.TOO_LONG] = () => {
                  countFault();
                  f.store(4, env, OFF.excVector, i32(GENERAL_PROTECTION));
                  f.store(4, env, OFF.excError, i32(0));
                  f.br(faultLabel);
                };
                // once: another vCPU may invalidate the record at any time
                const handler = f.copy(load('i32_16u', record));
                const callCold = (): void => {
                  storeFlags();
                  const status = f.copy(f.callIndirect(coldType, 'i32', handler, env, record));
                  // a region leaves them deferred
                  f.if(
                    load('i32', env, FLAG_WORDS.kind),
                    () => f.run(f.call(flagWords, env)),
                    undefined,
                    false,
                  );
                  loadFlags();
                  // STAC and CLAC go on at the next record with another TLB set
                  f.set(tlb, env.add(load('i32', env, OFF.tlbSet)));
                  f.brIf(nextLabel, status.eqz(), true);
                  f.if(status.eq(STATUS.JUMP), () => lookup(load('i64', env, OFF.jumpTarget)));
                  f.set(reason, status.sub(STATUS.EXIT));
                  f.br(exitLabel);
                };
                // every memory operand of 32-bit code has one
                pseudo[PSEUDO.ADDRESS] = () => {
                  emitAddress(f, env, record);
                  f.br(nextLabel);
                };
                // so has every one through FS and GS, which Linux uses much
                pseudo[PSEUDO.CHECKED_ADDRESS] = () => {
                  emitCheck(f, env, record, callCold);
                  emitAddress(f, env, record);
                  f.br(nextLabel);
                };
                pseudo[PSEUDO.CHECK] = () => {
                  emitCheck(f, env, record, callCold);
                  f.br(nextLabel);
                };
                pseudo[PSEUDO.CHECK_HELPER] = callCold;
                pseudo[PSEUDO.HELPER] = callCold;
                pseudo[PSEUDO.ADDRESS_IMMEDIATE] = callCold;
                const cases = [
                  ...pseudo,
                  ...handlers.hot.map((form) => () => {
                    emitForm(new Tier0Ins(f, form, runtime, env, record, main), form);
                    f.br(nextLabel);
                  }),
                ];
                if (runtime.counting) {
                  const counts = handler.geU(FIRST_INSTRUCTION);
                  const budget = f.copy(load('i32', env, OFF.budget).sub(counts));
                  f.if(budget.ltS(0), () => leaveAt(REASON.BUDGET, recordLinear()), undefined, false);
                  f.store(4, env, OFF.budget, budget);
                }
                f.switch(handler, cases, callCold);
              });
              f.set(record, record.add(RECORD_SIZE));
              f.br(dispatchLabel);
            });
          });
          // chainLabel: a direct jump to `target`; within one page the record is remembered
          const next = f.copy(i32(0));
          const desc = f.copy(load('i32', env, OFF.codeDesc));
          f.if(desc.ne(0).and(target.and(PAGE_MASK).eq(load('i64', env, OFF.codePage))), () => {
            f.set(next, load('i32', desc.add(target.i32().and(0xfff).shl(2))));
            f.if(next, () => f.store(4, record, RECORD.CHAIN, next));
          });
          f.set(record, i32(0));
          f.br(lookupLabel);
        });
      });
      // hotLabel
      f.store(4, env, OFF.exitDetail, i32(0));
      leaveAt(REASON.HOT, target);
    });
    // faultLabel: the exception is set
    leaveAt(REASON.EXCEPTION, recordLinear());
  });
  storeFlags();
  f.ret(reason);
}

export function buildTier0(options: Options): Tier0Module {
  const m = new ModuleBuilder();
  m.importMemory('env', 'memory', options.memoryPages, options.memoryPages);
  const imp = (name: keyof Tier0Imports, params: number, result = true): FuncRef =>
    m.importFunc(
      'env',
      name,
      Array.from({ length: params }, () => 'i32' as const),
      result ? ['i32'] : [],
    );
  const imports: Imports = {
    slowLoad: imp('slowLoad', 2),
    slowStore: imp('slowStore', 2),
    rmwBegin: imp('rmwBegin', 2),
    rmwCommit: imp('rmwCommit', 2),
    helper: imp('helper', 3),
    helperRecord: imp('helperRecord', 2),
    exclusive: imp('exclusive', 2, false),
  };
  const { store, slowStore } = storeFunctions(m, imports);
  const runtime: Runtime = {
    probeRead: probeFunction(m, 'probeRead', TLB_SET.READ, imports.slowLoad),
    probeWrite: probeFunction(m, 'probeWrite', TLB_SET.WRITE, imports.rmwBegin),
    slowRead: slowFunction(m, 'slowRead', imports.slowLoad),
    slowWriteProbe: slowFunction(m, 'slowWriteProbe', imports.rmwBegin),
    store,
    slowStore,
    rmwCommit: imports.rmwCommit,
    exclusive: imports.exclusive,
    divide128: divide128Function(m),
    helper: imports.helper,
    helperId: options.helperId,
    counting: options.counting ?? false,
  };
  const handlers = new HandlerSet(options.semantics(m), options.hot ?? hotKeys());
  const table: FuncRef[] = handlers.cold.map((form) => coldHandler(m, form, runtime));
  const regions = handlers.firstCold + table.length;
  const { regionSlots = 0 } = options;
  m.table(regions + regionSlots);
  const missing = missingRegion(m);
  m.elementsAt(
    regions,
    Array.from({ length: regionSlots }, () => missing),
  );
  m.exportTable('table');
  m.exportFunc('missingRegion', missing);
  for (const [name, ref] of Object.entries(emitRegionRuntime(m))) m.exportFunc(name, ref);
  for (const [name, ref] of Object.entries(runtime)) {
    if (!NOT_EXPORTED.has(name)) m.exportFunc(name, ref as FuncRef);
  }
  m.elementsAt(handlers.firstCold, table);
  m.elementsAt(PSEUDO.ADDRESS, [addressHandler(m)]);
  m.elementsAt(PSEUDO.HELPER, [helperHandler(m, imports)]);
  m.elementsAt(PSEUDO.ADDRESS_IMMEDIATE, [addressImmediateHandler(m)]);
  const flagWords = m.func('flagWords', ['i32'], []);
  emitFlagWords(flagWords, flagWords.param(0));
  m.exportFunc('flagWords', flagWords);
  m.elementsAt(PSEUDO.CHECKED_ADDRESS, [checkHandler(m, 'checkedAddress', runtime, true)]);
  m.elementsAt(PSEUDO.CHECK_HELPER, [helperHandler(m, imports)]);
  m.elementsAt(PSEUDO.CHECK, [checkHandler(m, 'check', runtime, false)]);
  const run = m.func('run', ['i32', 'i32'], ['i32']);
  emitMain(run, handlers, runtime, m.typeIndex(['i32', 'i32'], ['i32']), flagWords);
  m.exportFunc('run', run);
  return { bytes: m.build(), handlers, firstRegion: regions };
}
