/**
 * Host bridge of the 82441FX (PMC). Intel 440FX PCIset 82441FX datasheet, chapter 3.2.
 *
 * There is no BIOS image and no SMM here, so the PAM and SMRAM registers keep what is written and change
 * nothing: C0000–FFFFF is RAM.
 */
import { struct, type ViewOf } from '@smp86/atomics-sync';
import { PciFunction, PciFunctionState } from './pci.ts';

const PMCCFG = 0x50;
const DRAM_CONTROL = 0x57;
const PAM0 = 0x59;
const PAM_COUNT = 7;
const DRB0 = 0x60;
const DRB_COUNT = 8;
const FIXED_DRAM_HOLE = 0x68;
const SMRAM = 0x72;
/** DRB unit: 8 MiB. */
const DRB_UNIT = 8 << 20;

/** *Lock:* BQL. Snapshot version 1. */
export const I440FxState = struct({ pci: PciFunctionState });

/** Function 0.0. *Thread:* any. *Lock:* BQL. */
export class I440Fx {
  readonly pci: PciFunction;

  /** `ramSize` in bytes gives the DRAM row boundaries. */
  constructor(state: ViewOf<typeof I440FxState>, ramSize: number) {
    const pci = new PciFunction(state.pci, {
      vendor: 0x8086,
      device: 0x1237,
      classCode: 0x060000,
      revision: 0x02,
      subsystemVendor: 0x1af4,
      subsystem: 0x1100,
    });
    this.pci = pci;
    pci.setWritable(PMCCFG, 2, 0xffff);
    pci.setDefault(DRAM_CONTROL, 1, 0x01);
    pci.setWritable(DRAM_CONTROL, 1, 0xff);
    for (let i = 0; i < PAM_COUNT; i++) pci.setWritable(PAM0 + i, 1, i === 0 ? 0xf0 : 0xff);
    // boundaries are cumulative: one row holds all there is, up to what 8 bits can say
    for (let i = 0; i < DRB_COUNT; i++) {
      pci.setDefault(DRB0 + i, 1, Math.min(255, Math.floor(ramSize / DRB_UNIT)));
    }
    pci.setWritable(FIXED_DRAM_HOLE, 1, 0xff);
    pci.setDefault(SMRAM, 1, 0x02);
    pci.setWritable(SMRAM, 1, 0x78);
  }

  reset(): void {
    this.pci.reset();
  }
}
