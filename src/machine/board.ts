/**
 * The devices of the `pc` machine and their wiring. Every worker builds its own board over the same shared state;
 * what differs is who created the timers and who runs their callbacks.
 */
import { writeSync } from 'node:fs';
import { SpscRing } from '@smp86/atomics-sync';
import { MainLoop } from '../aio/main-loop.ts';
import { CpuEnv, EXIT, VCPU_BLOCK_SIZE } from '../cpu/env.ts';
import { apicIdOf } from '../cpu/sys/cpuid.ts';
import { PhysMemory } from '../cpu/sys/phys-memory.ts';
import { GPE0_BASE, GPE0_LENGTH, Piix4Pm, APM_PORTS, SMI_CMD } from '../hw/acpi/piix4-pm.ts';
import { DebugExit, debugExitWidth } from '../hw/char/debug-exit.ts';
import { Debugcon } from '../hw/char/debugcon.ts';
import { Uart16550, UART_PORTS } from '../hw/char/uart-16550.ts';
import type { IoHandler, IrqLine, Timer } from '../hw/device.ts';
import { FW_CFG, FW_CFG_DMA_PORT, FW_CFG_DMA_PORTS, FW_CFG_PORT, FW_CFG_PORTS, FwCfg } from '../hw/fw-cfg.ts';
import { GuestRam } from '../hw/guest-ram.ts';
import { IDE_PORTS } from '../hw/ide/piix-ide.ts';
import { I8042, I8042_COMMAND, I8042_DATA } from '../hw/input/i8042.ts';
import { ApicBus } from '../hw/intc/apic-bus.ts';
import { Gsis } from '../hw/intc/gsi.ts';
import { I8259 } from '../hw/intc/i8259.ts';
import { Ioapic, IOAPIC_BASE, IOAPIC_SIZE } from '../hw/intc/ioapic.ts';
import { Lapic } from '../hw/intc/lapic.ts';
import { APIC_DEFAULT_BASE, LapicState } from '../hw/intc/lapic-state.ts';
import { IoBus, MmioBus } from '../hw/io-bus.ts';
import { PVPANIC_PANICKED, Pvpanic } from '../hw/misc/pvpanic.ts';
import { I440Fx } from '../hw/pci/i440fx.ts';
import { PCI_CONFIG_PORT, PCI_CONFIG_PORTS, PciBus, PciConfigPorts } from '../hw/pci/pci.ts';
import { setUpPci } from '../hw/pci/pci-setup.ts';
import { Piix3 } from '../hw/pci/piix3.ts';
import { PORT92, Port92 } from '../hw/port92.ts';
import { Mc146818 } from '../hw/rtc/mc146818.ts';
import { Hpet, HPET_BASE, HPET_SIZE } from '../hw/timer/hpet.ts';
import { I8254 } from '../hw/timer/i8254.ts';
import { PcSpeaker } from '../hw/timer/pcspk.ts';
import { ClockSystem } from '../timer/clock.ts';
import { CLOCK, type ClockType, VIRTUAL_MODE } from '../timer/clock-state.ts';
import type { SharedTimer } from '../timer/timer.ts';
import { Bql } from './bql.ts';
import { type MachineConfig, memoryConfigOf } from './config.ts';
import { CpuWork } from './cpu-work.ts';
import { Exclusive } from './exclusive.ts';
import {
  DeviceStates,
  EVENT,
  machineLayout,
  type MachineLayout,
  MachineControl,
  RUN_STATE,
  SERIAL_PORTS,
} from './layout.ts';
import { GuestOutput } from './guest-output.ts';
import { type IcountTimers, icountTimers } from './icount-timers.ts';
import { Log } from './log.ts';
import { VcpuSignals } from './signals.ts';
import { Storage } from './storage.ts';
import { Throttle, ThrottleState } from './throttle.ts';

