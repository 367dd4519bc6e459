/** An ATA disk: PIO, multiple, DMA, 48-bit addresses, flush, identity, SMART. ATA/ATAPI-7, volume 1 chapter 6. */
import { guessGeometry, SECTOR_SIZE } from '../block/drive.ts';
import { IdeDrive, putText } from './ide-drive.ts';
import { DEVICE, ER, IDE_OP, PHASE, PRD_END, ST } from './ide-state.ts';

const COMMAND = {
  NOP: 0x00,
  DATA_SET_MANAGEMENT: 0x06,
  RECALIBRATE: 0x10,
  READ_SECTORS: 0x20,
  READ_SECTORS_NORETRY: 0x21,
  READ_SECTORS_EXT: 0x24,
  READ_DMA_EXT: 0x25,
  READ_NATIVE_MAX_EXT: 0x27,
  READ_MULTIPLE_EXT: 0x29,
  WRITE_SECTORS: 0x30,
  WRITE_SECTORS_NORETRY: 0x31,
  WRITE_SECTORS_EXT: 0x34,
  WRITE_DMA_EXT: 0x35,
  WRITE_MULTIPLE_EXT: 0x39,
  WRITE_VERIFY: 0x3c,
  VERIFY: 0x40,
  VERIFY_NORETRY: 0x41,
  VERIFY_EXT: 0x42,
  SEEK: 0x70,
  DIAGNOSTIC: 0x90,
  INITIALIZE_PARAMETERS: 0x91,
  SMART: 0xb0,
  READ_MULTIPLE: 0xc4,
  WRITE_MULTIPLE: 0xc5,
  SET_MULTIPLE: 0xc6,
  READ_DMA: 0xc8,
  READ_DMA_NORETRY: 0xc9,
  WRITE_DMA: 0xca,
  WRITE_DMA_NORETRY: 0xcb,
  STANDBY_IMMEDIATE: 0xe0,
  IDLE_IMMEDIATE: 0xe1,
  STANDBY: 0xe2,
  IDLE: 0xe3,
  CHECK_POWER: 0xe5,
  SLEEP: 0xe6,
  FLUSH_CACHE: 0xe7,
  FLUSH_CACHE_EXT: 0xea,
  IDENTIFY: 0xec,
  SET_FEATURES: 0xef,
  READ_NATIVE_MAX: 0xf8,
} as const;
/** The older codes of power management. */
const OLD_POWER = [0x94, 0x95, 0x96, 0x97, 0x99];
const OLD_CHECK_POWER = 0x98;
const POWER_ACTIVE = 0xff;

const FEATURE = { WRITE_CACHE_ON: 0x02, TRANSFER_MODE: 0x03, WRITE_CACHE_OFF: 0x82 } as const;
/** Features that change nothing here: look-ahead, power management, acoustics, reverting to defaults. */
const IGNORED_FEATURES = [0xaa, 0x55, 0x05, 0x85, 0x42, 0xc2, 0x66, 0xcc, 0x67, 0x96, 0x9a, 0x69];
const DSM_TRIM = 1;

const SMART = {
  READ_DATA: 0xd0,
  READ_THRESHOLDS: 0xd1,
  AUTOSAVE: 0xd2,
  OFFLINE: 0xd4,
  READ_LOG: 0xd5,
  ENABLE: 0xd8,
  DISABLE: 0xd9,
  STATUS: 0xda,
  KEY_MID: 0x4f,
  KEY_HIGH: 0xc2,
} as const;

const MAX_MULTIPLE = 16;
const LBA28_MAX = 0xfff_ffff;
const FIRMWARE = '2.5+';

