/**
 * An ATAPI CD-ROM drive. ATA/ATAPI-7, volume 1, 6.24 (PACKET); packet commands of MMC-3: INQUIRY, READ, READ TOC, MODE SENSE,
 * GET CONFIGURATION, GET EVENT STATUS NOTIFICATION and those that go with them.
 */
import type { Pieces } from '../guest-ram.ts';
import { IdeDrive, putText } from './ide-drive.ts';
import { selected } from './ata-disk.ts';
import { ER, IDE_OP, PHASE, PRD_END, ST } from './ide-state.ts';
import { PrdReader } from './prd.ts';
import { tableOfContents } from './toc.ts';

const COMMAND = {
  NOP: 0x00,
  DEVICE_RESET: 0x08,
  DIAGNOSTIC: 0x90,
  PACKET: 0xa0,
  IDENTIFY_PACKET: 0xa1,
  FLUSH_CACHE: 0xe7,
  CHECK_POWER: 0xe5,
  IDENTIFY: 0xec,
  SET_FEATURES: 0xef,
} as const;
const POWER_COMMANDS = [0x94, 0x95, 0x96, 0x97, 0x99, 0xe0, 0xe1, 0xe2, 0xe3, 0xe6, COMMAND.FLUSH_CACHE];
const POWER_ACTIVE = 0xff;
const SET_TRANSFER_MODE = 0x03;

const PACKET = {
  TEST_UNIT_READY: 0x00,
  REQUEST_SENSE: 0x03,
  INQUIRY: 0x12,
  START_STOP: 0x1b,
  PREVENT_ALLOW: 0x1e,
  READ_CAPACITY: 0x25,
  READ_10: 0x28,
  SEEK: 0x2b,
  READ_TOC: 0x43,
  GET_CONFIGURATION: 0x46,
  GET_EVENT_STATUS: 0x4a,
  READ_DISC_INFORMATION: 0x51,
  MODE_SENSE_10: 0x5a,
  READ_12: 0xa8,
  SET_SPEED: 0xbb,
  MECHANISM_STATUS: 0xbd,
  READ_CD: 0xbe,
} as const;
/** Packets that need a disc. */
const NEEDS_MEDIUM: readonly number[] = [
  PACKET.TEST_UNIT_READY,
  PACKET.READ_CAPACITY,
  PACKET.READ_10,
  PACKET.SEEK,
  PACKET.READ_TOC,
  PACKET.READ_DISC_INFORMATION,
  PACKET.READ_12,
  PACKET.READ_CD,
];

const SENSE = { NONE: 0, NOT_READY: 2, MEDIUM_ERROR: 3, ILLEGAL_REQUEST: 5 } as const;
const ASC = {
  UNRECOVERED_READ: 0x11,
  INVALID_OPCODE: 0x20,
  OUT_OF_RANGE: 0x21,
  INVALID_FIELD: 0x24,
  SAVING_NOT_SUPPORTED: 0x39,
  NO_MEDIUM: 0x3a,
  REMOVAL_PREVENTED: 0x53,
} as const;

/** Interrupt reason, in the sector count register (7.10.6). */
const REASON = { COMMAND: 1, TO_HOST: 2 } as const;
const FEATURE_DMA = 1;
const FEATURE_OVERLAP = 2;
const PACKET_SIZE = 12;
const SECTOR_SIZE = 2048;
/** Discs above this are DVDs. */
const CD_SECTORS = (80 * 60 + 1) * 75;
const PROFILE = { NONE: 0, CD_ROM: 0x08, DVD_ROM: 0x10 } as const;
const FIRMWARE = '2.5+';

/** *Thread:* any. *Lock:* BQL. */
export class AtapiCdrom extends IdeDrive {
  override signature(): void {
    const s = this.state;
    s.sectorCount = s.lbaLow = 1;
    s.lbaMid = 0x14;
    s.lbaHigh = 0xeb;
  }