/** Kinds of requests to the main loop. */
export const REQUEST = {
  /** The guest or the host asks for a machine reset. */
  RESET: 0,
  POWER_OFF: 1,
  /** Serial input waits in a ring. */
  SERIAL_INPUT: 2,
  POWER_BUTTON: 3,
  QUIT: 6,
  NMI: 7,
  /** arg: exit status */
  DEBUG_EXIT: 8,
  /** From the host thread alone, one at a time; arg: a COMMAND in the low bits, a sequence number above. */
  COMMAND: 9,
  /** The guest panicked, and that ends or pauses it. */
  PANIC: 10,
  /** A break condition on a serial port; arg: the port. */
  SERIAL_BREAK: 11,
  /** The throttle's percentage was set. */
  THROTTLE: 12,
  /** Iothreads have done something that disk devices go on with. */
  DISKS: 13,
  /** A disk's error stops the machine. */
  IO_ERROR: 14,
} as const;

/** What the host thread has done and is told the end of. */
export const COMMAND = {
  PAUSE: 0,
  RESUME: 1,
  RESET: 2,
  /** An iothread's thread runs: there is one at place `commandFirst`. */
  OBJECT_ADD: 3,
  /** End that one; result 0: a drive lives there. */
  OBJECT_DEL: 4,
  /** Drive `commandFirst` moves to iothread `commandSecond`; the result is one of MOVE. */
  SET_IOTHREAD: 5,
} as const;
export const COMMAND_BITS = 3;

export type BoardRole = 'create' | 'main-loop' | 'vcpu' | 'iothread';

const STOP_REQUESTED = CpuEnv.offsetOf('stopRequested') >>> 2;
const COM_PORTS = [0x3f8, 0x2f8, 0x3e8, 0x2e8] as const;
const COM_IRQS = [4, 3, 4, 3] as const;
const PIC_MASTER = 0x20;
const PIC_SLAVE = 0xa0;
const ELCR = 0x4d0;
const PIT_PORT = 0x40;
const SPEAKER_PORT = 0x61;
const RTC_PORT = 0x70;
const STDERR = 2;
/** ns */
const TURN = 1e8;
const PIIX_SLOT = 1;
const RTC_IRQ = 8;
/** Where a memory write is an interrupt message. */
const MSI_BASE = 0xfee0_0000;
const MSI_END = 0xfef0_0000;

export class Board {
  readonly buffer: SharedArrayBuffer;
  readonly config: MachineConfig;
  readonly layout: MachineLayout;
  readonly clocks: ClockSystem;
  readonly mainLoop: MainLoop;
  readonly bql: Bql;
  readonly control: ReturnType<typeof MachineControl.at>;
  readonly signals: readonly VcpuSignals[];
  readonly exclusive: Exclusive;
  /** Work for vCPU threads. */
  readonly cpuWork: CpuWork;
  readonly throttle: Throttle;
  private readonly output: GuestOutput;
  /** With icount. */
  readonly icountTimers: IcountTimers | undefined;
  readonly lapics: readonly Lapic[];
  readonly mem: PhysMemory;
  readonly ports: IoBus;
  readonly mmio: MmioBus;
  readonly pic: I8259;
  readonly ioapic: Ioapic;
  readonly apicBus: ApicBus;
  readonly gsis: Gsis;
  readonly pit: I8254;
  readonly speaker: PcSpeaker;
  readonly hpet: Hpet | undefined;
  readonly rtc: Mc146818;
  readonly uarts: readonly (Uart16550 | undefined)[];
  readonly serialIn: readonly SpscRing[];
  readonly serialOut: readonly SpscRing[];
  readonly debugConOut: readonly SpscRing[];
  readonly pci: PciBus;
  readonly i440fx: I440Fx;
  readonly piix3: Piix3;
  readonly pm: Piix4Pm;
  readonly i8042: I8042;
  readonly port92: Port92;
  readonly fwCfg: FwCfg;
  readonly storage: Storage;
  private readonly turnTimer: Timer;
  /** The vCPU whose access is being handled: its LAPIC answers at the LAPIC's address. Set by the vCPU loop. */
  currentCpu = 0;
  /** Set by the thread that can invalidate decoded code: called for memory that a device wrote. */
  memoryWritten: (host: number, length: number) => void = () => {};
  private readonly role: BoardRole;
  /** Looks at each access outside RAM, for the log. */
  private readonly noteAccess: ((what: 'read' | 'write', address: number, size: number) => void) | undefined;
  private timerCount = 0;
  private readonly fence = new Int32Array(new SharedArrayBuffer(4));