/** *Thread:* any. *Lock:* BQL. */
export class AtaDisk extends IdeDrive {
  get #sectors(): number {
    return Math.floor((this.drive?.size.load() ?? 0) / SECTOR_SIZE);
  }
  get #readOnly(): boolean {
    return this.drive?.readOnly.load() !== 0;
  }

  override signature(): void {
    const s = this.state;
    s.sectorCount = s.lbaLow = 1;
    s.lbaMid = s.lbaHigh = 0;
  }

  override execute(command: number): void {
    const s = this.state;
    s.command = command;
    s.lba48 = false;
    switch (command) {
      case COMMAND.READ_SECTORS_EXT:
        return this.#pioIn(true, 1);
      case COMMAND.READ_SECTORS:
      case COMMAND.READ_SECTORS_NORETRY:
        return this.#pioIn(false, 1);
      case COMMAND.READ_MULTIPLE_EXT:
        return this.#pioIn(true, s.multiple);
      case COMMAND.READ_MULTIPLE:
        return this.#pioIn(false, s.multiple);
      case COMMAND.WRITE_SECTORS_EXT:
        return this.#pioOut(true, 1);
      case COMMAND.WRITE_SECTORS:
      case COMMAND.WRITE_SECTORS_NORETRY:
      case COMMAND.WRITE_VERIFY:
        return this.#pioOut(false, 1);
      case COMMAND.WRITE_MULTIPLE_EXT:
        return this.#pioOut(true, s.multiple);
      case COMMAND.WRITE_MULTIPLE:
        return this.#pioOut(false, s.multiple);
      case COMMAND.READ_DMA_EXT:
      case COMMAND.WRITE_DMA_EXT:
        return this.#dma(true);
      case COMMAND.READ_DMA:
      case COMMAND.READ_DMA_NORETRY:
      case COMMAND.WRITE_DMA:
      case COMMAND.WRITE_DMA_NORETRY:
        return this.#dma(false);
      case COMMAND.DATA_SET_MANAGEMENT:
        return this.#dataSetManagement();
      case COMMAND.VERIFY_EXT:
        return this.#verify(true);
      case COMMAND.VERIFY:
      case COMMAND.VERIFY_NORETRY:
        return this.#verify(false);
      case COMMAND.FLUSH_CACHE:
      case COMMAND.FLUSH_CACHE_EXT:
        return this.#flush();
      case COMMAND.IDENTIFY:
        return this.#answer(this.#identity());
      case COMMAND.SET_MULTIPLE: {
        const count = s.sectorCount;
        if (count > MAX_MULTIPLE || (count & (count - 1)) !== 0) return this.abort();
        s.multiple = count;
        return this.finish();
      }
      case COMMAND.SET_FEATURES:
        return this.#setFeatures();
      case COMMAND.SMART:
        return this.#smart();
      case COMMAND.READ_NATIVE_MAX_EXT:
        return this.#nativeMax(true);
      case COMMAND.READ_NATIVE_MAX:
        return this.#nativeMax(false);
      case COMMAND.CHECK_POWER:
      case OLD_CHECK_POWER:
        s.sectorCount = POWER_ACTIVE;
        return this.finish();
      case COMMAND.DIAGNOSTIC:
        this.signature();
        this.finish();
        s.error = 1;
        return;
      case COMMAND.RECALIBRATE:
      case COMMAND.SEEK:
      case COMMAND.INITIALIZE_PARAMETERS:
      case COMMAND.STANDBY_IMMEDIATE:
      case COMMAND.IDLE_IMMEDIATE:
      case COMMAND.STANDBY:
      case COMMAND.IDLE:
      case COMMAND.SLEEP:
        return this.finish();
      default:
        return OLD_POWER.includes(command) ? this.finish() : this.abort();
    }
  }

  // --- addresses ---

  /** Reads address and count; false, with the command aborted, when they are not on the disk. */
  #locate(lba48: boolean): boolean {
    const s = this.state;
    s.lba48 = lba48;
    let sectors: number;
    let lba: number;
    if (lba48) {
      sectors = (s.sectorCountHigh << 8) | s.sectorCount || 65536;
      lba =
        (s.lbaHighHigh * 65536 + (s.lbaMidHigh << 8) + s.lbaLowHigh) * 2 ** 24 +
        ((s.lbaHigh << 16) | (s.lbaMid << 8) | s.lbaLow);
    } else {
      sectors = s.sectorCount || 256;
      const low = (s.lbaHigh << 16) | (s.lbaMid << 8) | s.lbaLow;
      if ((s.device & DEVICE.LBA) !== 0) lba = ((s.device & DEVICE.HEAD) << 24) | low;
      else {
        const geometry = guessGeometry(this.#sectors);
        const cylinder = (s.lbaHigh << 8) | s.lbaMid;
        lba = (cylinder * geometry.heads + (s.device & DEVICE.HEAD)) * geometry.sectors + s.lbaLow - 1;
      }
    }
    if (lba < 0 || lba + sectors > this.#sectors) {
      this.abort();
      return false;
    }
    s.offset = lba * SECTOR_SIZE;
    s.left = sectors * SECTOR_SIZE;
    return true;
  }

  /** Shows a sector number in the registers, in the form of the command. */
  #showAddress(lba: number): void {
    const s = this.state;
    if (s.lba48) {
      const high = Math.floor(lba / 2 ** 24);
      s.lbaLowHigh = high;
      s.lbaMidHigh = high >> 8;
      s.lbaHighHigh = high >> 16;
    } else if ((s.device & DEVICE.LBA) === 0) {
      const { heads, sectors } = guessGeometry(this.#sectors);
      const cylinder = Math.floor(lba / (heads * sectors));
      s.lbaHigh = cylinder >> 8;
      s.lbaMid = cylinder;
      s.device = (s.device & ~DEVICE.HEAD) | (Math.floor(lba / sectors) % heads);
      s.lbaLow = (lba % sectors) + 1;
      return;
    } else s.device = (s.device & ~DEVICE.HEAD) | (Math.floor(lba / 2 ** 24) & DEVICE.HEAD);
    s.lbaLow = lba % 256;
    s.lbaMid = Math.floor(lba / 256) % 256;
    s.lbaHigh = Math.floor(lba / 65536) % 256;
  }

  // --- PIO ---

  #pioIn(lba48: boolean, blockSectors: number): void {
    if (blockSectors === 0) return this.abort();
    if (!this.#locate(lba48)) return;
    this.state.blockSize = blockSectors * SECTOR_SIZE;
    this.state.phase = PHASE.PIO_IN;
    this.#readMore();
  }

  #readMore(): void {
    this.post(IDE_OP.READ, this.state.offset, Math.min(this.state.left, this.bufferSize));
  }

  #pioOut(lba48: boolean, blockSectors: number): void {
    if (blockSectors === 0 || this.#readOnly) return this.abort();
    if (!this.#locate(lba48)) return;
    this.state.blockSize = blockSectors * SECTOR_SIZE;
    this.#takeMore();
  }

  /** Asks the guest for the next buffer of data. */
  #takeMore(): void {
    const s = this.state;
    s.position = 0;
    s.bufferEnd = Math.min(s.left, this.bufferSize);
    s.blockEnd = Math.min(s.blockSize, s.bufferEnd);
    this.offerBlock(PHASE.PIO_OUT);
  }

  /** Data that no sectors stand behind. */
  #answer(data: Uint8Array): void {
    const s = this.state;
    this.buffer.set(data);
    s.left = 0;
    s.position = 0;
    s.bufferEnd = s.blockEnd = data.length;
    this.offerBlock(PHASE.PIO_IN);
    this.channel.raiseIrq();
  }

  override blockDone(): void {
    const s = this.state;
    if (s.position < s.bufferEnd) {
      s.blockEnd = Math.min(s.position + s.blockSize, s.bufferEnd);
      this.offerBlock(s.phase);
      this.channel.raiseIrq();
    } else if (s.phase === PHASE.PIO_OUT) this.post(IDE_OP.WRITE, s.offset, s.bufferEnd);
    else if (s.left > 0) this.#readMore();
    else {
      // the guest has the last block: no interrupt follows
      s.phase = PHASE.NONE;
      s.status = ST.READY | ST.SEEK;
    }
  }

  // --- DMA ---

  #dma(lba48: boolean): void {
    if (this.#writesDma && this.#readOnly) return this.abort();
    if (!this.#locate(lba48)) return;
    this.#awaitDma();
  }

  get #writesDma(): boolean {
    const { command } = this.state;
    return (
      command === COMMAND.WRITE_DMA_EXT ||
      command === COMMAND.WRITE_DMA ||
      command === COMMAND.WRITE_DMA_NORETRY
    );
  }

  #dataSetManagement(): void {
    const s = this.state;
    const blocks = (s.sectorCountHigh << 8) | s.sectorCount;
    if ((s.feature & DSM_TRIM) === 0 || this.#readOnly || blocks === 0) return this.abort();
    s.offset = 0;
    s.left = blocks * SECTOR_SIZE;
    this.#awaitDma();
  }

  #awaitDma(): void {
    this.offerBlock(PHASE.DMA);
    this.channel.dmaReady();
  }

  override dmaStart(table: number): void {
    const s = this.state;
    const trim = s.command === COMMAND.DATA_SET_MANAGEMENT;
    this.post(trim ? IDE_OP.TRIM : this.#writesDma ? IDE_OP.WRITE : IDE_OP.READ, s.offset, s.left, table);
  }

  // --- what the iothread has done ---

  override requestDone(errno: number): void {
    const s = this.state;
    if (s.phase === PHASE.DMA) return this.#dmaDone(errno);
    if (errno !== 0) {
      this.#showAddress(s.offset / SECTOR_SIZE);
      return this.abort(s.phase === PHASE.NONE ? ER.ABRT : ER.UNC);
    }
    if (s.phase === PHASE.NONE) return this.finish();
    const done = s.request.length;
    s.offset += done;
    s.left -= done;
    if (s.phase === PHASE.PIO_IN) {
      s.position = 0;
      s.bufferEnd = done;
      s.blockEnd = Math.min(s.blockSize, done);
      if (s.left === 0) this.#showAddress(s.offset / SECTOR_SIZE - 1);
      this.offerBlock(PHASE.PIO_IN);
      this.channel.raiseIrq();
    } else if (s.left > 0) {
      this.#takeMore();
      this.channel.raiseIrq();
    } else {
      this.#showAddress(s.offset / SECTOR_SIZE - 1);
      this.finish();
    }
  }

  #dmaDone(errno: number): void {
    const s = this.state;
    const { prdEnd } = s.request;
    this.channel.dmaEnded(prdEnd);
    if (errno !== 0) {
      this.#showAddress(s.offset / SECTOR_SIZE);
      this.abort(this.#writesDma ? ER.ABRT : ER.UNC);
    } else if (prdEnd === PRD_END.BAD) this.abort();
    else if (prdEnd === PRD_END.SHORTER) {
      // the drive still has data to move, and nobody takes it: it waits, without an interrupt
      s.phase = PHASE.NONE;
      s.status = ST.READY | ST.SEEK;
    } else this.finish();
  }

  // --- other commands ---

  #flush(): void {
    this.state.phase = PHASE.NONE;
    this.post(IDE_OP.FLUSH, 0, 0);
  }

  #verify(lba48: boolean): void {
    if (!this.#locate(lba48)) return;
    this.state.phase = PHASE.NONE;
    this.post(IDE_OP.VERIFY, this.state.offset, this.state.left);
  }

  #nativeMax(lba48: boolean): void {
    const s = this.state;
    s.lba48 = lba48;
    s.device |= DEVICE.LBA;
    this.#showAddress(Math.max(0, Math.min(this.#sectors - 1, lba48 ? 2 ** 48 - 1 : LBA28_MAX)));
    this.finish();
  }

  #setFeatures(): void {
    const s = this.state;
    switch (s.feature) {
      case FEATURE.WRITE_CACHE_ON:
        this.drive?.writeCache.store(1);
        return this.finish();
      case FEATURE.WRITE_CACHE_OFF:
        this.drive?.writeCache.store(0);
        return this.#flush();
      case FEATURE.TRANSFER_MODE: {
        const mode = s.sectorCount & 7;
        switch (s.sectorCount >> 3) {
          case 0:
          case 1:
            s.mdmaMode = s.udmaMode = 0xff;
            break;
          case 4:
            s.mdmaMode = mode;
            s.udmaMode = 0xff;
            break;
          case 8:
            s.mdmaMode = 0xff;
            s.udmaMode = mode;
            break;
          default:
            return this.abort();
        }
        return this.finish();
      }
      default:
        return IGNORED_FEATURES.includes(s.feature) ? this.finish() : this.abort();
    }
  }

  #smart(): void {
    const s = this.state;
    if (s.lbaMid !== SMART.KEY_MID || s.lbaHigh !== SMART.KEY_HIGH) return this.abort();
    if (!s.smart && s.feature !== SMART.ENABLE) return this.abort();
    switch (s.feature) {
      case SMART.ENABLE:
        s.smart = true;
        return this.finish();
      case SMART.DISABLE:
        s.smart = false;
        return this.finish();
      case SMART.AUTOSAVE:
      case SMART.OFFLINE:
        return this.finish();
      case SMART.STATUS:
        // the key unchanged: no threshold is exceeded
        return this.finish();
      case SMART.READ_DATA:
      case SMART.READ_THRESHOLDS: {
        // revision 1, no attributes, and a sum of 0 over all bytes
        const page = new Uint8Array(512);
        page[0] = 1;
        page[511] = 0x100 - 1;
        return this.#answer(page);
      }
      case SMART.READ_LOG:
        return this.#answer(new Uint8Array(512));
      default:
        return this.abort();
    }
  }

  /** IDENTIFY DEVICE (6.17). */
  #identity(): Uint8Array {
    const s = this.state;
    const words = new Uint16Array(256);
    const sectors = this.#sectors;
    const { cylinders, heads, sectors: perTrack } = guessGeometry(sectors);
    const cache = this.drive?.writeCache.load() !== 0;
    words[0] = 0x0040;
    words[1] = words[54] = cylinders;
    words[3] = words[55] = heads;
    words[6] = words[56] = perTrack;
    putText(words, 10, 10, this.config.serial);
    putText(words, 23, 4, FIRMWARE);
    putText(words, 27, 20, this.config.model);
    words[47] = 0x8000 | MAX_MULTIPLE;
    words[48] = 1; // 32-bit data register
    words[49] = (1 << 11) | (1 << 9) | (1 << 8); // IORDY, LBA, DMA
    words[53] = 7;
    const chs = cylinders * heads * perTrack;
    words[57] = chs;
    words[58] = chs >>> 16;
    if (s.multiple !== 0) words[59] = 0x100 | s.multiple;
    const lba28 = Math.min(sectors, LBA28_MAX);
    words[60] = lba28;
    words[61] = lba28 >>> 16;
    words[63] = 0x07 | selected(s.mdmaMode);
    words[64] = 3; // PIO modes 3 and 4
    words.fill(120, 65, 69);
    words[80] = 0xf0; // ATA-4 to ATA-7
    words[82] = (1 << 14) | (1 << 5) | 1; // NOP, write cache, SMART
    words[83] = (1 << 14) | (1 << 13) | (1 << 12) | (1 << 10); // FLUSH CACHE EXT, FLUSH CACHE, 48 bits
    words[84] = 1 << 14;
    words[85] = (1 << 14) | (cache ? 1 << 5 : 0) | (s.smart ? 1 : 0);
    words[86] = (1 << 13) | (1 << 12) | (1 << 10);
    words[87] = 1 << 14;
    words[88] = 0x3f | selected(s.udmaMode);
    words[93] = 0x6001; // 80 wires
    for (let i = 0; i < 4; i++) words[100 + i] = Math.floor(sectors / 2 ** (16 * i)) % 65536;
    words[105] = 1; // blocks of DATA SET MANAGEMENT
    words[169] = 1; // TRIM
    return new Uint8Array(words.buffer);
  }
}

/** The bit of the identity that shows the selected transfer mode. */
export function selected(mode: number): number {
  return mode > 7 ? 0 : 1 << (8 + mode);
}
