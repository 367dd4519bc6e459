/** What format an image seems to have, by its first bytes. */

/** Bytes to look at. */
export const PROBE_SIZE = 512;

/** Signatures at offset 0. */
const SIGNATURES: readonly (readonly [format: string, bytes: string])[] = [
  ['vmdk', 'KDMV'],
  ['vmdk', 'COWD'],
  ['vmdk', '# Disk DescriptorFile'],
  ['vhdx', 'vhdxfile'],
  ['vpc', 'conectix'],
  ['parallels', 'WithoutFreeSpace'],
  ['parallels', 'WithouFreSpacExt'],
  ['qed', 'QED\0'],
  ['luks', 'LUKS\xba\xbe'],
  ['bochs', 'Bochs Virtual HD Image'],
];

/** `qcow2`, another format that QEMU knows, or `raw`. `head`: the first PROBE_SIZE bytes, less if the file is shorter. */
export function probeFormat(head: Uint8Array): string {
  const text = Buffer.from(head).toString('latin1');
  if (text.startsWith('QFI\xfb') && head.length >= 8) {
    return new DataView(head.buffer, head.byteOffset).getUint32(4) >= 2 ? 'qcow2' : 'qcow';
  }
  if (text.slice(0x40, 0x44) === '\x7f\x10\xda\xbe') return 'vdi';
  for (const [format, signature] of SIGNATURES) if (text.startsWith(signature)) return format;
  return 'raw';
}