  /** `own`: the vCPUs that the calling thread runs. */
  constructor(
    memory: WebAssembly.Memory,
    config: MachineConfig,
    role: BoardRole,
    own: readonly number[] = [],
  ) {
    const buffer = memory.buffer as unknown as SharedArrayBuffer;
    this.buffer = buffer;
    this.config = config;
    this.role = role;
    const log = new Log(config.log);
    if (log.has('guest_errors')) {
      this.noteAccess = (what, address, size) => {
        if (this.mmio.lookup(address) !== undefined) return;
        const at = address.toString(16).toUpperCase();
        log.write(`Invalid ${what} at addr 0x${at}, size ${size}, region '(null)', reason: rejected\n`);
      };
    }
    const layout = machineLayout(memoryConfigOf(config));
    this.layout = layout;
    this.control = MachineControl.at(buffer, layout.control);
    this.bql = new Bql(buffer, layout.bql);
    if (role === 'create') {
      const { icount } = config;
      this.clocks = ClockSystem.init(
        buffer,
        layout.clocks,
        icount === undefined ? {} : { virtualMode: VIRTUAL_MODE.ICOUNT, icountShift: icount.shift },
      );
      this.mainLoop = MainLoop.init(this.clocks, layout.mainLoop, { bql: this.bql });
    } else {
      this.clocks = ClockSystem.attach(buffer, layout.clocks, {});
      this.mainLoop = MainLoop.attach(this.clocks, layout.mainLoop, this.bql);
    }
    this.bql.carry(this.clocks.mainGroup.notifier, role === 'main-loop');
    const states = DeviceStates.at(buffer, layout.devices);
    const virtual = this.clocks.clock(CLOCK.VIRTUAL);
    const words = new Int32Array(buffer);
    const bases = Array.from({ length: config.cpus }, (_, i) => layout.vcpus + i * VCPU_BLOCK_SIZE);
    const together = config.accel === 'single' ? bases : undefined;
    // with icount the vCPUs' own thread ends a turn when one interrupts another, which may be waited for
    const yields = config.icount !== undefined ? EXIT.YIELD : 0;
    const exit = role === 'vcpu' ? EXIT.KICK | EXIT.VCPU | yields : EXIT.KICK;
    this.signals = bases.map((base) => new VcpuSignals(words, base, together ?? [base], exit));
    this.exclusive = new Exclusive(buffer, layout.exclusive, layout.vcpus, config.cpus);
    this.cpuWork = new CpuWork(buffer, layout.cpuWork, this, own);
    const reset = (): void => this.requestEnd(REQUEST.RESET);

    // --- interrupt controllers ---
    this.apicBus = new ApicBus(states.apicBus, {
      picAcknowledge: () => this.bql.with(() => this.pic.acknowledge()),
      ioapicEoi: (vector) => this.bql.with(() => this.ioapic.eoi(vector)),
    });
    this.pic = new I8259(states.pic, { intr: this.apicBus.picLine });
    this.ioapic = new Ioapic(states.ioapic, {
      bus: this.apicBus,
      pic: this.pic,
      clock: virtual,
      timer: this.timer('ioapic-service', () => this.ioapic.onTimer()),
    });
    this.lapics = Array.from({ length: config.cpus }, (_, i) => {
      const lapic: Lapic = new Lapic(LapicState.at(buffer, layout.lapics + i * LapicState.size), {
        bus: this.apicBus,
        signals: this.signals[i],
        apicId: apicIdOf(i, config),
        bsp: i === 0,
        clock: virtual,
        timer: this.timer(`lapic-${i}`, () => lapic.onTimer()),
        tscToNs: (lo: number, hi: number) => this.clocks.virtualAtTick(hi * 2 ** 32 + (lo >>> 0)),
      });
      return lapic;
    });
    this.gsis = new Gsis(states.gsi, { pic: this.pic, ioapic: this.ioapic });
    const isa = (irq: number, source = 0): IrqLine => this.gsis.line(irq, source);

    // --- timers ---
    const pitIrq = isa(0);
    this.pit = new I8254(states.pit, {
      clock: virtual,
      timer: this.timer('pit', () => this.pit.onTimer()),
      irq: pitIrq,
    });
    this.speaker = new PcSpeaker(states.speaker, { clock: virtual, pit: this.pit });
    let rtcIrq = isa(RTC_IRQ);
    const hpetTimers = [0, 1, 2].map((n) => this.timer(`hpet-${n}`, () => this.hpet?.onTimer(n)));
    if (config.hpet) {
      this.hpet = new Hpet(states.hpet, {
        clock: virtual,
        timers: hpetTimers,
        lines: this.gsis.lines(1),
        pit: this.pit,
      });
      rtcIrq = this.hpet.rtcIrq;
    }
    const rtcClock = { host: CLOCK.HOST, rt: CLOCK.REALTIME, vm: CLOCK.VIRTUAL }[config.rtc.clock];
    this.rtc = new Mc146818(states.rtc, {
      clock: this.clocks.clock(rtcClock),
      periodicTimer: this.timer('rtc-periodic', () => this.rtc.onPeriodicTimer(), rtcClock),
      updateTimer: this.timer('rtc-update', () => this.rtc.onUpdateTimer(), rtcClock),
      irq: rtcIrq,
      wake: () => this.pm.rtcAlarm(),
    });

    // thread=single: a turn ends after this long, when there are others (QEMU's TCG_KICK_PERIOD)
    this.turnTimer = this.timer('round-robin', () => {
      this.turnTimer.mod(virtual.now() + TURN);
      this.signals[0].kick();
    });

    this.throttle = new Throttle(ThrottleState.at(buffer, layout.throttle), {
      timer: this.timer('cpu-throttle', () => this.throttle.onTimer(), CLOCK.VIRTUAL_RT),
      virtualRt: this.clocks.clock(CLOCK.VIRTUAL_RT),
      realtime: this.clocks.clock(CLOCK.REALTIME),
      cpuWork: this.cpuWork,
      bql: this.bql,
      signals: this.signals,
    });

    if (config.icount !== undefined) {
      this.icountTimers = icountTimers(config.icount, role, this.clocks, {
        timer: (name, onExpiry, clock) => this.timer(name, onExpiry, clock),
        kick: () => this.signals[0].kick(),
        running: () => this.control.runState.load() === RUN_STATE.RUNNING,
      });
    }

    // --- character devices ---
    this.output = this.guestOutput();
    this.serialOut = layout.serialOut.map((at) => new SpscRing(buffer, at, layout.serialRing));
    this.debugConOut = layout.debugConOut.map((at) => new SpscRing(buffer, at, layout.serialRing));
    this.serialIn = layout.serialIn.map((at) => new SpscRing(buffer, at, layout.serialRing));
    this.uarts = COM_PORTS.map((_, i) => {
      const timeoutTimer = this.timer(`com${i + 1}-timeout`, () => this.uarts[i]?.onTimeout());
      const transmitTimer = this.timer(`com${i + 1}-transmit`, () => this.uarts[i]?.onTransmit());
      if (!config.serial[i]) return undefined;
      return new Uart16550(states.uarts[i], {
        clock: virtual,
        timeoutTimer,
        transmitTimer,
        irq: isa(COM_IRQS[i], i >> 1),
        sink: { write: (byte) => this.output.write(this.serialOut[i], 1 << i, byte) },
        acceptInput: () => this.feedSerial(i),
      });
    });

    // --- physical memory ---
    this.mem = new PhysMemory({
      buffer,
      ramBase: layout.ram,
      ramSize: config.ram,
      mapBase: layout.physMap,
      codeMapBase: layout.codeMap,
      mmio: {
        read: (lo, hi, size) => {
          const address = hi * 2 ** 32 + lo;
          const unlocked = this.noteAccess === undefined ? this.mmio.readUnlocked(address, size) : undefined;
          if (unlocked !== undefined) return unlocked;
          return this.bql.with(() => {
            this.noteAccess?.('read', address, size);
            return this.mmio.read(address, size);
          });
        },
        write: (lo, hi, size, value) => {
          const address = hi * 2 ** 32 + lo;
          if (this.mmio.doorbell(address, size, value)) return;
          this.bql.with(() => {
            this.noteAccess?.('write', address, size);
            this.mmio.write(address, size, value);
          });
        },
      },
    });
    const a20: IrqLine = { set: (level) => this.setA20(level) };

    // --- PCI and what hangs on it ---
    this.pci = new PciBus(states.pci, { bus: states.bus, mappingChanged: () => this.flushTlbs() });
    this.i440fx = new I440Fx(states.i440fx, config.ram);
    this.piix3 = new Piix3(states.piix3, {
      isaIrqs: Array.from({ length: 16 }, (_, irq) => isa(irq, 2)),
      reset,
    });
    this.pci.router = this.piix3;
    this.pm = new Piix4Pm(states.pm, {
      clock: virtual,
      timer: this.timer('pm', () => this.pm.onTimer()),
      sci: isa(9),
      powerOff: () => this.requestEnd(REQUEST.POWER_OFF),
    });
    this.pci.add(this.i440fx.pci, 0);
    this.pci.add(this.piix3.pci, PIIX_SLOT, 0);
    this.pci.add(this.pm.pci, PIIX_SLOT, 3);
    this.i8042 = new I8042(states.i8042, { keyboardIrq: isa(1), mouseIrq: isa(12), a20, reset });
    this.port92 = new Port92(states.port92, { a20, reset });
    const arena = new Uint8Array(buffer, layout.fwCfgArena, layout.fwCfgArenaSize);
    this.fwCfg = new FwCfg(states.fwCfg, arena, {
      read: (address, into) => this.dma(address, into, false),
      write: (address, from) => this.dma(address, from, true),
    });

    // --- disks ---
    this.storage = new Storage(config.storage, layout.storage, {
      clocks: this.clocks,
      pci: this.pci,
      ram: new GuestRam(buffer, layout.ram, config.ram, (host, length) => this.stored(host, length)),
      msi: { send: (address, data) => this.sendMessage(address, data) },
      ideIrqs: IDE_PORTS.map(({ irq }) => isa(irq)),
      idePlace: [PIIX_SLOT, 1],
      postPoll: () => this.mainLoop.post(REQUEST.DISKS),
      create: role === 'create',
    });

    // --- buses ---
    this.ports = new IoBus(states.bus, this.pci.ports);
    this.mmio = new MmioBus(states.bus, this.pci.memory);
    this.registerPorts();
    const lapicAccess: IoHandler = {
      read: (offset, size) => this.lapics[this.currentCpu].read(offset, size),
      write: (offset, size, value) => this.lapics[this.currentCpu].write(offset, size, value),
    };
    this.mmio.register(APIC_DEFAULT_BASE, 0x1000, lapicAccess, 4);
    this.mmio.register(IOAPIC_BASE, IOAPIC_SIZE, this.ioapic, 4);
    if (this.hpet !== undefined) this.mmio.register(HPET_BASE, HPET_SIZE, this.hpet, 4);
  }

