/** The options of the command: one table from which parsing and the help text follow. */
import {
  type CharBackend,
  CPU_MODELS,
  MAX_CPUS,
  MAX_MEMORY,
  MIN_MEMORY,
} from '../machine/machine-options.ts';
import { MAX_SHIFT } from '../timer/icount.ts';
import { type BackendReference, type OptionBuilder, SMP_KEYS } from './option-builder.ts';
import { DRIVE_OPTIONS, parseIde, parseVirtioBlk } from './option-drives.ts';
import { applyLog, applyLogFilter } from './option-log.ts';
import { type Argument, describe, parseDate, type Printed, splitCommas } from './option-values.ts';

export interface OptionSpec {
  readonly name: string;
  readonly aliases?: readonly string[];
  /** The value's syntax for the help text; absent when the option takes none. */
  readonly argument?: string;
  /** One line, or several. Absent: not shown. */
  readonly help?: string;
  /** Applies the option. `argument.text` is empty for an option without value. */
  readonly apply: (builder: OptionBuilder, argument: Argument) => Printed | void;
}

const MACHINES = { pc: 'Standard PC (i440FX + PIIX, 1996)' };
const ACCELERATORS = { tcg: 'translation of x86 code to WebAssembly' };
const DEVICES = {
  'isa-debug-exit': 'a write of N ends smp86 with exit status 2*N+1 (iobase=0x501, iosize=2)',
  pvpanic: 'a port by which a guest tells that it panicked (ioport=0x505); see -action panic=',
  'isa-debugcon': 'a port that prints what is written to it (iobase=0xe9, chardev=ID, readback=0xe9)',
  'virtio-blk-pci':
    'virtio disk (drive=NAME, iothread=NAME, num-queues=N, queue-size=256, serial=TEXT, addr=SLOT)',
  'ide-hd': 'IDE disk (drive=NAME, bus=ide.0|ide.1, unit=0|1, serial=TEXT, model=TEXT)',
  'ide-cd': 'ATAPI CD-ROM drive (as ide-hd)',
};

/** The host side in the short form of -serial and -debugcon. */
function parseBackend(argument: Argument): BackendReference {
  const { text } = argument;
  if (text === 'none') return { backend: null };
  if (text === 'null') return { backend: { type: 'null' } };
  if (text === 'stdio') return { backend: { type: 'stdio', mux: false, signal: true } };
  if (text === 'mon:stdio') return { backend: { type: 'stdio', mux: true, signal: false } };
  if (text.startsWith('file:')) {
    const path = text.slice('file:'.length);
    if (path === '') throw argument.bad('a path must follow file:');
    return { backend: { type: 'file', path, append: false } };
  }
  if (text.startsWith('chardev:')) return { chardev: text.slice('chardev:'.length), argument };
  const kind = text.split(':', 1)[0];
  if (['pty', 'vc', 'mon', 'msmouse', 'pipe', 'tcp', 'telnet', 'udp', 'unix', 'ws'].includes(kind)) {
    throw argument.unsupported('not yet supported: use stdio, mon:stdio, file:PATH, null or none');
  }
  throw argument.bad('unknown character device: use stdio, mon:stdio, file:PATH, null or none');
}

function applyAccel(builder: OptionBuilder, argument: Argument): Printed | void {
  const list = argument.list('accel');
  const name = list.get('accel') ?? '';
  if (name === 'help') return describe('Accelerators:', ACCELERATORS);
  if (name === 'tcg') argument.refuseOthers(list, ['accel', 'thread', 'jit', 'tb-size']);
  const thread = list.get('thread');
  const jit = list.get('jit');
  const size = list.get('tb-size');
  const threads = ['multi', 'single'] as const;
  builder.accels.push({
    argument,
    name,
    thread: thread === undefined ? undefined : argument.choose('thread', thread, threads),
    jit: jit === undefined ? undefined : argument.switch('jit', jit),
    size: size === undefined ? undefined : argument.integer('tb-size', size, 1, 1024),
  });
}

