import fc from 'fast-check';
import { expect, test } from 'vitest';
import { OPTIONS } from '../../src/cli/option-table.ts';
import { parseDate } from '../../src/cli/option-values.ts';
import { helpText, OptionError, parseCommandLine, parseOptions } from '../../src/cli/options.ts';

function message(...args: string[]): string {
  try {
    parseCommandLine(args);
  } catch (error) {
    if (error instanceof OptionError) return `smp86: ${error.message}`;
    throw error;
  }
  return 'no error';
}

function printed(...args: string[]): string {
  const command = parseCommandLine(args);
  if (command.action !== 'print') throw new Error('nothing printed');
  return command.text;
}

test('without options the machine has the defaults of a small pc', () => {
  expect(parseOptions([])).toEqual({
    machine: { type: 'pc', hpet: true, acpi: true },
    accel: { thread: 'multi', jit: true },
    cpu: { model: 'qemu64', features: {} },
    smp: { cpus: 1, sockets: 1, cores: 1, threads: 1, maxcpus: 1 },
    memory: 128 * 2 ** 20,
    serial: [{ type: 'null' }],
    objects: [],
    blockdevs: [],
    drives: [],
    devices: [],
    rtc: { base: { type: 'utc' }, clock: 'host', driftfix: 'none' },
    actions: { reboot: 'reset', shutdown: 'poweroff', panic: 'shutdown' },
    log: { items: [] },
  });
});

test('the options survive JSON', () => {
  const options = parseOptions(
    [
      '-kernel k -initrd i -append a -smp 3 -serial none -serial file:x -rtc base=2020-01-02 -d int -D log -name n',
    ]
      .join()
      .split(' '),
  );
  expect(JSON.parse(JSON.stringify(options))).toEqual(options);
});

test('one dash or two introduce an option', () => {
  expect(parseOptions(['--smp', '2', '-m', '1G'])).toMatchObject({ smp: { cpus: 2 }, memory: 2 ** 30 });
});

test.each([
  ['4', [4, 1, 4, 1, 4]],
  ['cpus=2,maxcpus=6', [2, 1, 6, 1, 6]],
  ['4,sockets=2', [4, 2, 2, 1, 4]],
  ['8,cores=2,threads=2', [8, 2, 2, 2, 8]],
  ['sockets=2,cores=3', [6, 2, 3, 1, 6]],
  ['8,sockets=2,cores=2', [8, 2, 2, 2, 8]],
  ['threads=2', [2, 1, 1, 2, 2]],
  ['4,dies=1,clusters=1', [4, 1, 4, 1, 4]],
  ['64', [64, 1, 64, 1, 64]],
  ['0x10', [16, 1, 16, 1, 16]],
])('-smp %s gives the topology of QEMU 7.2', (text, [cpus, sockets, cores, threads, maxcpus]) => {
  expect(parseOptions(['-smp', text]).smp).toEqual({ cpus, sockets, cores, threads, maxcpus });
});

test('repeated -smp adds its keys, and the last of each counts', () => {
  expect(parseOptions(['-smp', '2', '-smp', '4,threads=2']).smp).toMatchObject({
    cpus: 4,
    threads: 2,
    cores: 2,
  });
});

test.each([
  ['256', 256 * 2 ** 20],
  ['256M', 256 * 2 ** 20],
  ['1.5G', 1.5 * 2 ** 30],
  ['2097152k', 2 ** 31],
  ['size=3g', 3 * 2 ** 30],
  ['2097153b', 2 ** 21 + 8192],
  ['0x40', 64 * 2 ** 20],
])('-m %s is understood, and rounded up to 8 KiB', (text, bytes) => {
  expect(parseOptions(['-m', text]).memory).toBe(bytes);
});

