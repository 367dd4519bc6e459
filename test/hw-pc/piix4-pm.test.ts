import { describe, expect, test } from 'vitest';
import {
  ACPI_DISABLE,
  ACPI_ENABLE,
  GPE0_BASE,
  Piix4Pm,
  Piix4PmState,
  PM_TIMER_FREQUENCY,
  SMI_CMD,
} from '../../src/hw/acpi/piix4-pm.ts';
import { BusState, IoBus } from '../../src/hw/io-bus.ts';
import { PciBus, PciBusState } from '../../src/hw/pci/pci.ts';
import { setUpPci } from '../../src/hw/pci/pci-setup.ts';
import { FakeClock, FakeIrq, freshState } from '../hw/fakes.ts';

const STS = 0x600;
const EN = 0x602;
const CNT = 0x604;
const TMR = 0x608;
const HALF = 0x800000;
/** ns after which the timer's bit 23 changes for the first time. */
const FIRST_HALF = Math.ceil((HALF * 1e9) / PM_TIMER_FREQUENCY);

function machine() {
  const clock = new FakeClock();
  const sci = new FakeIrq();
  const timer = clock.timer(() => pm.onTimer());
  let offs = 0;
  const pm = new Piix4Pm(freshState(Piix4PmState), { clock, timer, sci, powerOff: () => offs++ });
  const busState = freshState(BusState);
  const bus = new PciBus(freshState(PciBusState), { bus: busState });
  bus.add(pm.pci, 1, 3);
  const ports = new IoBus(busState, bus.ports);
  ports.register(SMI_CMD, 2, pm.apm);
  ports.register(GPE0_BASE, 4, pm.gpe);
  pm.reset();
  expect(ports.read(STS, 2)).toBe(0xffff);
  setUpPci(bus, { write: () => {} });
  pm.setUp();
  return { clock, sci, timer, pm, ports, offs: () => offs };
}

describe('register block', () => {
  test('lies at PMBASE and moves with it', () => {
    const { pm, ports } = machine();
    expect([ports.read(STS, 2), pm.pci.get(0x3c, 2)]).toEqual([0, 0x0109]);
    pm.pci.writeConfig(0x40, 4, 0xb000);
    expect([ports.read(STS, 2), ports.read(0xb000, 4)]).toEqual([0xffff, 0]);
    pm.pci.writeConfig(0x80, 1, 0);
    expect(ports.read(0xb000, 2)).toBe(0xffff);
  });

  test('bytes and dwords address parts of the registers', () => {
    const { ports } = machine();
    ports.write(STS, 4, 0x01210000);
    expect([ports.read(EN, 2), ports.read(EN, 1), ports.read(EN + 1, 1)]).toEqual([0x0121, 0x21, 0x01]);
    ports.write(EN + 1, 1, 0x04);
    expect(ports.read(EN, 2)).toBe(0x0421);
  });
});

describe('PM timer', () => {
  test('counts 3.579545 MHz in 24 bits', () => {
    const { clock, ports } = machine();
    clock.advance(1e9);
    expect(ports.read(TMR, 4)).toBe(PM_TIMER_FREQUENCY);
    clock.advance(9e9);
    expect(ports.read(TMR, 4)).toBe((10 * PM_TIMER_FREQUENCY) % 2 ** 24);
    clock.time = 2 ** 52;
    expect(ports.read(TMR, 4)).toBeLessThan(2 ** 24);
    ports.write(TMR, 4, 0);
  });

  test('TMR_STS is set when bit 23 changes, either way', () => {
    const { clock, ports } = machine();
    clock.runTo(FIRST_HALF - 1);
    expect(ports.read(STS, 2)).toBe(0);
    clock.runTo(FIRST_HALF);
    expect(ports.read(STS, 2)).toBe(1);
    ports.write(STS, 2, 1);
    expect(ports.read(STS, 2)).toBe(0);
    clock.runTo(2 * FIRST_HALF);
    expect(ports.read(STS, 2)).toBe(1);
  });

  test('raises the SCI only when enabled, and arms no timer otherwise', () => {
    const { clock, ports, sci, timer } = machine();
    expect(timer.pending).toBe(false);
    ports.write(EN, 2, 1);
    expect(timer.expireTime).toBe(FIRST_HALF);
    clock.runTo(FIRST_HALF);
    expect([sci.level, timer.pending]).toEqual([true, false]);
    ports.write(STS, 2, 1);
    expect([sci.level, timer.pending]).toEqual([false, true]);
    ports.write(EN, 2, 0);
    expect(timer.pending).toBe(false);
  });

  test('enabling after the overflow raises at once', () => {
    const { clock, ports, sci } = machine();
    clock.advance(3e9);
    ports.write(EN, 2, 1);
    expect(sci.level).toBe(true);
  });
});

describe('control', () => {
  test('the SMI command switches ACPI mode; SCI_EN cannot be written', () => {
    const { ports, pm } = machine();
    ports.write(SMI_CMD, 1, ACPI_ENABLE);
    expect([ports.read(CNT, 2), pm.acpiMode, ports.read(SMI_CMD, 1)]).toEqual([1, true, 0xf1]);
    ports.write(CNT, 2, 0);
    expect(pm.acpiMode).toBe(true);
    ports.write(SMI_CMD, 1, ACPI_DISABLE);
    ports.write(CNT, 2, 1);
    expect(pm.acpiMode).toBe(false);
    ports.write(SMI_CMD + 1, 1, 0x77);
    expect(ports.read(SMI_CMD + 1, 1)).toBe(0x77);
  });

  test('SLP_EN with the type of S5 or S4 powers off, others do not', () => {
    const { ports, offs } = machine();
    ports.write(CNT, 2, 0 << 10);
    ports.write(CNT, 2, (1 << 13) | (1 << 10));
    expect(offs()).toBe(0);
    ports.write(CNT, 2, 1 << 13);
    ports.write(CNT, 2, (1 << 13) | (2 << 10));
    expect(offs()).toBe(2);
    expect(ports.read(CNT, 2) & (1 << 13)).toBe(0);
  });

  test('the power button raises the SCI when enabled', () => {
    const { ports, pm, sci } = machine();
    pm.powerButton();
    expect(ports.read(STS, 2)).toBe(0);
    ports.write(EN, 2, 0x100);
    pm.powerButton();
    expect([sci.level, ports.read(STS, 2)]).toEqual([true, 0x100]);
    ports.write(STS, 2, 0x100);
    expect(sci.level).toBe(false);
  });

  test('a general-purpose event needs its enable bit', () => {
    const { ports, pm, sci } = machine();
    pm.raiseGpe(9);
    expect([sci.level, ports.read(GPE0_BASE + 1, 1)]).toEqual([false, 2]);
    ports.write(GPE0_BASE + 3, 1, 2);
    expect(sci.level).toBe(true);
    ports.write(GPE0_BASE, 2, 0x0200);
    expect(sci.level).toBe(false);
  });

  test('reset leaves ACPI mode, disables and undecodes', () => {
    const { ports, pm, sci } = machine();
    ports.write(SMI_CMD, 1, ACPI_ENABLE);
    ports.write(EN, 2, 0x100);
    pm.powerButton();
    pm.reset();
    expect([sci.level, pm.acpiMode, ports.read(STS, 2)]).toEqual([false, false, 0xffff]);
  });
});