function applyIcount(builder: OptionBuilder, argument: Argument): void {
  const list = argument.list('shift');
  for (const key of ['rr', 'rrfile', 'rrsnapshot']) {
    if (list.has(key)) throw argument.unsupported(`${key}= (record and replay) is not yet supported`);
  }
  argument.refuseOthers(list, ['shift', 'align', 'sleep']);
  const text = list.get('shift');
  if (text === undefined) throw argument.bad('shift=N or shift=auto is missing');
  const shift = text === 'auto' ? text : argument.integer('shift', text, 0, MAX_SHIFT);
  const align = argument.switch('align', list.get('align') ?? 'off');
  const sleep = argument.switch('sleep', list.get('sleep') ?? 'on');
  if (align && !sleep) throw argument.bad('align=on and sleep=off are incompatible');
  if (shift === 'auto' && align) throw argument.bad('shift=auto and align=on are incompatible');
  if (shift === 'auto' && !sleep) throw argument.bad('shift=auto and sleep=off are incompatible');
  builder.icount = { shift, align, sleep };
}

function applySeed(builder: OptionBuilder, argument: Argument): void {
  const { text } = argument;
  if (!/^(\d+|0[xX][0-9a-fA-F]+)$/.test(text) || BigInt(text) >= 1n << 64n) {
    throw argument.bad('must be a number below 2^64');
  }
  builder.seed = String(BigInt(text));
}

function applyMachine(builder: OptionBuilder, argument: Argument): Printed | void {
  const list = argument.list('type');
  const type = list.get('type') ?? 'pc';
  if (type === 'help' || type === '?') return describe('Machines:', MACHINES);
  if (type !== 'pc') {
    if (/^(pc-|q35|microvm|isapc)/.test(type)) {
      throw argument.unsupported(`machine '${type}' is not supported, only pc`);
    }
    throw argument.bad(`unknown machine '${type}', only pc`);
  }
  argument.refuseOthers(list, ['type', 'hpet', 'acpi', 'accel', 'usb', 'graphics', 'vmport']);
  for (const [key, value] of list) {
    switch (key) {
      case 'hpet':
        builder.hpet = argument.switch(key, value);
        break;
      case 'acpi':
        builder.acpi = argument.switch(key, value);
        break;
      case 'accel':
        // A list of names, first choice first.
        for (const name of value.split(':')) {
          builder.accels.push({ argument, name });
        }
        break;
      case 'usb':
      case 'vmport':
        if (argument.switch(key, value)) throw argument.unsupported(`${key}=on is not yet supported`);
        break;
      case 'graphics':
        builder.noGraphic ||= !argument.switch(key, value);
        break;
    }
  }
}

function applyCpu(builder: OptionBuilder, argument: Argument): Printed | void {
  const [model, ...items] = splitCommas(argument.text);
  if (model === 'help' || model === '?') return describe('CPU models:', CPU_MODELS);
  if (!Object.hasOwn(CPU_MODELS, model)) {
    throw argument.bad(`unknown CPU model '${model}' (known: ${Object.keys(CPU_MODELS).join(', ')})`);
  }
  // +NAME wins over NAME=off, and -NAME over both, wherever they stand.
  const features: Record<string, boolean> = {};
  const plus: Record<string, boolean> = {};
  const minus: Record<string, boolean> = {};
  const properties: Record<string, string> = {};
  for (const item of items) {
    const property = /^(vendor|phys-bits|model-id)=(.*)$/.exec(item);
    if (property !== null) {
      properties[property[1]] = property[2];
      continue;
    }
    const match = /^(?:([+-])([a-z0-9][a-z0-9_.-]*)|([a-z0-9][a-z0-9_.-]*)(?:=(\w+))?)$/i.exec(item);
    if (match === null) throw argument.bad(`'${item}' is no feature: use +NAME, -NAME or NAME=on|off`);
    const name = (match[2] ?? match[3]).toLowerCase().replaceAll('_', '-');
    if (match[1] === '+') plus[name] = true;
    else if (match[1] === '-') minus[name] = false;
    else features[name] = argument.switch(name, match[4] ?? 'on');
  }
  Object.assign(features, plus, minus);
  builder.cpu = { model: model as keyof typeof CPU_MODELS, features };
  if (Object.keys(properties).length > 0) builder.cpu.properties = properties;
}