test.each([
  [['-smp', '0'], 'smp86: -smp 0: cpus must be at least 1'],
  [['-smp', '65'], 'smp86: -smp 65: cpus must be at most 64'],
  [['-smp', 'x'], "smp86: -smp x: cpus must be a number, not 'x'"],
  [['-smp', '4,cores=3'], 'smp86: -smp 4,cores=3: sockets (1) * cores (3) * threads (1) must be maxcpus (4)'],
  [['-smp', '4,maxcpus=2'], 'smp86: -smp 4,maxcpus=2: maxcpus (2) must not be less than cpus (4)'],
  [['-smp', '4,dies=2'], 'smp86: -smp 4,dies=2: dies other than 1 is not supported'],
  [['-smp', '4,books=2'], /^smp86: -smp 4,books=2: unknown parameter 'books'/],
  [['-smp', 'sockets=9,cores=9'], 'smp86: -smp sockets=9,cores=9: at most 64 CPUs'],
  [['-m', '0'], 'smp86: -m 0: at least 2M'],
  [['-m', '3073M'], 'smp86: -m 3073M: at most 3G'],
  [['-m', 'much'], /^smp86: -m much: the size must be a number/],
  [['-m', '-1'], /^smp86: -m -1: the size must be a number/],
  [['-m', '1G,slots=2,maxmem=4G'], 'smp86: -m 1G,slots=2,maxmem=4G: memory hotplug is not supported'],
  [['-m'], 'smp86: -m: requires a value'],
  [['-kernel', ''], 'smp86: -kernel : the file name is empty'],
  [['-initrd', 'i'], 'smp86: -initrd i: only allowed with -kernel'],
  [['-append', 'a'], 'smp86: -append a: only allowed with -kernel'],
  [['-serial', 'pty'], /^smp86: -serial pty: not yet supported/],
  [['-serial', 'tcp::1234'], /^smp86: -serial tcp::1234: not yet supported/],
  [['-serial', 'foo'], /^smp86: -serial foo: unknown character device/],
  [['-serial', 'file:'], 'smp86: -serial file:: a path must follow file:'],
  [['-serial', 'chardev:x'], "smp86: -serial chardev:x: no -chardev has id 'x'"],
  [['-nographic', '-debugcon', 'stdio'], /stdio can serve one device only$/],
  [['-accel', 'kvm'], "smp86: -accel kvm: accelerator 'kvm' does not exist here, only tcg"],
  [['-accel', 'tcg,tb-size=0'], 'smp86: -accel tcg,tb-size=0: tb-size must be from 1 to 1024'],
  [['-accel', 'tcg,thread=both'], "smp86: -accel tcg,thread=both: thread must be multi, single, not 'both'"],
  [['-cpu', 'Skylake'], "smp86: -cpu Skylake: unknown CPU model 'Skylake' (known: qemu64, max)"],
  [['-cpu', 'max,+'], "smp86: -cpu max,+: '+' is no feature: use +NAME, -NAME or NAME=on|off"],
  [['-machine', 'q35'], "smp86: -machine q35: machine 'q35' is not supported, only pc"],
  [['-M', 'pc,foo=1'], /^smp86: -M pc,foo=1: unknown parameter 'foo'/],
  [['-rtc', 'base=yesterday'], /^smp86: -rtc base=yesterday: base must be utc, localtime, or a date/],
  [['-rtc', 'clock=sun'], "smp86: -rtc clock=sun: clock must be host, rt, vm, not 'sun'"],
  [['-monitor', 'stdio'], 'smp86: -monitor stdio: there is no monitor yet, only none'],
  [['-display', 'gtk'], 'smp86: -display gtk: not yet supported, only none'],
  [['-S'], 'smp86: -S: not yet supported'],
  [['-frobnicate'], 'smp86: -frobnicate: unknown option (see -help)'],
  [['-constructor'], 'smp86: -constructor: unknown option (see -help)'],
  [['-d', 'int,foo'], "smp86: -d int,foo: unknown log item 'foo' (see -d help)"],
  [['-d', 'out_asm'], "smp86: -d out_asm: 'out_asm' is not yet supported"],
  [['-dfilter', '0x10'], "smp86: -dfilter 0x10: '0x10' is no range (START+LENGTH, END-LENGTH, FIRST..LAST)"],
  [['-dfilter', '5..4'], "smp86: -dfilter 5..4: '5..4' is an empty range"],
  [['-dfilter', '1+0'], "smp86: -dfilter 1+0: '1+0' is an empty range"],
  [['-dfilter', '1..2..'], "smp86: -dfilter 1..2..: '2..' in '1..2..' is no address"],
  [['-dfilter', 'x+1'], "smp86: -dfilter x+1: 'x' in 'x+1' is no address"],
  [['-device', 'e1000'], "smp86: -device e1000: device 'e1000' does not exist here (see -device help)"],
  [['-device', 'isa-debug-exit,iobase=70000'], /iobase must be from 0 to 65535$/],
  [['-device', 'isa-debugcon'], 'smp86: -device isa-debugcon: chardev=ID is missing'],
  [['-chardev', 'null,id=a', '-chardev', 'null,id=a'], "smp86: -chardev null,id=a: id 'a' is used twice"],
  [['-action', 'reboot=never'], "smp86: -action reboot=never: reboot must be reset, shutdown, not 'never'"],
  [['-boot', 'order=cc'], /order must be different letters/],
])('%j is refused in one line', (args, expected) => {
  if (typeof expected === 'string') expect(message(...args)).toBe(expected);
  else expect(message(...args)).toMatch(expected);
});

