/** Registers and state of an IDE controller with two channels of two drives each, in shared memory. */
import {
  array,
  atomicI32,
  bool,
  bytes,
  f64,
  i32,
  padTo,
  struct,
  u32,
  u8,
  type ViewOf,
} from '@smp86/atomics-sync';
import { PciFunctionState } from '../pci/pci.ts';

/** Bits of the status register (ATA/ATAPI-7, 5.14). */
export const ST = { ERR: 0x01, DRQ: 0x08, SEEK: 0x10, WRERR: 0x20, READY: 0x40, BUSY: 0x80 } as const;
/** Bits of the error register (5.9). */
export const ER = { ABRT: 0x04, IDNF: 0x10, UNC: 0x40 } as const;
/** Bits of the device register. */
export const DEVICE = { HEAD: 0x0f, SLAVE: 0x10, LBA: 0x40, ALWAYS: 0xa0 } as const;
/** Bits of the device control register (5.8). */
export const CONTROL = { NO_INTERRUPT: 0x02, RESET: 0x04, HOB: 0x80 } as const;

/** Sectors that the transfer buffer of a drive has room for. */
export const BUFFER_SECTORS = 256;
export const BUFFER_SIZE = BUFFER_SECTORS * 512;

/** What the data register does now, and what follows when a block is through. */
export const PHASE = {
  /** Nothing. */
  NONE: 0,
  /** The guest reads a block of a larger transfer, or the only one. */
  PIO_IN: 1,
  /** The guest writes sectors. */
  PIO_OUT: 2,
  /** The guest writes a packet. */
  PACKET: 3,
  /** The guest reads what a packet asked for. */
  PACKET_IN: 4,
  /** A DMA transfer waits for the bus master, or is under way. */
  DMA: 5,
} as const;

/** Of `IdeRequestState.state`. */
export const REQUEST_STATE = {
  /** Belongs to the BQL. */
  IDLE: 0,
  /** For the iothread. Set under the BQL, after the other fields. */
  POSTED: 1,
  /** Carried out. Set by the iothread, after `result`; back to IDLE under the BQL. */
  DONE: 2,
} as const;

export const IDE_OP = { READ: 0, WRITE: 1, FLUSH: 2, VERIFY: 3, TRIM: 4 } as const;

/** What a drive asks of its iothread, one at a time. */
export const IdeRequestState = struct({
  state: atomicI32,
  /** IDE_OP. */
  op: u32,
  /** Bytes into the drive. */
  offset: f64,
  /** Bytes. */
  length: f64,
  /** Physical address of a table of memory regions (a PRD table), or -1: the drive's buffer, from its start. */
  prdTable: f64,
  /** Writes are on stable storage when done. */
  fua: bool,
  /** 0, or an errno. */
  result: i32,
  /** Of a transfer by PRD table: see PRD_END. */
  prdEnd: u8,
});
export type IdeRequestView = ViewOf<typeof IdeRequestState>;

/** How a PRD table and the transfer compared. */
export const PRD_END = {
  EXACT: 0,
  /** The table has more room. */
  LONGER: 1,
  /** The table was too short. */
  SHORTER: 2,
  /** It names memory that is not RAM. */
  BAD: 3,
} as const;

/** One drive. *Lock:* BQL, but for `request` while it is posted. Snapshot version 1. */
export const IdeDriveState = struct({
  feature: u8,
  error: u8,
  sectorCount: u8,
  lbaLow: u8,
  lbaMid: u8,
  lbaHigh: u8,
  device: u8,
  status: u8,
  // what was in the registers before the last write: the high bytes of 48-bit commands
  featureHigh: u8,
  sectorCountHigh: u8,
  lbaLowHigh: u8,
  lbaMidHigh: u8,
  lbaHighHigh: u8,
  command: u8,
  phase: u8,
  /** Sectors of a block of READ/WRITE MULTIPLE; 0: not set. */
  multiple: u8,
  /** The transfer mode that SET FEATURES chose, as the word of the identity that shows it. */
  mdmaMode: u8,
  udmaMode: u8,
  lba48: bool,
  smart: bool,
  /** Position in the buffer, end of the block, and end of what the buffer holds or shall hold. */
  position: u32,
  blockEnd: u32,
  bufferEnd: u32,
  /** Where the rest of the transfer is on the drive, and how many bytes are left after what the buffer holds. */
  offset: f64,
  left: f64,
  blockSize: u32,
  // --- ATAPI ---
  packet: bytes(12),
  senseKey: u8,
  asc: u8,
  packetDma: bool,
  trayOpen: bool,
  trayLocked: bool,
  pad: padTo(8),
  request: IdeRequestState,
});
export type IdeDriveView = ViewOf<typeof IdeDriveState>;

/** One channel. *Lock:* BQL. */
export const IdeChannelState = struct({
  drives: array(IdeDriveState, 2),
  /** The selected drive. */
  unit: u8,
  control: u8,
  /** Interrupt request, before the device control register's mask. */
  irq: bool,
  // --- bus master ---
  bmCommand: u8,
  bmStatus: u8,
  bmTable: u32,
});
export type IdeChannelView = ViewOf<typeof IdeChannelState>;

export const PiixIdeState = struct({
  pci: PciFunctionState,
  channels: array(IdeChannelState, 2),
});