function applySmp(builder: OptionBuilder, argument: Argument): void {
  const list = argument.list('cpus');
  argument.refuseOthers(list, SMP_KEYS);
  for (const key of SMP_KEYS) {
    const value = list.get(key);
    if (value === undefined) continue;
    const number = argument.integer(key, value, 0, 2 ** 31 - 1);
    if (number === 0) throw argument.bad(`${key} must be at least 1`);
    if ((key === 'dies' || key === 'clusters') && number !== 1) {
      throw argument.unsupported(`${key} other than 1 is not supported`);
    }
    if (number > MAX_CPUS) throw argument.bad(`${key} must be at most ${MAX_CPUS}`);
    builder.smp[key] = number;
  }
  builder.smpArgument = argument;
}

function applyMemory(builder: OptionBuilder, argument: Argument): void {
  const list = argument.list('size');
  if (list.has('slots') || list.has('maxmem')) throw argument.unsupported('memory hotplug is not supported');
  argument.refuseOthers(list, ['size']);
  const bytes = argument.size('the size', list.get('size') ?? '', 2 ** 20);
  const rounded = Math.ceil(bytes / 8192) * 8192;
  if (rounded < MIN_MEMORY) throw argument.bad('at least 2M');
  if (rounded > MAX_MEMORY) throw argument.bad('at most 3G');
  builder.memory = rounded;
}

function applyRtc(builder: OptionBuilder, argument: Argument): void {
  const list = argument.list('base');
  argument.refuseOthers(list, ['base', 'clock', 'driftfix']);
  const base = list.get('base') ?? 'utc';
  const clock = argument.choose('clock', list.get('clock') ?? 'host', ['host', 'rt', 'vm']);
  const driftfix = argument.choose('driftfix', list.get('driftfix') ?? 'none', ['none']);
  if (base === 'utc' || base === 'localtime') {
    builder.rtc = { base: { type: base }, clock, driftfix };
    return;
  }
  const seconds = parseDate(base);
  if (seconds === undefined) {
    throw argument.bad('base must be utc, localtime, or a date as 2006-06-17T16:01:21 or 2006-06-17');
  }
  builder.rtc = { base: { type: 'date', seconds }, clock, driftfix };
}

function applyAction(builder: OptionBuilder, argument: Argument): void {
  const list = argument.list();
  argument.refuseOthers(list, ['reboot', 'shutdown', 'panic', 'watchdog']);
  const { actions } = builder;
  for (const [key, value] of list) {
    switch (key) {
      case 'reboot':
        actions.reboot = argument.choose(key, value, ['reset', 'shutdown']);
        break;
      case 'shutdown':
        actions.shutdown = argument.choose(key, value, ['poweroff', 'pause']);
        break;
      case 'panic':
        actions.panic = argument.choose(key, value, ['pause', 'shutdown', 'exit-failure', 'none']);
        break;
      case 'watchdog':
        throw argument.unsupported('there is no watchdog device yet');
    }
  }
}

