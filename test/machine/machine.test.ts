import { EventEmitter, once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, expect, test } from 'vitest';
import { EMBEDDED_KERNEL, Machine, type MachineCreateOptions, parseOptions } from '../../src/index.ts';
import {
  addressAfter,
  CHATTER,
  COUNT_BOOTS,
  ECHO,
  HLT_FOREVER,
  kernel,
  onBoot,
  outb,
  POWER_OFF,
  print,
  read,
  RESET,
  SPIN,
  TRIPLE_FAULT,
  writeByte,
} from './guests.ts';

const directory = mkdtempSync(join(tmpdir(), 'smp86-machine-'));
afterAll(() => rmSync(directory, { recursive: true }));

function machine(code: Uint8Array, options: MachineCreateOptions = {}): Promise<Machine> {
  return Machine.create({ kernel: code, memory: '8M', ...options });
}
const settled = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test('the embedded guest runs on several vCPUs, and the machine ends when it powers off', async () => {
  await using m = await Machine.create({
    kernel: EMBEDDED_KERNEL,
    append: 'limit=2000',
    smp: 3,
    memory: '16M',
  });
  const reasons: string[] = [];
  m.on('shutdown', (reason) => reasons.push(reason));
  const output = await m.serial[0]!.waitFor('all correct');
  expect(output).toContain('smp86 embedded guest: 3 CPUs');
  expect(await m.exit).toEqual({ reason: 'shutdown', status: 0 });
  expect(m.state).toBe('ended');
  expect(reasons).toEqual(['shutdown']);
});

test("the command's options make a machine too", async () => {
  const args = [
    '-kernel',
    EMBEDDED_KERNEL,
    '-append',
    'limit=100',
    '-m',
    '16M',
    '-accel',
    'tcg,thread=single',
  ];
  await using m = await Machine.create(parseOptions([...args, '-smp', '2']));
  expect(await m.run()).toBe(0);
});

test('pause stops the guest, resume lets it go on, both tell when that is so', async () => {
  await using m = await machine(kernel(CHATTER));
  const port = m.serial[0]!;
  let bytes = 0;
  port.on('data', (chunk: Uint8Array) => (bytes += chunk.length));
  await port.waitFor('xxxx');
  await m.pause();
  expect(m.state).toBe('paused');
  await settled(50);
  const then = bytes;
  await settled(100);
  expect(bytes).toBe(then);
  await m.resume();
  expect(m.state).toBe('running');
  await once(port, 'data');
  // commands come one after the other, whether or not one waits for them
  await Promise.all([m.pause(), m.resume(), m.pause()]);
  expect(m.state).toBe('paused');
});

test('a paused machine begins when it is told to', async () => {
  await using m = await machine(kernel(print('begun'), HLT_FOREVER), { paused: true });
  expect(m.state).toBe('paused');
  await settled(50);
  const seen = m.serial[0]!.waitFor('begun');
  await m.resume();
  await seen;
});

test('a reset by the guest keeps RAM, loads the kernel afresh and is announced', async () => {
  await using m = await machine(kernel(COUNT_BOOTS, onBoot(1, RESET), onBoot(2, RESET), POWER_OFF));
  let resets = 0;
  m.on('reset', () => resets++);
  await m.serial[0]!.waitFor('123');
  expect(await m.exit).toMatchObject({ reason: 'shutdown' });
  expect(resets).toBe(2);
});

test('a reset by the host, while the guest spins with interrupts off', async () => {
  await using m = await machine(kernel(COUNT_BOOTS, SPIN));
  await m.serial[0]!.waitFor('1');
  await m.reset();
  await m.serial[0]!.waitFor('2');
});

test('a reset by the host, while all vCPUs of one thread are halted', async () => {
  const accel = { thread: 'single', jit: false } as const;
  await using m = await machine(kernel(COUNT_BOOTS, HLT_FOREVER), { smp: 2, accel });
  await m.serial[0]!.waitFor('1');
  // time for the HLT
  await new Promise((resolve) => setTimeout(resolve, 100));
  await m.reset();
  await m.serial[0]!.waitFor('2');
});

