/** What the host CPU's registers do not show: x87 state after MMX, alignment faults, exceptions without OSXMMEXCPT. */
import { expect, test } from 'vitest';
import { CpuEnv } from '../../src/cpu/env.ts';
import { makeSimdSemantics } from '../../src/cpu/sem/sse.ts';
import { i32, ModuleBuilder } from '../../src/wasm/index.ts';
import { Machine } from './machine.ts';
import { STATE } from './native.ts';
import { DONE, ENV, MEMORY, TestIns } from './test-ins.ts';

function emptyState(): Buffer {
  const state = Buffer.alloc(STATE.SIZE);
  state.writeUInt32LE(0x1f80, STATE.MXCSR);
  return state;
}

test('an MMX result has an x87 exponent of ones', () => {
  const machine = new Machine([{ name: 'paddb', form: 'qq', size: 4 }]);
  expect(machine.run(0, emptyState())).toBe(DONE);
  expect(machine.exponentWord(1)).toBe(0xffff);
  expect(machine.x87()).toEqual({ top: 0, tags: 0xff });
});

test('emms empties all x87 registers', () => {
  const machine = new Machine([
    { name: 'paddb', form: 'qq', size: 4 },
    { name: 'emms', form: '', size: 4 },
  ]);
  machine.run(0, emptyState());
  expect(machine.run(1, emptyState())).toBe(DONE);
  expect(machine.x87().tags).toBe(0);
});

test('a conversion from memory by cvtpi2pd leaves the x87 state alone', () => {
  const machine = new Machine([{ name: 'cvtpi2pd', form: 'xm', size: 4 }]);
  machine.run(0, emptyState());
  expect(machine.x87()).toEqual({ top: 5, tags: 0 });
});

test('an unmasked exception is #XM, and #UD where the system does not handle it', () => {
  const machine = new Machine([{ name: 'divsd', form: 'xx', size: 4 }]);
  const state = emptyState();
  state.writeDoubleLE(1, STATE.XMM + 16);
  state.writeUInt32LE(0x1f80 & ~(1 << 9), STATE.MXCSR);
  expect(machine.run(0, Buffer.from(state))).toBe(19);
  machine.setCr4(0n);
  expect(machine.run(0, Buffer.from(state))).toBe(6);
});

test('ldmxcsr refuses reserved bits and leaves MXCSR', () => {
  const machine = new Machine([{ name: 'ldmxcsr', form: 'm', size: 4 }]);
  const state = emptyState();
  state.writeUInt32LE(0x11f80, STATE.MEMORY);
  expect(machine.run(0, state)).toBe(13);
  expect(state.readUInt32LE(STATE.MXCSR)).toBe(0x1f80);
  state.writeUInt32LE(0xbfc5, STATE.MEMORY);
  expect(machine.run(0, state)).toBe(DONE);
  expect(state.readUInt32LE(STATE.MXCSR)).toBe(0xbfc5);
});

test('cvtsd2ss of a denormal with underflow unmasked is inexact', () => {
  const machine = new Machine([{ name: 'cvtsd2ss', form: 'xx', size: 4 }]);
  const state = emptyState();
  state.writeBigUInt64LE(0x8096cb9808n, STATE.XMM + 32);
  state.writeUInt32LE(0x1f80 & ~(1 << 11), STATE.MXCSR);
  expect(machine.run(0, state)).toBe(19);
  expect(state.readUInt32LE(STATE.MXCSR) & 0x3f).toBe(0x32);
});

/** Instructions whose 16-byte memory operand need not be aligned (SDM vol. 2, exception types 4 and 5 aside). */
const UNALIGNED = /^(movup[sd]|movdqu|lddqu|pcmp[ei]str[im])$/;

test('whole-register memory operands ask for alignment, with the exceptions of the manual', () => {
  const m = new ModuleBuilder();
  m.importMemory('env', 'memory', 4, 4);
  const wrong: string[] = [];
  for (const row of makeSimdSemantics(m)) {
    for (const form of row.forms.filter((text) => text.includes('m'))) {
      const accesses: boolean[] = [];
      class Recorder extends TestIns {
        override readV128(n: number, unaligned = false) {
          if (this.kinds[n] === 'm') accesses.push(unaligned);
          return super.readV128(n, unaligned);
        }
        override writeV128(n: number, value: Parameters<TestIns['writeV128']>[1], unaligned = false) {
          if (this.kinds[n] === 'm') accesses.push(unaligned);
          return super.writeV128(n, value, unaligned);
        }
      }
      const f = m.func('f', [], ['i32']);
      row.emit(new Recorder(f, form, row.sizes[0], undefined));
      f.ret(i32(DONE));
      if (accesses.some((unaligned) => unaligned !== UNALIGNED.test(row.name)))
        wrong.push(`${row.name} ${form}`);
    }
  }
  expect(wrong).toEqual([]);
});

test('a masked store touches the selected bytes only', () => {
  const m = new ModuleBuilder();
  m.importMemory('env', 'memory', 4, 4);
  const row = makeSimdSemantics(m).find((s) => s.name === 'maskmovdqu');
  const f = m.func('f', [], ['i32']);
  const stores: number[] = [];
  class Recorder extends TestIns {
    override store(
      address: Parameters<TestIns['store']>[0],
      value: Parameters<TestIns['store']>[1],
      size: number,
    ) {
      stores.push(size);
      super.store(address, value, size);
    }
  }
  row?.emit(new Recorder(f, 'xx', 4, undefined, 4));
  f.ret(i32(DONE));
  m.exportFunc('f', f);
  expect(stores).toEqual([1]);
  const memory = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true });
  const instance = new WebAssembly.Instance(new WebAssembly.Module(m.build()), { env: { memory } });
  const env = CpuEnv.at(memory.buffer as unknown as SharedArrayBuffer, ENV);
  // with 32-bit addresses the upper half of RDI is not used
  env.regs[7] = 0x5_0000_0000n + BigInt(MEMORY);
  for (let i = 0; i < 16; i++) {
    env.xmm[32 + i] = i + 1;
    env.xmm[64 + i] = i === 3 || i === 15 ? 0x80 : 0x7f;
  }
  expect((instance.exports.f as () => number)()).toBe(DONE);
  const bytes = new Uint8Array(memory.buffer, MEMORY, 16);
  expect([...bytes]).toEqual([0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16]);
});