  private registerPorts(): void {
    const { ports } = this;
    ports.register(PIC_MASTER, 2, this.pic.master);
    ports.register(PIC_SLAVE, 2, this.pic.slave);
    ports.register(ELCR, 2, this.pic.elcr);
    ports.register(PIT_PORT, 4, this.pit);
    ports.register(SPEAKER_PORT, 1, this.speaker);
    ports.register(RTC_PORT, 2, this.rtc);
    this.uarts.forEach((uart, i) => {
      if (uart !== undefined) ports.register(COM_PORTS[i], UART_PORTS, uart);
    });
    ports.register(
      PCI_CONFIG_PORT,
      PCI_CONFIG_PORTS,
      new PciConfigPorts(this.pci, this.piix3.resetControl),
      4,
    );
    IDE_PORTS.forEach(({ command, control }, c) => {
      const channel = this.storage.ide.channels[c];
      ports.register(command, 1, channel.data, 4);
      ports.register(command + 1, 7, channel.registers);
      ports.register(control, 1, channel.control);
    });
    ports.register(SMI_CMD, APM_PORTS, this.pm.apm);
    ports.register(GPE0_BASE, GPE0_LENGTH, this.pm.gpe);
    ports.register(I8042_DATA, 1, this.i8042.data);
    ports.register(I8042_COMMAND, 1, this.i8042.command);
    ports.register(PORT92, 1, this.port92);
    ports.register(FW_CFG_PORT, FW_CFG_PORTS, this.fwCfg.ports, 2);
    ports.register(FW_CFG_DMA_PORT, FW_CFG_DMA_PORTS, this.fwCfg.dma, 4);
    for (const device of this.config.debugExits) {
      const exit = new DebugExit((status) => {
        this.control.exitStatus.store(status);
        this.raiseEvent(EVENT.DEBUG_EXIT);
        this.requestEnd(REQUEST.DEBUG_EXIT, status);
      });
      ports.register(device.iobase, device.iosize, exit, debugExitWidth(device.iosize));
    }
    this.config.debugCons.forEach(({ iobase, readback }, i) => {
      const sink = {
        write: (byte: number) => this.output.write(this.debugConOut[i], 1 << (SERIAL_PORTS + i), byte),
      };
      ports.register(iobase, 1, new Debugcon(sink, readback));
    });
    if (this.config.pvpanic !== undefined) {
      ports.register(this.config.pvpanic, 1, new Pvpanic((events) => this.panicked(events)));
    }
  }