test('code that a reset replaces is decoded afresh', async () => {
  const before = [COUNT_BOOTS, onBoot(1, writeByte(0, 0))];
  const printed = addressAfter(...before) + 5; // operand of MOV AL in print('a')
  const code = [
    COUNT_BOOTS,
    onBoot(1, writeByte(printed, 'b'.charCodeAt(0))),
    print('a'),
    onBoot(1, RESET),
    POWER_OFF,
  ];
  await using m = await machine(kernel(...code));
  expect(await m.serial[0]!.waitFor('2a')).toBe('1b2a');
});

test.each([
  ['a reset', RESET, 'reset'],
  ['a triple fault', TRIPLE_FAULT, 'reset'],
])('%s ends the machine when resets do', async (_name, code, reason) => {
  await using m = await machine(kernel(code), { actions: { reboot: 'shutdown' } });
  expect(await m.exit).toEqual({ reason, status: 0 });
});

test('a triple fault resets the machine, and the log shows the registers', async () => {
  const file = join(directory, 'triple.log');
  const code = kernel(COUNT_BOOTS, onBoot(1, TRIPLE_FAULT), POWER_OFF);
  await using m = await machine(code, { log: { items: ['cpu_reset', 'int'], file } });
  await m.serial[0]!.waitFor('12');
  await m.exit;
  const log = readFileSync(file, 'utf8');
  expect(log).toMatch(/^Triple fault\nEAX=2badb031 EBX=/m);
  expect(log).toMatch(/^CS =0008 00000000 ffffffff 00cf9[ab]00 DPL=0 CS32 \[-RA?-?\]$/m);
  expect(log).toMatch(/v=0d e=001a i=0 cpl=0 IP=0008:00000000001000[0-9a-f]{2}/);
  expect(log.match(/^CPU Reset \(CPU 0\)$/gm)).toHaveLength(2);
});

test('isa-debug-exit gives its status, whatever the other actions say', async () => {
  const devices = ['isa-debug-exit,iobase=0xf4,iosize=1'];
  await using m = await machine(kernel(outb(0xf4, 0x10), SPIN), { devices, actions: { shutdown: 'pause' } });
  expect(await m.exit).toEqual({ reason: 'debug-exit', status: 33 });
});

test('a debug console is a stream of its own', async () => {
  const devices = ['isa-debugcon,chardev=c'].map(() => ({
    driver: 'isa-debugcon' as const,
    iobase: 0x402,
    readback: 0xe9,
    backend: { type: 'null' as const },
  }));
  const hello = [...'hello'].map((c) => outb(0x402, c.charCodeAt(0)));
  await using m = await machine(kernel(...hello, HLT_FOREVER), { devices });
  await m.debugConsoles[0].waitFor('hello');
});

test.each([
  ['shutdown', { reason: 'panic', status: 0 }],
  ['exit-failure', { reason: 'panic', status: 1 }],
] as const)('a panic with action %s ends the machine', async (panic, exit) => {
  await using m = await machine(kernel(outb(0x505, 1), SPIN), { devices: ['pvpanic'], actions: { panic } });
  const panicked = once(m, 'panic');
  expect(await m.exit).toEqual(exit);
  await panicked;
});

test('a panic can pause the machine, or do nothing; other events of the device are not panics', async () => {
  const code = kernel(outb(0x505, 2), print('crash kernel'), outb(0x505, 1), print('on'), HLT_FOREVER);
  const none = await machine(code, { devices: ['pvpanic'], actions: { panic: 'none' } });
  const panicked = once(none, 'panic');
  await none.serial[0]!.waitFor('on');
  await panicked;
  await none.quit();
  await using pause = await machine(code, { devices: ['pvpanic'], actions: { panic: 'pause' } });
  await once(pause, 'panic');
  await pause.pause();
  expect(pause.state).toBe('paused');
  await pause.resume();
  await pause.serial[0]!.waitFor('on');
});

test('with shutdown: pause the machine stays, can be reset and goes on', async () => {
  const code = kernel(COUNT_BOOTS, onBoot(1, POWER_OFF), HLT_FOREVER);
  await using m = await machine(code, { actions: { shutdown: 'pause' } });
  await once(m, 'shutdown');
  expect(m.state).toBe('shutdown');
  await expect(m.resume()).rejects.toMatchObject({ code: 'ERR_MACHINE_STATE' });
  await m.reset();
  expect(m.state).toBe('paused');
  await m.resume();
  await m.serial[0]!.waitFor('2');
});