  /** Sectors of 2048 bytes; 0 without a disc. */
  get #sectors(): number {
    if (this.drive === undefined || this.state.trayOpen) return 0;
    return Math.floor(this.drive.size.load() / SECTOR_SIZE);
  }
  get #hasMedium(): boolean {
    return this.drive !== undefined && !this.state.trayOpen;
  }

  override softReset(): void {
    super.softReset();
    // a packet drive says that it is ready for packets only
    this.state.status = 0;
  }

  override execute(command: number): void {
    const s = this.state;
    s.command = command;
    switch (command) {
      case COMMAND.PACKET:
        return this.#awaitPacket();
      case COMMAND.IDENTIFY_PACKET:
        return this.#sendIdentity();
      case COMMAND.IDENTIFY:
        this.signature();
        return this.abort();
      case COMMAND.DEVICE_RESET:
        this.softReset();
        return;
      case COMMAND.DIAGNOSTIC:
        this.signature();
        s.status = 0;
        s.error = 1;
        this.channel.raiseIrq();
        return;
      case COMMAND.SET_FEATURES:
        if (s.feature === SET_TRANSFER_MODE) {
          const kind = s.sectorCount >> 3;
          s.mdmaMode = kind === 4 ? s.sectorCount & 7 : 0xff;
          s.udmaMode = kind === 8 ? s.sectorCount & 7 : 0xff;
        }
        return this.finish();
      case COMMAND.CHECK_POWER:
        s.sectorCount = POWER_ACTIVE;
        return this.finish();
      default:
        return POWER_COMMANDS.includes(command) ? this.finish() : this.abort();
    }
  }

  // --- the protocol of packets ---

  #awaitPacket(): void {
    const s = this.state;
    if ((s.feature & FEATURE_OVERLAP) !== 0) return this.abort();
    s.packetDma = (s.feature & FEATURE_DMA) !== 0;
    s.sectorCount = (s.sectorCount & ~7) | REASON.COMMAND;
    s.position = 0;
    s.blockEnd = s.bufferEnd = PACKET_SIZE;
    this.offerBlock(PHASE.PACKET);
  }

  #packetOk(): void {
    const s = this.state;
    s.sectorCount = (s.sectorCount & ~7) | REASON.TO_HOST | REASON.COMMAND;
    s.senseKey = SENSE.NONE;
    s.asc = 0;
    this.finish();
  }

  #packetFailed(key: number, asc: number): void {
    const s = this.state;
    s.sectorCount = (s.sectorCount & ~7) | REASON.TO_HOST | REASON.COMMAND;
    s.senseKey = key;
    s.asc = asc;
    this.abort((key << 4) | ER.ABRT);
  }

  /** Gives the host up to `limit` bytes of `data`. */
  #reply(data: Uint8Array, limit: number): void {
    const s = this.state;
    const length = Math.min(data.length, limit);
    if (length === 0) return this.#packetOk();
    this.buffer.set(data.subarray(0, length));
    s.left = 0;
    s.position = 0;
    s.bufferEnd = length;
    if (s.packetDma) {
      this.offerBlock(PHASE.DMA);
      this.channel.dmaReady();
    } else this.#offerData();
  }

  /** The next block of the buffer, no longer than the host has asked for in the byte count registers. */
  #offerData(): void {
    const s = this.state;
    // the host's limit was put away when the first block was offered: the registers now hold block sizes
    let limit = s.blockSize;
    if (limit % 2 !== 0) limit--;
    const size = Math.min(s.bufferEnd - s.position, limit);
    s.blockEnd = s.position + size;
    s.lbaMid = size;
    s.lbaHigh = size >> 8;
    s.sectorCount = (s.sectorCount & ~7) | REASON.TO_HOST;
    this.offerBlock(PHASE.PACKET_IN);
    this.channel.raiseIrq();
  }

  override blockDone(): void {
    const s = this.state;
    if (s.phase === PHASE.PACKET) {
      s.packet.set(this.buffer.subarray(0, PACKET_SIZE));
      // 0 stands for as much as there is; FFFFh is taken for FFFEh
      s.blockSize = Math.min((s.lbaHigh << 8) | s.lbaMid || 0xfffe, 0xfffe);
      if (s.blockSize < 2) s.blockSize = 2;
      s.phase = PHASE.NONE;
      this.#packet();
    } else if (s.phase === PHASE.PIO_IN) {
      s.phase = PHASE.NONE;
      s.status = ST.READY | ST.SEEK;
    } else if (s.position < s.bufferEnd) this.#offerData();
    else if (s.left > 0) this.#readMore();
    else this.#packetOk();
  }

  override dmaStart(table: number): void {
    const s = this.state;
    if (s.left > 0) {
      this.post(IDE_OP.READ, s.offset, s.left, table);
      return;
    }
    const reader = new PrdReader(this.ram, table);
    const pieces: Pieces = reader.take(s.bufferEnd, s.bufferEnd);
    let done = 0;
    for (const piece of pieces) {
      piece.set(this.buffer.subarray(done, done + piece.length));
      done += piece.length;
    }
    this.ram.allWritten(pieces);
    const short = done < s.bufferEnd;
    this.#dmaDone(
      short ? (reader.bad ? PRD_END.BAD : PRD_END.SHORTER) : reader.hasMore ? PRD_END.LONGER : PRD_END.EXACT,
    );
  }

  #dmaDone(prdEnd: number): void {
    this.channel.dmaEnded(prdEnd);
    if (prdEnd === PRD_END.BAD) this.#packetFailed(SENSE.ILLEGAL_REQUEST, ASC.INVALID_FIELD);
    else this.#packetOk();
  }

  override requestDone(errno: number): void {
    const s = this.state;
    const dma = s.phase === PHASE.DMA;
    if (errno !== 0) {
      if (dma) this.channel.dmaEnded(s.request.prdEnd);
      return this.#packetFailed(SENSE.MEDIUM_ERROR, ASC.UNRECOVERED_READ);
    }
    if (dma) return this.#dmaDone(s.request.prdEnd);
    s.offset += s.request.length;
    s.left -= s.request.length;
    s.position = 0;
    s.bufferEnd = s.request.length;
    this.#offerData();
  }

  // --- packets ---

  #byte(at: number): number {
    return this.state.packet[at];
  }
  #word(at: number): number {
    return (this.#byte(at) << 8) | this.#byte(at + 1);
  }
  #long(at: number): number {
    return this.#word(at) * 65536 + this.#word(at + 2);
  }

  #packet(): void {
    const command = this.#byte(0);
    if (NEEDS_MEDIUM.includes(command) && !this.#hasMedium) {
      return this.#packetFailed(SENSE.NOT_READY, ASC.NO_MEDIUM);
    }
    switch (command) {
      case PACKET.TEST_UNIT_READY:
      case PACKET.SET_SPEED:
        return this.#packetOk();
      case PACKET.REQUEST_SENSE:
        return this.#requestSense();
      case PACKET.INQUIRY:
        return this.#inquiry();
      case PACKET.START_STOP:
        return this.#startStop();
      case PACKET.PREVENT_ALLOW:
        this.state.trayLocked = (this.#byte(4) & 1) !== 0;
        return this.#packetOk();
      case PACKET.READ_CAPACITY: {
        const reply = new Uint8Array(8);
        new DataView(reply.buffer).setUint32(0, Math.max(0, this.#sectors - 1));
        new DataView(reply.buffer).setUint32(4, SECTOR_SIZE);
        return this.#reply(reply, 8);
      }
      case PACKET.READ_10:
        return this.#read(this.#long(2), this.#word(7));
      case PACKET.READ_12:
        return this.#read(this.#long(2), this.#long(6));
      case PACKET.READ_CD:
        return this.#readCd();
      case PACKET.SEEK:
        if (this.#long(2) >= this.#sectors)
          return this.#packetFailed(SENSE.ILLEGAL_REQUEST, ASC.OUT_OF_RANGE);
        return this.#packetOk();
      case PACKET.READ_TOC: {
        const format = (this.#byte(9) >> 6) | (this.#byte(2) & 0x0f);
        const toc = tableOfContents(format, this.#sectors, (this.#byte(1) & 2) !== 0, this.#byte(6));
        if (toc === undefined) return this.#packetFailed(SENSE.ILLEGAL_REQUEST, ASC.INVALID_FIELD);
        return this.#reply(toc, this.#word(7));
      }
      case PACKET.GET_CONFIGURATION:
        return this.#configuration();
      case PACKET.GET_EVENT_STATUS:
        return this.#eventStatus();
      case PACKET.READ_DISC_INFORMATION:
        return this.#discInformation();
      case PACKET.MODE_SENSE_10:
        return this.#modeSense();
      case PACKET.MECHANISM_STATUS: {
        const reply = new Uint8Array(8);
        reply[5] = 1; // one slot
        return this.#reply(reply, this.#word(8));
      }
      default:
        return this.#packetFailed(SENSE.ILLEGAL_REQUEST, ASC.INVALID_OPCODE);
    }
  }

  #requestSense(): void {
    const s = this.state;
    const reply = new Uint8Array(18);
    reply[0] = 0xf0;
    reply[2] = s.senseKey;
    reply[7] = 10;
    reply[12] = s.asc;
    this.#reply(reply, this.#byte(4));
  }

  #inquiry(): void {
    // vital product data pages: none
    if ((this.#byte(1) & 1) !== 0) return this.#packetFailed(SENSE.ILLEGAL_REQUEST, ASC.INVALID_FIELD);
    const reply = new Uint8Array(36);
    reply.set([0x05, 0x80, 0x00, 0x21, 31]);
    reply.set(new TextEncoder().encode('QEMU    '), 8);
    reply.set(new TextEncoder().encode(this.config.model.padEnd(16).slice(0, 16)), 16);
    reply.set(new TextEncoder().encode(FIRMWARE.padEnd(4)), 32);
    this.#reply(reply, this.#word(3));
  }

  #startStop(): void {
    const s = this.state;
    const bits = this.#byte(4);
    if ((bits & 2) !== 0) {
      const load = (bits & 1) !== 0;
      if (!load && s.trayLocked) {
        const key = this.#hasMedium ? SENSE.ILLEGAL_REQUEST : SENSE.NOT_READY;
        return this.#packetFailed(key, ASC.REMOVAL_PREVENTED);
      }
      s.trayOpen = !load;
    }
    this.#packetOk();
  }

  #read(sector: number, count: number): void {
    const s = this.state;
    if (count === 0) return this.#packetOk();
    if (sector + count > this.#sectors) return this.#packetFailed(SENSE.ILLEGAL_REQUEST, ASC.OUT_OF_RANGE);
    s.offset = sector * SECTOR_SIZE;
    s.left = count * SECTOR_SIZE;
    s.bufferEnd = s.position = 0;
    if (s.packetDma) {
      this.offerBlock(PHASE.DMA);
      this.channel.dmaReady();
    } else this.#readMore();
  }

  #readMore(): void {
    const s = this.state;
    s.phase = PHASE.PACKET_IN;
    this.post(IDE_OP.READ, s.offset, Math.min(s.left, this.bufferSize));
  }

  /** User data of data sectors only; nothing when none of the fields is asked for. */
  #readCd(): void {
    const count = (this.#byte(6) << 16) | this.#word(7);
    const fields = this.#byte(9) & 0xf8;
    if (count === 0 || fields === 0) return this.#packetOk();
    if (fields !== 0x10) return this.#packetFailed(SENSE.ILLEGAL_REQUEST, ASC.INVALID_FIELD);
    this.#read(this.#long(2), count);
  }

  #profile(): number {
    const sectors = this.#sectors;
    return sectors === 0 ? PROFILE.NONE : sectors > CD_SECTORS ? PROFILE.DVD_ROM : PROFILE.CD_ROM;
  }

  #configuration(): void {
    const current = this.#profile();
    // header, then features: profile list, core, removable medium
    const reply = new Uint8Array(8 + 12 + 12 + 8);
    const view = new DataView(reply.buffer);
    view.setUint32(0, reply.length - 4);
    view.setUint16(6, current);
    reply.set([0, 0, 0x03, 8], 8);
    [PROFILE.DVD_ROM, PROFILE.CD_ROM].forEach((profile, i) => {
      view.setUint16(12 + i * 4, profile);
      reply[14 + i * 4] = profile === current ? 1 : 0;
    });
    reply.set([0, 1, 0x0b, 8], 20);
    view.setUint32(24, 2); // ATAPI
    reply[28] = 1;
    reply.set([0, 3, 0x03, 4, 0x29], 32); // tray, ejects, locks
    this.#reply(reply, this.#word(7));
  }

  #eventStatus(): void {
    if ((this.#byte(1) & 1) === 0) return this.#packetFailed(SENSE.ILLEGAL_REQUEST, ASC.INVALID_FIELD);
    const MEDIA = 4;
    if ((this.#byte(4) & (1 << MEDIA)) === 0) {
      return this.#reply(Uint8Array.of(0, 2, 0x80, 1 << MEDIA), this.#word(7));
    }
    const state = (this.state.trayOpen ? 1 : 0) | (this.#hasMedium ? 2 : 0);
    this.#reply(Uint8Array.of(0, 6, MEDIA, 1 << MEDIA, 0, state, 0, 0), this.#word(7));
  }

  #discInformation(): void {
    if ((this.#byte(1) & 7) !== 0) return this.#packetFailed(SENSE.ILLEGAL_REQUEST, ASC.INVALID_FIELD);
    const reply = new Uint8Array(34);
    reply[1] = 32;
    reply[2] = 0x0e; // complete, last session complete
    reply.fill(1, 3, 7); // first track, sessions, first and last track of the last session
    reply[7] = 0x20; // unrestricted use
    this.#reply(reply, this.#word(7));
  }

  #modeSense(): void {
    const control = this.#byte(2) >> 6;
    const page = this.#byte(2) & 0x3f;
    if (control === 3) return this.#packetFailed(SENSE.ILLEGAL_REQUEST, ASC.SAVING_NOT_SUPPORTED);
    const body = control === 0 ? MODE_PAGES[page]?.(this.state.trayLocked) : undefined;
    if (body === undefined) return this.#packetFailed(SENSE.ILLEGAL_REQUEST, ASC.INVALID_FIELD);
    const reply = new Uint8Array(8 + body.length);
    new DataView(reply.buffer).setUint16(0, reply.length - 2);
    reply[2] = this.#hasMedium ? 1 : 0x70; // data CD, or no disc
    reply.set(body, 8);
    this.#reply(reply, this.#word(7));
  }

  /** IDENTIFY PACKET DEVICE (6.18). */
  #sendIdentity(): void {
    const s = this.state;
    const words = new Uint16Array(256);
    words[0] = (2 << 14) | (5 << 8) | (1 << 7) | (2 << 5); // ATAPI, CD-ROM, removable, 50 us, packets of 12 bytes
    putText(words, 10, 10, this.config.serial);
    putText(words, 23, 4, FIRMWARE);
    putText(words, 27, 20, this.config.model);
    words[48] = 1;
    words[49] = (1 << 9) | (1 << 8); // LBA, DMA
    words[53] = 7;
    words[63] = 0x07 | selected(s.mdmaMode);
    words[64] = 3;
    words.fill(0xb4, 65, 67);
    words[67] = 0x12c;
    words[68] = 0xb4;
    words[71] = words[72] = 30;
    words[80] = 0x1e; // up to ATA/ATAPI-4
    words[88] = 0x3f | selected(s.udmaMode);
    words[93] = 0x6001;
    this.buffer.set(new Uint8Array(words.buffer));
    s.left = 0;
    s.position = 0;
    s.bufferEnd = s.blockEnd = 512;
    this.offerBlock(PHASE.PIO_IN);
    this.channel.raiseIrq();
  }
}

/** Mode pages by number, with their headers. */
const MODE_PAGES: Readonly<Record<number, (locked: boolean) => Uint8Array>> = {
  // error recovery
  0x01: () => Uint8Array.of(0x01, 6, 0, 5, 0, 0, 0, 0),
  // audio control
  0x0e: () => Uint8Array.of(0x0e, 14, 4, 0, 0, 0, 0, 0, 1, 0xff, 2, 0xff, 0, 0, 0, 0),
  // capabilities: reads CD-R, CD-RW, DVD-ROM; mode 2, multisession; tray, ejects, locks; 706 KB/s
  0x2a: (locked) =>
    Uint8Array.of(
      0x2a,
      18,
      0x3b,
      0,
      0x70,
      0x60,
      0x29 | (locked ? 2 : 0),
      0,
      2,
      0xc2,
      0,
      2,
      2,
      0,
      2,
      0xc2,
      0,
      0,
      0,
      0,
    ),
};