function applyDevice(builder: OptionBuilder, argument: Argument): Printed | void {
  const list = argument.list('driver');
  const driver = list.get('driver') ?? '';
  if (driver === 'help' || driver === '?') return describe('Devices:', DEVICES);
  const port = (key: string, preset: number): number =>
    argument.integer(key, list.get(key) ?? String(preset), 0, 0xffff);
  switch (driver) {
    case 'isa-debug-exit':
      argument.refuseOthers(list, ['driver', 'id', 'iobase', 'iosize']);
      builder.devices.push({
        driver,
        iobase: port('iobase', 0x501),
        iosize: argument.integer('iosize', list.get('iosize') ?? '2', 1, 8),
      });
      return;
    case 'isa-debugcon': {
      argument.refuseOthers(list, ['driver', 'id', 'iobase', 'chardev', 'readback']);
      const chardev = list.get('chardev');
      if (chardev === undefined) throw argument.bad('chardev=ID is missing');
      const readback = argument.integer('readback', list.get('readback') ?? '0xe9', 0, 0xffff_ffff);
      const reference = { chardev, argument };
      builder.devices.push({ driver, iobase: port('iobase', 0xe9), readback, reference });
      return;
    }
    case 'virtio-blk-pci':
      builder.devices.push({ driver: 'disk', argument, device: parseVirtioBlk(argument, list) });
      return;
    case 'ide-hd':
    case 'ide-cd':
      builder.devices.push({ driver: 'disk', argument, device: parseIde(argument, list) });
      return;
    case 'pvpanic':
      argument.refuseOthers(list, ['driver', 'id', 'ioport']);
      builder.devices.push({ driver, ioport: port('ioport', 0x505) });
      return;
    default:
      throw argument.unsupported(`device '${driver}' does not exist here (see -device help)`);
  }
}

function applyChardev(builder: OptionBuilder, argument: Argument): void {
  const list = argument.list('backend');
  const backend = argument.choose('the backend', list.get('backend') ?? '', ['stdio', 'file', 'null']);
  const known = { stdio: ['mux', 'signal'], file: ['path', 'append'], null: [] }[backend];
  argument.refuseOthers(list, ['backend', 'id', ...known]);
  const id = list.get('id');
  if (id === undefined || id === '') throw argument.bad('id=NAME is missing');
  if (builder.chardevs.has(id)) throw argument.bad(`id '${id}' is used twice`);
  let result: CharBackend;
  if (backend === 'null') result = { type: 'null' };
  else if (backend === 'stdio') {
    const mux = argument.switch('mux', list.get('mux') ?? 'off');
    result = { type: 'stdio', mux, signal: argument.switch('signal', list.get('signal') ?? 'on') };
  } else {
    const path = list.get('path') ?? '';
    if (path === '') throw argument.bad('path=FILE is missing');
    result = { type: 'file', path, append: argument.switch('append', list.get('append') ?? 'off') };
  }
  builder.chardevs.set(id, result);
}

function applyBoot(builder: OptionBuilder, argument: Argument): void {
  const list = argument.list('order');
  argument.refuseOthers(list, ['order', 'once', 'menu', 'strict', 'splash', 'splash-time', 'reboot-timeout']);
  const order = list.get('order') ?? '';
  if (!/^[a-p]*$/.test(order) || new Set(order).size !== order.length) {
    throw argument.bad(`order must be different letters from a to p, not '${order}'`);
  }
  builder.bootOrder = order;
}

/** An option that only takes the value that changes nothing. */
function onlyNone(argument: Argument): void {
  if (argument.text !== 'none') throw argument.unsupported('not yet supported, only none');
}

/** A value that names a file. */
function path(argument: Argument): string {
  if (argument.text === '') throw argument.bad('the file name is empty');
  return argument.text;
}