test('quit ends any guest, again and again, and what comes after is refused', async () => {
  const m = await machine(kernel(SPIN), { smp: 2 });
  await Promise.all([m.quit(), m.quit()]);
  await m.quit();
  expect(await m.exit).toEqual({ reason: 'quit', status: 0 });
  await expect(m.pause()).rejects.toMatchObject({ code: 'ERR_MACHINE_ENDED' });
  m.powerdown();
  m.serial[0]!.type('nobody is there\n');
});

test('an abort ends the machine, during creation too', async () => {
  const early = AbortSignal.abort(new Error('too early'));
  await expect(machine(kernel(SPIN), { signal: early })).rejects.toThrow('too early');
  const during = new AbortController();
  const creation = machine(kernel(SPIN), { signal: during.signal });
  setTimeout(() => during.abort(new Error('meanwhile')), 20);
  await expect(creation).rejects.toThrow('meanwhile');
  const later = new AbortController();
  const m = await machine(kernel(SPIN), { signal: later.signal });
  later.abort();
  expect(await m.exit).toMatchObject({ reason: 'quit' });
});

test('accesses to addresses where nothing is are logged on request', async () => {
  const file = join(directory, 'errors.log');
  await using m = await machine(kernel(read(0xd0000000), POWER_OFF), {
    log: { items: ['guest_errors'], file },
  });
  await m.exit;
  const line = "Invalid read at addr 0xD0000000, size 4, region '(null)', reason: rejected\n";
  expect(readFileSync(file, 'utf8')).toBe(line);
});

// --- serial ports ---

test('what is written comes to the guest, however much at once, and back as a stream', async () => {
  await using m = await machine(kernel(ECHO));
  const port = m.serial[0]!;
  const data = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) & 255);
  let received = Buffer.alloc(0);
  const all = new Promise<void>((resolve) => {
    port.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length >= data.length) resolve();
    });
  });
  Readable.from([data.subarray(0, 10), data.subarray(10)]).pipe(port, { end: false });
  await all;
  expect(received.equals(data)).toBe(true);
}, 30_000);

test('type ends lines as the Enter key does, and waitFor takes the output piece by piece', async () => {
  await using m = await machine(kernel(print('ready> '), ECHO));
  const port = m.serial[0]!;
  expect(await port.waitFor(/> $/)).toBe('ready> ');
  port.type('one\ntwo\n');
  expect(await port.waitFor('one')).toBe('one');
  expect(await port.waitFor(/tw(o)\r/g)).toBe('\rtwo\r');
});

test('waitFor gives up after its time or with the machine, naming pattern and output', async () => {
  await using m = await machine(kernel(print('so far'), ECHO));
  const port = m.serial[0]!;
  await expect(port.waitFor('never', { timeout: 300 })).rejects.toMatchObject({
    code: 'ERR_SERIAL_TIMEOUT',
    message: '300 ms passed before never came; the output ends with "so far"',
  });
  const waiting = expect(port.waitFor(/never/)).rejects.toMatchObject({ code: 'ERR_SERIAL_CLOSED' });
  await m.quit();
  await waiting;
  await expect(port.waitFor('late')).rejects.toMatchObject({ code: 'ERR_SERIAL_CLOSED' });
});

test('a late reader gets what was said before, and the end of the stream at the end', async () => {
  await using m = await machine(kernel(print('early '), print('late'), POWER_OFF));
  await m.exit;
  const chunks = await Readable.from(m.serial[0]!).toArray();
  expect(Buffer.concat(chunks).toString()).toBe('early late');
});

test('a reader that does not keep up makes the guest wait; nothing is lost', async () => {
  await using m = await machine(kernel(CHATTER));
  const port = m.serial[0]!;
  port.once('readable', () => {});
  await settled(300);
  // the stream's buffer and the ring are full, and no more
  expect(port.readableLength).toBeLessThan(300_000);
  let bytes = 0;
  for await (const chunk of port) {
    bytes += (chunk as Buffer).length;
    if (bytes > 500_000) break;
  }
  expect(bytes).toBeGreaterThan(500_000);
}, 30_000);