  /** A timer of the main loop. Numbers are given in order, so they are the same in every thread. */
  private timer(name: string, onExpiry: () => void, clock: ClockType = CLOCK.VIRTUAL): SharedTimer {
    const callback = this.timerCount++;
    if (this.role === 'create') return this.clocks.createTimer({ clock, callback, name });
    // with icount the thread that executes guest code runs VIRTUAL timers
    const owner = this.config.icount !== undefined && clock === CLOCK.VIRTUAL ? 'vcpu' : 'main-loop';
    if (this.role === owner) this.clocks.callbacks.register(callback, onExpiry, name);
    return this.clocks.timer(callback);
  }

  /** One line for the user. *Thread:* any worker. */
  warn(text: string): void {
    writeSync(STDERR, `smp86: ${text}\n`);
  }

  /** Tells the host thread. *Thread:* any. */
  raiseEvent(bits: number): void {
    this.control.events.or(bits);
    this.control.eventSeq.add(1);
    this.control.eventSeq.notify();
  }

  /** The guest asked for a reset or the end: the vCPU that did stops after its instruction, the main loop does the rest. */
  private requestEnd(kind: number, arg = 0): void {
    if (this.role === 'vcpu') this.stopVcpu(this.currentCpu);
    this.mainLoop.post(kind, arg);
  }
  private stopVcpu(index: number): void {
    Atomics.store(
      this.mem.views.i32,
      ((this.layout.vcpus + index * VCPU_BLOCK_SIZE) >>> 2) + STOP_REQUESTED,
      1,
    );
    this.signals[index].kick();
  }