test('a line break in a value does not break the line', () => {
  expect(message('-m', 'a\nb')).toMatch(/^smp86: -m a\\x0ab: [^\n]*$/);
});

test('-nographic puts the first serial port on the terminal, Ctrl-C going to the guest', () => {
  expect(parseOptions(['-nographic']).serial).toEqual([{ type: 'stdio', mux: true, signal: false }]);
});

test('-serial overrides -nographic, and adds up to four ports', () => {
  const args = [
    '-nographic',
    '-serial',
    'null',
    '-serial',
    'stdio',
    '-serial',
    'none',
    '-serial',
    'file:a,b',
  ];
  expect(parseOptions(args).serial).toEqual([
    { type: 'null' },
    { type: 'stdio', mux: false, signal: true },
    null,
    { type: 'file', path: 'a,b', append: false },
  ]);
  expect(message(...args, '-serial', 'null')).toBe('smp86: -serial: a PC has 4 serial ports');
});

test('-nodefaults leaves no serial port', () => {
  expect(parseOptions(['-nodefaults']).serial).toEqual([]);
});

test('the first accelerator that exists is taken', () => {
  expect(parseOptions(['-accel', 'kvm', '-accel', 'tcg,thread=single,jit=off']).accel).toEqual({
    thread: 'single',
    jit: false,
  });
  expect(parseOptions(['-machine', 'pc,accel=kvm:tcg']).accel.thread).toBe('multi');
  expect(parseOptions(['-accel', 'tcg,tb-size=64']).accel).toEqual({
    thread: 'multi',
    jit: true,
    'tb-size': 64,
  });
});

test('icount has its shift, and one thread for all vCPUs', () => {
  expect(parseOptions(['-icount', '3'])).toMatchObject({
    icount: { shift: 3, align: false, sleep: true },
    accel: { thread: 'single', jit: false },
  });
  expect(parseOptions(['-icount', 'shift=auto', '-accel', 'tcg'])).toMatchObject({
    icount: { shift: 'auto', align: false, sleep: true },
    accel: { thread: 'single' },
  });
  expect(parseOptions(['-icount', 'shift=0,align=on']).icount).toEqual({
    shift: 0,
    align: true,
    sleep: true,
  });
  expect(parseOptions(['-icount', 'shift=10,sleep=off']).icount).toEqual({
    shift: 10,
    align: false,
    sleep: false,
  });
  expect(parseOptions(['-accel', 'tcg,thread=multi'])).not.toHaveProperty('icount');
});

test.each([
  ['shift=11', 'shift must be from 0 to 10'],
  ['shift=-1', "shift must be a number, not '-1'"],
  ['shift=foo', "shift must be a number, not 'foo'"],
  ['align=on', 'shift=N or shift=auto is missing'],
  ['shift=1,align=on,sleep=off', 'align=on and sleep=off are incompatible'],
  ['shift=auto,align=on', 'shift=auto and align=on are incompatible'],
  ['shift=auto,sleep=off', 'shift=auto and sleep=off are incompatible'],
  ['shift=1,foo=bar', "unknown parameter 'foo' (known: shift, align, sleep)"],
  ['shift=1,rr=record,rrfile=x', 'rr= (record and replay) is not yet supported'],
  ['shift=1,rrfile=x', 'rrfile= (record and replay) is not yet supported'],
])('-icount %s is refused', (text, reason) => {
  expect(message('-icount', text)).toBe(`smp86: -icount ${text}: ${reason}`);
});

test('icount goes neither with thread=multi nor with tier 1', () => {
  for (const args of [
    ['-icount', '1', '-accel', 'tcg,thread=multi'],
    ['-accel', 'tcg,thread=multi', '-icount', '1'],
  ]) {
    expect(message(...args)).toBe('smp86: -accel tcg,thread=multi: icount needs thread=single');
  }
  expect(message('-icount', '1', '-accel', 'tcg,jit=on')).toBe(
    'smp86: -accel tcg,jit=on: icount and jit=on are incompatible',
  );
});

test('the seed is a number of 64 bits', () => {
  expect(parseOptions(['-seed', '0x10']).seed).toBe('16');
  expect(parseOptions(['-seed', '18446744073709551615']).seed).toBe('18446744073709551615');
  for (const text of ['foo', '-1', '18446744073709551616', '']) {
    expect(message('-seed', text)).toBe(`smp86: -seed ${text}: must be a number below 2^64`);
  }
});

