/** The table of contents of a disc with one data track. MMC-3, 6.26. */

const LEAD_OUT = 0xaa;
const DATA_TRACK = 0x14;
/** Frames of the first two seconds, which come before sector 0. */
const PREGAP = 150;
const FRAMES = 75;

/** Minute, second and frame of a sector, after a byte 0; or its number. */
function address(sector: number, msf: boolean): number[] {
  if (!msf) return [sector >>> 24, (sector >>> 16) & 255, (sector >>> 8) & 255, sector & 255];
  const frame = sector + PREGAP;
  return [0, Math.floor(frame / FRAMES / 60) & 255, Math.floor(frame / FRAMES) % 60, frame % FRAMES];
}

function withHeader(body: readonly number[]): Uint8Array {
  const length = 2 + body.length;
  return Uint8Array.from([length >> 8, length & 255, 1, 1, ...body]);
}

/**
 * Format 0: tracks from `start` on and lead-out; 1: sessions; 2: all that is in the lead-in. Undefined when there is no
 * such track or format.
 */
export function tableOfContents(
  format: number,
  sectors: number,
  msf: boolean,
  start: number,
): Uint8Array | undefined {
  switch (format) {
    case 0: {
      if (start > 1 && start !== LEAD_OUT) return undefined;
      const track = start <= 1 ? [0, DATA_TRACK, 1, 0, ...address(0, msf)] : [];
      return withHeader([...track, 0, 0x16, LEAD_OUT, 0, ...address(sectors, msf)]);
    }
    case 1:
      return withHeader([0, DATA_TRACK, 1, 0, ...address(0, msf)]);
    case 2: {
      const point = (which: number, pmin: readonly number[]): number[] => [
        1,
        DATA_TRACK,
        0,
        which,
        0,
        0,
        0,
        ...pmin,
      ];
      return withHeader([
        ...point(0xa0, [0, 1, 0, 0]),
        ...point(0xa1, [0, 1, 0, 0]),
        ...point(0xa2, address(sectors, true)),
        ...point(1, address(0, true)),
      ]);
    }
    default:
      return undefined;
  }
}