test('a file gets all that its port said', async () => {
  const file = join(directory, 'com1.txt');
  const other = join(directory, 'com2.txt');
  writeFileSync(other, 'kept ');
  const serial = [`file:${file}`, { type: 'file', path: other, append: true }] as const;
  const text = 'x'.repeat(1000);
  await using m = await machine(
    kernel(print(text), ...[...'two'].map((c) => outb(0x2f8, c.charCodeAt(0))), POWER_OFF),
    {
      serial,
    },
  );
  await m.exit;
  expect(readFileSync(file, 'utf8')).toBe(text);
  expect(readFileSync(other, 'utf8')).toBe('kept two');
});

test('a port that is not there is undefined, and reads as nothing to the guest', async () => {
  await using m = await machine(kernel(print('?'), POWER_OFF), { serial: [null, 'null'] });
  expect(m.serial.map((port) => port !== undefined)).toEqual([false, true, false, false]);
  await m.exit;
});

// --- mistakes ---

test.each<[string, MachineCreateOptions, string, string]>([
  ['no such kernel', { kernel: '/nonexistent' }, 'ERR_BOOT_FILE', '-kernel: /nonexistent: no such file'],
  ['no kernel', { kernel: Uint8Array.of(1, 2, 3) }, 'ERR_BOOT_FORMAT', '-kernel: not a kernel'],
  ['a large initrd', { initrd: new Uint8Array(9 << 20) }, 'ERR_BOOT_MEMORY', '-initrd: '],
  ['a CPU feature', { cpu: 'max,+warp' }, 'ERR_OPTION_VALUE', "-cpu max,+warp: Property '.warp' not found"],
  ['little memory', { memory: '1M' }, 'ERR_OPTION_VALUE', '-m 1M: at least 2M'],
  ['bytes without unit', { memory: 512 }, 'ERR_OPTION_VALUE', '-m 512b: at least 2M'],
  ['no vCPU', { smp: 0 }, 'ERR_OPTION_VALUE', '-smp 0: cpus must be at least 1'],
  ['a bad topology', { smp: { cpus: 4, cores: 3 } }, 'ERR_OPTION_VALUE', '-smp cpus=4,cores=3: '],
  [
    'five ports',
    { serial: ['null', 'null', 'null', 'null', 'null'] },
    'ERR_OPTION_VALUE',
    '-serial: a PC has 4',
  ],
  [
    'a file in no directory',
    { serial: ['file:/nonexistent/a'] },
    'ERR_OPTION_VALUE',
    '-serial /nonexistent/a: no such',
  ],
  [
    'a log in no directory',
    { log: { items: [], file: '/nonexistent/a' } },
    'ERR_OPTION_VALUE',
    '-D /nonexistent/a: ',
  ],
  [
    'a taken port',
    { devices: ['isa-debug-exit,iobase=0x3f8'] },
    'ERR_OPTION_VALUE',
    '-device: port 0x3f8 is taken',
  ],
  ['a wrong type', { cpu: 5 as unknown as string }, 'ERR_OPTION_VALUE', '-cpu 5: must be text or an object'],
  [
    'a bad action',
    { actions: { panic: 'no' as 'none' } },
    'ERR_OPTION_VALUE',
    '-action panic=no: panic must be',
  ],
])(
  '%s is refused, with the option and the reason, before any thread starts',
  async (_, options, code, message) => {
    const creation = machine(kernel(SPIN), options);
    await expect(creation).rejects.toMatchObject({
      code,
      message: expect.stringMatching(`^${RegExp.escape(message)}`),
    });
    expect(process.getActiveResourcesInfo().filter((name) => name === 'MessagePort').length).toBeLessThan(2);
  },
);

test('a machine is an event emitter and is disposed of asynchronously', async () => {
  const m = await machine(kernel(SPIN));
  expect(m).toBeInstanceOf(EventEmitter);
  await m[Symbol.asyncDispose]();
  expect(m.state).toBe('ended');
});
