/** What lies in guest RAM when the guest starts: firmware's tables, the kernel, what belongs to it. */
import { apicIdOf, CpuModel } from '../cpu/sys/cpuid.ts';
import { WORD } from '../cpu/sys/cpu-features.ts';
import { buildAcpiTables } from './acpi-tables.ts';
import { loadKernel } from './boot/index.ts';
import { writeBootState } from './boot-state.ts';
import { type MachineConfig, modelSpec } from './config.ts';
import { memoryMap, MP_BASE } from './e820.ts';
import type { MachineLayout } from './layout.ts';
import type { BootFiles } from './messages.ts';
import { buildMpTable } from './mp-table.ts';

const COM = [
  { port: 0x3f8, irq: 4 },
  { port: 0x2f8, irq: 3 },
  { port: 0x3e8, irq: 4 },
  { port: 0x2e8, irq: 3 },
] as const;

/**
 * Loads the guest into RAM and the entry state of vCPU 0 into its place. *Thread:* any, while no vCPU runs.
 * *Errors:* BootError, MemoryMapError.
 */
export function loadGuest(
  buffer: SharedArrayBuffer,
  layout: MachineLayout,
  config: MachineConfig,
  boot: BootFiles,
): void {
  const ram = new Uint8Array(buffer, layout.ram, config.ram);
  const e820 = memoryMap(config.ram);
  const apicIds = Array.from({ length: config.cpus }, (_, i) => apicIdOf(i, config));
  let rsdp: number | undefined;
  if (config.acpi) {
    const serialPorts = COM.filter((_, i) => config.serial[i]);
    const tables = buildAcpiTables({ apicIds, hpet: config.hpet, serialPorts, pvpanic: config.pvpanic });
    ram.set(tables.bytes, tables.base);
    rsdp = tables.rsdp;
  }
  const model = new CpuModel(modelSpec(config), config);
  ram.set(buildMpTable({ apicIds, signature: model.signature, features: model.words[WORD.F1D] }), MP_BASE);
  if (boot.kernel === undefined) return;
  const state = loadKernel({
    ram,
    kernel: boot.kernel,
    initrd: boot.initrd,
    modules: boot.modules,
    append: boot.append,
    kernelName: boot.kernelName,
    e820,
    rsdp,
  });
  writeBootState(buffer, layout.bootState, state);
}
