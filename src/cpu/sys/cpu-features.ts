/**
 * CPUID feature names (QEMU's) and their bits, which of them smp86 implements, and the CPU models.
 * SDM 2A CPUID; APM 3 appendix E.
 */

/** The feature words, in the order of `FeatureWords`. */
export const WORD = {
  /** Leaf 1 EDX, ECX. */
  F1D: 0,
  F1C: 1,
  /** Leaf 8000_0001h EDX, ECX. */
  E1D: 2,
  E1C: 3,
  /** Leaf 7 EBX, ECX, EDX. */
  S7B: 4,
  S7C: 5,
  S7D: 6,
  /** Leaf 8000_0007h EDX. */
  A7D: 7,
  /** Leaf 6 EAX. */
  P6A: 8,
  /** Leaf 0Dh, subleaf 1 EAX. */
  XSA: 9,
  COUNT: 10,
} as const;

/** Names by word and bit; a bit with an empty name has none. Alternative names are separated by '|'. */
const NAMES: readonly (readonly string[])[] = [
  'fpu vme de pse tsc msr pae mce cx8 apic . sep mtrr pge mca cmov pat pse36 pn clflush . ds acpi mmx fxsr sse sse2 ss ht tm ia64 pbe',
  'pni|sse3 pclmulqdq|pclmuldq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid . fma cx16 xtpr pdcm . pcid dca sse4.1|sse4-1 sse4.2|sse4-2 x2apic movbe popcnt tsc-deadline aes xsave osxsave avx f16c rdrand hypervisor',
  '. . . . . . . . . . . syscall . . . . . . . . nx . mmxext . . fxsr-opt|ffxsr pdpe1gb rdtscp . lm|i64 3dnowext 3dnow',
  'lahf-lm cmp-legacy svm extapic cr8legacy abm|lzcnt sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt . lwp fma4 tce . nodeid-msr . tbm topoext perfctr-core perfctr-nb . . . . . . .',
  'fsgsbase tsc-adjust sgx bmi1 hle avx2 fdp-excptn-only smep bmi2 erms invpcid rtm . zero-fcs-fds mpx . avx512f avx512dq rdseed adx smap avx512ifma pcommit clflushopt clwb intel-pt avx512pf avx512er avx512cd sha-ni avx512bw avx512vl',
  '. avx512vbmi umip pku ospke waitpkg avx512vbmi2 . gfni vaes vpclmulqdq avx512vnni avx512bitalg . avx512-vpopcntdq . la57 . . . . . rdpid . bus-lock-detect cldemote . movdiri movdir64b . sgxlc pks',
  '. . avx512-4vnniw avx512-4fmaps fsrm . . . avx512-vp2intersect . md-clear . . . serialize . tsx-ldtrk . . arch-lbr . . amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp flush-l1d arch-capabilities core-capability ssbd',
  '. . . . . . . . invtsc . . . . . . . . . . . . . . . . . . . . . . .',
  '. . arat . . . . . . . . . . . . . . . . . . . . . . . . . . . . .',
  'xsaveopt xsavec xgetbv1 xsaves . . . . . . . . . . . . . . . . . . . . . . . . . . . .',
].map((line) => line.split(' ').map((name) => (name === '.' ? '' : name)));

const byName = new Map<string, { word: number; bit: number }>();
NAMES.forEach((names, word) =>
  names.forEach((list, bit) => {
    for (const name of list.split('|')) if (name !== '') byName.set(name, { word, bit });
  }),
);

/** Word and bit of a feature; `_` and `-` are the same. */
export function featureBit(name: string): { word: number; bit: number } | undefined {
  return byName.get(name.replaceAll('_', '-').replace(/^sse4-([12])$/, 'sse4.$1'));
}

/** The usual name of a feature bit. */
export function featureName(word: number, bit: number): string {
  return NAMES[word][bit].split('|')[0];
}

function words(names: string): Uint32Array {
  const result = new Uint32Array(WORD.COUNT);
  for (const name of names.split(/\s+/)) {
    if (name === '') continue;
    const at = featureBit(name);
    if (at === undefined) throw new RangeError(`unknown CPU feature ${name}`);
    result[at.word] |= 1 << at.bit;
  }
  return result;
}

/** What the instruction set and the system side implement: nothing else is ever announced. */
export const IMPLEMENTED = words(`
  fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush acpi mmx fxsr sse sse2 ss ht
  pni ssse3 cx16 sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline rdrand hypervisor monitor pcid
  pclmulqdq aes xsave xsaveopt xsavec
  syscall nx mmxext pdpe1gb rdtscp lm
  lahf-lm cmp-legacy abm 3dnowprefetch
  fsgsbase tsc-adjust bmi1 smep bmi2 erms invpcid rdseed adx smap clflushopt clwb
  umip rdpid fsrm
  invtsc arat
`);

export interface ModelDefinition {
  readonly vendor: string;
  readonly family: number;
  readonly model: number;
  readonly stepping: number;
  readonly level: number;
  readonly xlevel: number;
  readonly brand: string;
  readonly features: Uint32Array;
}

const PENTIUM_PRO = 'fpu de pse tsc msr mce cx8 pge cmov pat fxsr mmx sse sse2 pae sep apic';

/** What `max` leaves out although it is implemented: costs time and brings a guest nothing here. */
const NOT_IN_MAX = words('monitor pcid ht cmp-legacy ss xsave xsaveopt xsavec');

/** CPU models by QEMU's names. */
export const MODELS: Readonly<Record<string, ModelDefinition>> = {
  qemu64: {
    vendor: 'AuthenticAMD',
    family: 15,
    model: 107,
    stepping: 1,
    level: 0xd,
    xlevel: 0x8000000a,
    brand: 'QEMU Virtual CPU version 2.5+',
    features: words(`${PENTIUM_PRO} mtrr clflush mca pse36 pni cx16 lm syscall nx lahf-lm hypervisor invtsc`),
  },
  max: {
    vendor: 'AuthenticAMD',
    family: 6,
    model: 6,
    stepping: 3,
    level: 0xd,
    xlevel: 0x8000000a,
    brand: 'smp86 CPU',
    features: IMPLEMENTED.map((word, i) => word & ~NOT_IN_MAX[i]),
  },
};