/** All options, in the order of the help text. */
export const OPTIONS: readonly OptionSpec[] = [
  {
    name: 'machine',
    aliases: ['M'],
    argument: '[type=]pc[,hpet=on|off][,acpi=on|off][,accel=tcg]',
    help: 'machine to emulate (-machine help lists)',
    apply: applyMachine,
  },
  {
    name: 'cpu',
    argument: 'MODEL[,+FEATURE][,-FEATURE][,FEATURE=on|off]',
    help: 'CPU model and features (-cpu help lists)',
    apply: applyCpu,
  },
  {
    name: 'accel',
    argument: 'tcg[,thread=multi|single][,jit=on|off][,tb-size=N]',
    help: 'thread=multi: a thread for each CPU (default);\nthread=single: all CPUs in turn on one;\njit=off: interpret, compile nothing;\ntb-size=N: MiB of compiled code that are kept (default 48)',
    apply: applyAccel,
  },
  {
    name: 'icount',
    argument: '[shift=]N|auto[,align=on|off][,sleep=on|off]',
    help:
      'guest time by executed instructions, 2^N ns each (0 to 10);\n' +
      'align=on: wait for host time; sleep=off: idle time is skipped',
    apply: applyIcount,
  },
  {
    name: 'seed',
    argument: 'NUMBER',
    help: "what the guest's random numbers (RDRAND, RDSEED) follow from",
    apply: applySeed,
  },
  {
    name: 'smp',
    argument: '[cpus=]N[,maxcpus=N][,sockets=N][,cores=N][,threads=N]',
    help: `number and topology of CPUs, at most ${MAX_CPUS} (default 1)`,
    apply: applySmp,
  },
  {
    name: 'm',
    argument: '[size=]SIZE[K|M|G]',
    help: 'guest RAM, in MiB without suffix, at most 3G (default 128M)',
    apply: applyMemory,
  },
  {
    name: 'kernel',
    argument: 'FILE',
    help: 'kernel: Linux bzImage, multiboot, or ELF with PVH entry',
    apply: (builder, argument) => {
      builder.kernel = path(argument);
    },
  },
  {
    name: 'initrd',
    argument: 'FILE',
    help: 'initial RAM disk; for multiboot "FILE ARGS,FILE ARGS"',
    apply: (builder, argument) => {
      builder.initrd = path(argument);
    },
  },
  {
    name: 'append',
    argument: 'TEXT',
    help: "the kernel's command line",
    apply: (builder, argument) => {
      builder.append = argument.text;
    },
  },
  {
    name: 'nographic',
    help: 'no display; the first serial port is the terminal\n(Ctrl-A x ends, Ctrl-A Ctrl-A sends Ctrl-A)',
    apply: (builder) => {
      builder.noGraphic = true;
    },
  },
  {
    name: 'display',
    argument: 'none',
    help: 'no display (there is none yet)',
    apply: (_builder, argument) => onlyNone(argument),
  },
  {
    name: 'serial',
    argument: 'stdio|mon:stdio|file:PATH|null|none|chardev:ID',
    help: 'where a serial port leads; the first time COM1, then COM2 …',
    apply: (builder, argument) => {
      builder.serial.push(parseBackend(argument));
    },
  },
  {
    name: 'monitor',
    argument: 'none',
    help: 'no monitor (there is none yet)',
    apply: (_builder, argument) => {
      if (argument.text !== 'none' && argument.text !== 'null') {
        throw argument.unsupported('there is no monitor yet, only none');
      }
    },
  },
  {
    name: 'chardev',
    argument: 'stdio|file|null,id=ID[,path=FILE][,mux=on|off][,signal=on|off]',
    help: 'host side of a character device, for -device and -serial',
    apply: applyChardev,
  },
  {
    name: 'debugcon',
    argument: 'stdio|file:PATH|null|chardev:ID',
    help: 'the debug console at port 0xe9',
    apply: (builder, argument) => {
      const reference = parseBackend(argument);
      builder.devices.push({ driver: 'isa-debugcon', iobase: 0xe9, readback: 0xe9, reference });
    },
  },
  ...DRIVE_OPTIONS,
  {
    name: 'device',
    argument: 'DRIVER[,PROPERTY=VALUE]',
    help: 'add a device (-device help lists)',
    apply: applyDevice,
  },
  {
    name: 'rtc',
    argument: '[base=utc|localtime|DATE][,clock=host|rt|vm][,driftfix=none]',
    help: 'start and clock of the real-time clock',
    apply: applyRtc,
  },
  {
    name: 'action',
    argument: 'reboot=reset|shutdown,shutdown=poweroff|pause,panic=…',
    help: 'what to do when the guest reboots, powers off or panics',
    apply: applyAction,
  },
  {
    name: 'no-reboot',
    help: 'same as -action reboot=shutdown',
    apply: (builder) => {
      builder.actions.reboot = 'shutdown';
    },
  },
  {
    name: 'no-shutdown',
    help: 'same as -action shutdown=pause',
    apply: (builder) => {
      builder.actions.shutdown = 'pause';
    },
  },
  {
    name: 'no-acpi',
    help: 'same as -machine acpi=off',
    apply: (builder) => {
      builder.acpi = false;
    },
  },
  {
    name: 'no-hpet',
    help: 'same as -machine hpet=off',
    apply: (builder) => {
      builder.hpet = false;
    },
  },
  {
    name: 'boot',
    argument: '[order=]LETTERS',
    help: 'boot order; without effect while only -kernel boots',
    apply: applyBoot,
  },
  {
    name: 'name',
    argument: '[guest=]NAME',
    help: "the guest's name",
    apply: (builder, argument) => {
      const list = argument.list('guest');
      argument.refuseOthers(list, ['guest', 'process', 'debug-threads']);
      builder.name = list.get('guest');
    },
  },
  {
    name: 'd',
    argument: 'ITEM,...',
    help: 'log items (-d help lists)',
    apply: applyLog,
  },
  {
    name: 'dfilter',
    argument: 'RANGE,...',
    help: 'addresses of the code that -d in_asm, op and exec show',
    apply: applyLogFilter,
  },
  {
    name: 'D',
    argument: 'FILE',
    help: 'log to a file instead of standard error',
    apply: (builder, argument) => {
      builder.logFile = path(argument);
    },
  },
  {
    name: 'nodefaults',
    help: 'no devices but those asked for',
    apply: (builder) => {
      builder.noDefaults = true;
    },
  },
  // Accepted in their harmless form, since scripts written for QEMU carry them.
  { name: 'no-user-config', apply: () => {} },
  { name: 'parallel', argument: 'none', apply: (_builder, argument) => onlyNone(argument) },
  { name: 'vga', argument: 'none', apply: (_builder, argument) => onlyNone(argument) },
  { name: 'net', argument: 'none', apply: (_builder, argument) => onlyNone(argument) },
  { name: 'nic', argument: 'none', apply: (_builder, argument) => onlyNone(argument) },
];

/** Options of QEMU that smp86 does not have yet, and whether they take a value. */
export const UNSUPPORTED: Readonly<Record<string, boolean>> = {
  ...Object.fromEntries(
    (
      'add-fd audio audiodev acpitable chroot compat device_add dtb echr fda fdb fsdev ' +
      'fw_cfg g gdb global incoming iscsi k L loadvm mem-path mon msg mtdblock netdev ' +
      'numa option-rom overcommit pflash pidfile plugin prom-env qmp qmp-pretty readconfig rtc-td-hack ' +
      'run-with runas sandbox sd semihosting-config set smbios spice tb-size tpmdev trace usbdevice uuid ' +
      'virtfs vnc watchdog watchdog-action writeconfig xen-domid bios'
    )
      .split(' ')
      .map((name) => [name, true]),
  ),
  ...Object.fromEntries(
    (
      'S s alt-grab ctrl-grab curses daemonize enable-fips enable-kvm enable-sync-profile full-screen ' +
      'mem-prealloc no-fd-bootchk no-quit only-migratable portrait preconfig rotate sdl semihosting show-cursor ' +
      'singlestep usb win2k-hack xen-attach xen-domid-restrict'
    )
      .split(' ')
      .map((name) => [name, false]),
  ),
};