  /** Asks every vCPU to stop; they start stopped. */
  stopVcpus(): void {
    for (let i = 0; i < this.config.cpus; i++) this.stopVcpu(i);
  }
  /** Withdraws the stop requests. */
  startVcpus(): void {
    // with icount the budget ends turns
    if (this.config.accel === 'single' && this.config.cpus > 1 && this.config.icount === undefined)
      this.turnTimer.modAnticipate(this.clocks.now(CLOCK.VIRTUAL) + TURN);
    const words = this.mem.views.i32;
    for (let i = 0; i < this.config.cpus; i++) {
      Atomics.store(words, ((this.layout.vcpus + i * VCPU_BLOCK_SIZE) >>> 2) + STOP_REQUESTED, 0);
      this.signals[i].kick();
    }
  }

  /** Gives a port as much of the host's input as it takes now. *Thread:* any. *Lock:* BQL. */
  feedSerial(port: number): void {
    const uart = this.uarts[port];
    if (uart === undefined) return;
    while (uart.canReceive() > 0) {
      const byte = this.serialIn[port].readByte();
      if (byte < 0) return;
      uart.receive(byte);
    }
  }

  private guestOutput(): GuestOutput {
    const announce = (bit: number): void => {
      // one announcement until the host has looked
      if ((this.control.serialPending.or(bit) & bit) === 0) this.raiseEvent(0);
    };
    if (this.config.icount === undefined || this.role !== 'vcpu') return new GuestOutput({ announce });
    const stopping = (): boolean =>
      this.control.quit.load() !== 0 || this.control.runState.load() !== RUN_STATE.RUNNING;
    return new GuestOutput({ announce, wait: { bql: this.bql, signals: this.signals[0], stopping } });
  }

