/** -icount on whole machines: exact counts, and runs that are the same whatever the host does meanwhile. */
import { describe, expect, test } from 'vitest';
import { EMBEDDED_KERNEL, Machine, type MachineCreateOptions } from '../../src/index.ts';
import { CHATTER, COM1, kernel, outAl, POWER_OFF, print, SPIN } from './guests.ts';

const NOP = 0x90;
/** rdtsc; the low byte, the second and the third are sent. */
const PRINT_TIME = [0x0f, 0x31, 0x89, 0xc1, ...outAl(COM1), 0x88, 0xe8, ...outAl(COM1)];
/** mov ecx, count; loop $ */
const delay = (count: number) => [0xb9, ...[0, 8, 16, 24].map((s) => (count >>> s) & 255), 0xe2, 0xfe];
/** rdrand eax, and its low byte is sent */
const PRINT_RANDOM = [0x0f, 0xc7, 0xf0, ...outAl(COM1)];

function machine(code: Uint8Array, options: MachineCreateOptions = {}): Promise<Machine> {
  return Machine.create({ kernel: code, memory: '8M', icount: 'shift=0,sleep=off', ...options });
}

interface Run {
  readonly output: string;
  readonly instructions: number | undefined;
}
/** Runs to the end; `meanwhile` disturbs. */
async function run(
  options: MachineCreateOptions,
  meanwhile: (m: Machine) => Promise<void> = async () => {},
): Promise<Run> {
  await using m = await Machine.create({ ...options, paused: true });
  const chunks: Uint8Array[] = [];
  m.serial[0]!.on('data', (bytes: Uint8Array) => chunks.push(bytes));
  await m.resume();
  await Promise.all([m.exit, meanwhile(m).catch(() => {})]);
  return { output: Buffer.concat(chunks).toString('latin1'), instructions: m.instructions };
}

describe('instructions', () => {
  test('are counted exactly', async () => {
    const nops = Array.from({ length: 37 }, () => NOP);
    const m = await machine(kernel(nops, POWER_OFF));
    await m.exit;
    // mov, mov and out power the machine off
    expect(m.instructions).toBe(37 + 3);
  });

  test('are known after the end, and not counted without icount', async () => {
    const counted = await machine(kernel(delay(1000), POWER_OFF));
    await counted.exit;
    expect(counted.instructions).toBeGreaterThan(1000);
    await using other = await Machine.create({ kernel: kernel(SPIN), memory: '8M' });
    expect(other.instructions).toBeUndefined();
  });

  test('are not counted while the machine is stopped', async () => {
    await using m = await machine(kernel(print('!'), SPIN));
    await m.serial[0]!.waitFor('!');
    await m.pause();
    const { instructions } = m;
    await new Promise((done) => setTimeout(done, 50));
    expect(m.instructions).toBe(instructions);
    await m.resume();
    await m.pause();
    expect(m.instructions).toBeGreaterThanOrEqual(instructions!);
  });
});

describe('two runs', () => {
  const embedded = (thread: Partial<MachineCreateOptions> = {}): MachineCreateOptions => ({
    kernel: EMBEDDED_KERNEL,
    append: 'limit=3000',
    smp: 3,
    memory: '16M',
    icount: { shift: 5, sleep: false },
    rtc: 'base=2026-01-01,clock=vm',
    ...thread,
  });

  test('of several vCPUs are the same, however one is stopped, throttled and kicked', async () => {
    const quiet = await run(embedded());
    let stops = 0;
    const disturbed = await run(embedded(), async (m) => {
      for (;;) {
        await m.pause();
        m.setThrottle((stops++ * 37) % 90);
        await m.resume();
        m.setThrottle(0);
      }
    });
    expect(quiet.output).toContain('all correct');
    expect(disturbed).toEqual(quiet);
    expect(stops).toBeGreaterThan(2);
  });

  test('are the same when the host reads slowly', async () => {
    // 200 000 bytes and times between them
    const block = [...delay(50), ...PRINT_TIME, ...print('0123456789abcdef')];
    const loop = [0xbe, 0x10, 0x27, 0, 0, ...block, 0x4e, 0x0f, 0x85];
    const back = -(block.length + 1 + 6);
    const code = kernel([...loop, ...[0, 8, 16, 24].map((s) => (back >> s) & 255)], POWER_OFF);
    const options = { kernel: code, memory: '8M', icount: 'shift=0,sleep=off' };
    const quick = await run(options);
    const slow = await run(options, async (m) => {
      const port = m.serial[0]!;
      for (let i = 0; i < 20; i++) {
        port.pause();
        await new Promise((done) => setTimeout(done, 10));
        port.resume();
        await new Promise((done) => setTimeout(done, 1));
      }
    });
    expect(quick.output).toHaveLength(10_000 * 18);
    expect(slow).toEqual(quick);
  });

  test('have the same random numbers when they have the same seed', async () => {
    const code = kernel(PRINT_RANDOM, PRINT_RANDOM, PRINT_RANDOM, PRINT_RANDOM, POWER_OFF);
    const options = { kernel: code, memory: '8M', cpu: 'max' };
    const a = await run({ ...options, seed: 7 });
    expect(a.output).toHaveLength(4);
    expect((await run({ ...options, seed: 7n })).output).toBe(a.output);
    expect((await run({ ...options, seed: 8 })).output).not.toBe(a.output);
  });
});

test('a machine that waits for ever, its output unread, can be stopped and ended', async () => {
  await using m = await machine(kernel(CHATTER));
  const port = m.serial[0]!;
  port.on('data', () => port.pause());
  await port.waitFor('xxxx');
  await new Promise((done) => setTimeout(done, 100));
  await m.pause();
  await m.resume();
  await m.pause();
  expect(m.state).toBe('paused');
});

test.each(['shift=3', 'shift=5,align=on', 'shift=auto', 'shift=10,sleep=off'])(
  'icount %s runs the embedded guest',
  async (icount) => {
    await using m = await Machine.create({
      kernel: EMBEDDED_KERNEL,
      append: 'limit=1000',
      smp: 2,
      memory: '16M',
      icount,
    });
    await m.serial[0]!.waitFor('all correct');
    expect(await m.run()).toBe(0);
  },
);