test('CPU features are switched by sign or value; minus wins over plus, plus over =', () => {
  const { cpu } = parseOptions(['-cpu', 'max,-a,+a,b=off,+b,c=on,c=off,D_1']);
  expect(cpu).toEqual({ model: 'max', features: { a: false, b: true, c: false, 'd-1': true } });
});

test('machine switches have short forms', () => {
  expect(parseOptions(['-no-hpet', '-no-acpi']).machine).toEqual({ type: 'pc', hpet: false, acpi: false });
  expect(parseOptions(['-M', 'hpet=off', '-M', 'pc']).machine.hpet).toBe(false);
  expect(parseOptions(['-no-reboot', '-no-shutdown']).actions).toMatchObject({
    reboot: 'shutdown',
    shutdown: 'pause',
  });
  expect(parseOptions(['-action', 'reboot=shutdown,panic=none']).actions).toMatchObject({ panic: 'none' });
});

test('the RTC starts at a date, in UTC', () => {
  expect(parseOptions(['-rtc', 'base=2006-06-17T16:01:21,clock=vm,driftfix=none']).rtc).toEqual({
    base: { type: 'date', seconds: 1_150_560_081 },
    clock: 'vm',
    driftfix: 'none',
  });
  expect(parseOptions(['-rtc', 'localtime']).rtc.base).toEqual({ type: 'localtime' });
});

test('dates that do not exist are refused', () => {
  expect(parseDate('2023-02-29')).toBeUndefined();
  expect(parseDate('2024-02-29')).toBe(1_709_164_800);
  expect(parseDate('2024-01-01T24:00:00')).toBeUndefined();
  expect(parseDate('2024-13-01')).toBeUndefined();
  expect(parseDate('24-01-01')).toBeUndefined();
});

test('devices have the ports of QEMU and find their chardev wherever it stands', () => {
  const args = ['-device', 'isa-debug-exit', '-device', 'isa-debugcon,iobase=0x402,chardev=c'];
  expect(parseOptions([...args, '-chardev', 'file,id=c,path=log']).devices).toEqual([
    { driver: 'isa-debug-exit', iobase: 0x501, iosize: 2 },
    {
      driver: 'isa-debugcon',
      iobase: 0x402,
      readback: 0xe9,
      backend: { type: 'file', path: 'log', append: false },
    },
  ]);
});

test('a doubled comma stands for one', () => {
  expect(parseOptions(['-name', 'a,,b']).name).toBe('a,b');
});

test('the last of a repeated option counts', () => {
  expect(parseOptions(['-kernel', 'a', '-kernel', 'b', '-append', 'x', '-append', 'y'])).toMatchObject({
    kernel: 'b',
    append: 'y',
  });
});

test('help comes from the table, and lists are printed on request', () => {
  const help = printed('-h');
  expect(help).toBe(helpText());
  for (const { name, help: text } of OPTIONS) {
    if (text !== undefined) expect(help).toMatch(new RegExp(`^-${name}\\b`, 'm'));
  }
  expect(printed('-smp', '2', '--help')).toBe(help);
  expect(printed('-version')).toMatch(/^smp86 version \d+\.\d+\.\d+\n$/);
  expect(printed('-cpu', 'help')).toMatch(/qemu64/);
  expect(printed('-machine', 'help')).toMatch(/pc/);
  expect(printed('-accel', 'help')).toMatch(/tcg/);
  expect(printed('-d', 'help')).toMatch(/int/);
  expect(printed('-device', 'help')).toMatch(/isa-debug-exit/);
});

test('whatever is given, the answer is options, a text or a one-line OptionError', () => {
  const names = OPTIONS.flatMap(({ name, aliases }) => [name, ...(aliases ?? [])]).map((name) => `-${name}`);
  const words = [
    'on',
    'off',
    'help',
    'pc',
    '1',
    '2',
    'stdio',
    'none',
    'null',
    'id=a',
    '=',
    ',',
    ',,',
    'a=b',
    '\0',
  ];
  const word = fc.oneof(fc.constantFrom(...names), fc.constantFrom(...words), fc.string());
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), (args) => {
      expect(message(...args)).not.toContain('\n');
    }),
    { numRuns: 3000 },
  );
});

test('-dfilter takes ranges as QEMU does', () => {
  const options = parseOptions([
    '-d',
    'in_asm,nochain',
    '-dfilter',
    '0x1000+0x20,0x2000-16,1..0xffffffffffffffff',
  ]);
  expect(options.log).toEqual({
    items: ['in_asm', 'nochain'],
    filter: [
      { first: 0x1000n, last: 0x101fn },
      { first: 0x1ff1n, last: 0x2000n },
      { first: 1n, last: 0xffffffffffffffffn },
    ],
  });
});
