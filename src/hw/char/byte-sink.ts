/** Where a character device's output goes: in a machine, a ring in shared memory that the host drains. */
export interface ByteSink {
  /** Takes a byte, or says false when there is no room. *May block:* no. */
  write(byte: number): boolean;
}

/** A sink that writes to a byte ring (`SpscRing`). The BQL makes all vCPUs one producer. */
export function ringSink(ring: { writeByte(value: number): boolean }): ByteSink {
  return { write: (byte) => ring.writeByte(byte) };
}