  private panicked(events: number): void {
    if ((events & PVPANIC_PANICKED) === 0) return;
    this.raiseEvent(EVENT.PANIC);
    if (this.config.panic !== 'none') this.requestEnd(REQUEST.PANIC);
  }

  private setA20(level: boolean): void {
    this.mem.setA20(level);
    this.flushTlbs();
  }
  private flushTlbs(): void {
    for (const s of this.signals) s.interrupt(32);
  }

  /** DMA between guest RAM and `bytes`; false when the range is not RAM. */
  private dma(address: number, bytes: Uint8Array, write: boolean): boolean {
    const { mem, layout } = this;
    if (address < 0 || address + bytes.length > this.config.ram) return false;
    const host = layout.ram + address;
    if (write) {
      mem.views.u8.set(bytes, host);
      this.memoryWritten(host, bytes.length);
    } else {
      bytes.set(mem.views.u8.subarray(host, host + bytes.length));
    }
    return true;
  }

  /** A device has stored in RAM. *Thread:* any that has `memoryWritten`. *Lock:* none. */
  private stored(host: number, length: number): void {
    // Before the look at the code map: a page that becomes code now is decoded with what was stored, or else the
    // map says so. A store followed by a load needs a fence, and an exchange is one.
    Atomics.exchange(this.fence, 0, 0);
    this.memoryWritten(host, length);
  }

  /** A message-signalled interrupt. *Lock:* none. */
  private sendMessage(address: number, data: number): void {
    if (address >= MSI_BASE && address < MSI_END) this.apicBus.msi(address, data);
  }

  /** Power-on: contents that outlive a reset. *Thread:* the creating one. */
  powerOn(rtcSeconds: number, rtcNanoseconds: number): void {
    this.mem.initMap();
    this.fwCfg.powerOn();
    this.fwCfg.addNumber(FW_CFG.NB_CPUS, this.config.cpus, 2);
    this.fwCfg.addNumber(FW_CFG.MAX_CPUS, this.config.cpus, 2);
    this.fwCfg.addNumber(FW_CFG.RAM_SIZE, this.config.ram, 8);
    this.rtc.powerOn(rtcSeconds, rtcNanoseconds, { ramBelow4G: this.config.ram, cpus: this.config.cpus });
    this.reset();
  }

  /** Resets every device and does what firmware would. *Lock:* BQL. vCPUs are reset by their threads. */
  reset(): void {
    for (const s of this.signals) s.reset();
    this.apicBus.reset();
    for (const lapic of this.lapics) lapic.reset();
    this.pic.reset();
    this.ioapic.reset();
    this.gsis.reset();
    this.hpet?.reset();
    this.pit.reset();
    this.speaker.reset();
    this.rtc.reset();
    for (const uart of this.uarts) uart?.reset();
    this.pci.reset();
    this.i440fx.reset();
    this.piix3.reset();
    this.pm.reset();
    this.i8042.reset();
    this.port92.reset();
    this.fwCfg.reset();
    this.storage.reset();
    setUpPci(this.pci, this.ports);
    this.pm.setUp();
    this.i8042.setUp();
    this.port92.setUp();
    this.setA20(true);
  }
}
