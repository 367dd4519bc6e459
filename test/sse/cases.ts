/** Every instruction form under test: how to assemble it, which semantics it is, what operands suit it. */
import type { Form } from './machine.ts';

/** Which operand values are interesting. */
export type Values = 'single' | 'double' | 'integer' | 'string' | 'shift';

export interface TestCase extends Form {
  readonly text: string;
  readonly values: Values;
  /** EFLAGS bits that it sets, else 0. */
  readonly flags: number;
  /** Results are approximations: compared with this relative error as singles. */
  readonly tolerance?: number;
  readonly mmx: boolean;
}

const XMM = ['xmm1', 'xmm2', 'xmm0'];
const MM = ['mm1', 'mm2'];
const GENERAL_32 = ['r8d', 'r9d'];
const GENERAL_64 = ['r8', 'r9'];
const ARITHMETIC = 0x8d5;
const POINTER: Record<number, string> = { 1: 'byte', 2: 'word', 4: 'dword', 8: 'qword', 16: 'xmmword' };

interface Options {
  readonly values?: Values;
  /** Bytes of a memory operand. */
  readonly memory?: number;
  readonly size?: number;
  readonly immediates?: readonly number[];
  readonly flags?: number;
  /** Assembler mnemonic when it is not the name. */
  readonly mnemonic?: string;
  readonly tolerance?: number;
  /** Bytes of a general register operand. */
  readonly general?: number;
}

function operandText(kind: string, n: number, o: Options): string {
  switch (kind) {
    case 'x':
      return XMM[n];
    case 'q':
      return MM[n];
    case 'm':
      return `${POINTER[o.memory ?? 16]} ptr [rbx]`;
    default:
      return (o.general ?? o.size ?? 4) === 8 ? GENERAL_64[n] : GENERAL_32[n];
  }
}

const cases: TestCase[] = [];
function add(names: string, forms: string, options: Options = {}): void {
  for (const name of names.split(' ')) {
    for (const form of forms.split(' ')) {
      const immediate = form.endsWith('i');
      const kinds = form === '-' ? [] : [...(immediate ? form.slice(0, -1) : form)];
      // a third vector operand is XMM0, implicit in the encoding
      const operands = kinds.map((k, n) => operandText(k, n, options));
      for (const imm of immediate ? (options.immediates ?? IMMEDIATES) : [undefined]) {
        const all = imm === undefined ? operands : [...operands, String(imm)];
        cases.push({
          name,
          form: form === '-' ? '' : form,
          size: options.size ?? 4,
          immediate: imm,
          text: `${options.mnemonic ?? name} ${all.join(', ')}`,
          values: options.values ?? 'integer',
          flags: options.flags ?? 0,
          tolerance: options.tolerance,
          mmx: form.includes('q'),
        });
      }
    }
  }
}

const IMMEDIATES = [
  0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 27, 31, 32, 63, 64, 78, 85, 108, 127, 128, 141, 170, 177, 216, 228, 255,
];
const ALL_128 = Array.from({ length: 128 }, (_, i) => i);

// --- MMX and XMM integers ---
const BOTH =
  'packsswb pcmpgtb pcmpgtw pcmpgtd packuswb punpckhbw punpckhwd punpckhdq packssdw pcmpeqb pcmpeqw pcmpeqd paddq pmullw psubusb psubusw pminub pand paddusb paddusw pmaxub pandn pavgb pavgw pmulhuw pmulhw psubsb psubsw pminsw por paddsb paddsw pmaxsw pxor pmuludq pmaddwd psadbw psubb psubw psubd psubq paddb paddw paddd pshufb phaddw phaddd phaddsw pmaddubsw phsubw phsubd phsubsw psignb psignw psignd pmulhrsw pabsb pabsw pabsd';
add(BOTH, 'xx xm');
add(BOTH, 'qq qm', { memory: 8 });
add('punpcklbw punpcklwd punpckldq', 'xx xm');
add('punpcklbw punpcklwd punpckldq', 'qq qm', { memory: 4 });
const SHIFTS = 'psrlw psrld psrlq psraw psrad psllw pslld psllq';
add(SHIFTS, 'xx xm', { values: 'shift' });
add(SHIFTS, 'qq qm', { values: 'shift', memory: 8 });
add(SHIFTS, 'xi qi');
add('psrldq pslldq', 'xi');
add(
  'pmuldq pcmpeqq packusdw pminsb pminsd pminuw pminud pmaxsb pmaxsd pmaxuw pmaxud pmulld phminposuw pcmpgtq',
  'xx xm',
);
add('punpcklqdq punpckhqdq', 'xx xm');
add('pmovsxbw pmovzxbw pmovsxwd pmovzxwd pmovsxdq pmovzxdq', 'xx xm', { memory: 8 });
add('pmovsxbd pmovzxbd pmovsxwq pmovzxwq', 'xx xm', { memory: 4 });
add('pmovsxbq pmovzxbq', 'xx xm', { memory: 2 });
add('pshufd pshufhw pshuflw palignr pblendw mpsadbw blendps blendpd shufps shufpd', 'xxi xmi');
add('pshufw palignr', 'qqi qmi', { memory: 8 });
add('pblendvb blendvps blendvpd', 'xxx xmx');
add('ptest', 'xx xm', { flags: ARITHMETIC });

// --- moves ---
add('movups movupd movdqu movaps movapd movdqa', 'xx xm mx');
add('movntps movntpd movntdq', 'mx');
add('movntdqa lddqu', 'xm');
add('movss', 'xx xm mx', { memory: 4 });
add('movsd_xmm', 'xx xm mx', { memory: 8, mnemonic: 'movsd' });
add('movhlps movlhps', 'xx');
add('movlps movlpd movhps movhpd', 'xm mx', { memory: 8 });
add('movsldup movshdup', 'xx xm');
add('movddup', 'xx xm', { memory: 8 });
add('unpcklps unpckhps unpcklpd unpckhpd', 'xx xm');
add('andps andpd orps orpd xorps xorpd andnps andnpd', 'xx xm');
add('movd', 'xr xm rx mx qr qm rq mq', { memory: 4 });
add('movq', 'xr xm rx mx xx qr qm rq mq qq', { memory: 8, general: 8 });
add('movq2dq', 'xq');
add('movdq2q', 'qx');
add('movntq', 'mq', { memory: 8 });
add('movmskps movmskpd pmovmskb', 'rx');
add('pmovmskb', 'rq');
add('pinsrb', 'xri xmi', { memory: 1 });
add('pinsrw', 'xri xmi qri qmi', { memory: 2 });
add('pinsrd', 'xri xmi', { memory: 4 });
add('pinsrq', 'xri xmi', { memory: 8, general: 8 });
add('pextrb', 'rxi mxi', { memory: 1 });
add('pextrw', 'rxi mxi rqi', { memory: 2 });
add('pextrd extractps', 'rxi mxi', { memory: 4 });
add('pextrq', 'rxi mxi', { memory: 8, general: 8 });
add('insertps', 'xxi xmi', { memory: 4 });
add('maskmovdqu', 'xx');
add('maskmovq', 'qq');
add('ldmxcsr stmxcsr', 'm', { memory: 4 });

// --- floating point ---
for (const operation of ['add', 'sub', 'mul', 'div', 'min', 'max', 'sqrt']) {
  add(`${operation}ps`, 'xx xm', { values: 'single' });
  add(`${operation}pd`, 'xx xm', { values: 'double' });
  add(`${operation}ss`, 'xx xm', { values: 'single', memory: 4 });
  add(`${operation}sd`, 'xx xm', { values: 'double', memory: 8 });
}
add('haddps hsubps addsubps', 'xx xm', { values: 'single' });
add('haddpd hsubpd addsubpd', 'xx xm', { values: 'double' });
const PREDICATES = [0, 1, 2, 3, 4, 5, 6, 7, 0xfb];
add('cmpps', 'xxi xmi', { values: 'single', immediates: PREDICATES });
add('cmppd', 'xxi xmi', { values: 'double', immediates: PREDICATES });
add('cmpss', 'xxi xmi', { values: 'single', memory: 4, immediates: PREDICATES });
add('cmpsd_xmm', 'xxi xmi', { values: 'double', memory: 8, immediates: PREDICATES, mnemonic: 'cmpsd' });
add('comiss ucomiss', 'xx xm', { values: 'single', memory: 4, flags: ARITHMETIC });
add('comisd ucomisd', 'xx xm', { values: 'double', memory: 8, flags: ARITHMETIC });
const ROUNDINGS = [0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 0xf1];
add('roundps', 'xxi xmi', { values: 'single', immediates: ROUNDINGS });
add('roundpd', 'xxi xmi', { values: 'double', immediates: ROUNDINGS });
add('roundss', 'xxi xmi', { values: 'single', memory: 4, immediates: ROUNDINGS });
add('roundsd', 'xxi xmi', { values: 'double', memory: 8, immediates: ROUNDINGS });
const DOT = [0, 0x11, 0x31, 0x51, 0x71, 0xff, 0xf1, 0x9c, 0x35];
add('dpps', 'xxi xmi', { values: 'single', immediates: DOT });
add('dppd', 'xxi xmi', { values: 'double', immediates: DOT });
add('rcpps rsqrtps', 'xx xm', { values: 'single', tolerance: 1.5 * 2 ** -12 });
add('rcpss rsqrtss', 'xx xm', { values: 'single', memory: 4, tolerance: 1.5 * 2 ** -12 });

// --- conversions ---
for (const size of [4, 8]) {
  add('cvtss2si cvttss2si', 'rx rm', { values: 'single', size, memory: 4 });
  add('cvtsd2si cvttsd2si', 'rx rm', { values: 'double', size, memory: 8 });
  add('cvtsi2ss cvtsi2sd', 'xr xm', { size, memory: size });
}
add('cvtss2sd', 'xx xm', { values: 'single', memory: 4 });
add('cvtsd2ss', 'xx xm', { values: 'double', memory: 8 });
add('cvtps2pd', 'xx xm', { values: 'single', memory: 8 });
add('cvtpd2ps cvtpd2dq cvttpd2dq', 'xx xm', { values: 'double' });
add('cvtps2dq cvttps2dq', 'xx xm', { values: 'single' });
add('cvtdq2ps', 'xx xm');
add('cvtdq2pd', 'xx xm', { memory: 8 });
add('cvtpi2ps cvtpi2pd', 'xq xm', { memory: 8 });
add('cvtps2pi cvttps2pi', 'qx qm', { values: 'single', memory: 8 });
add('cvtpd2pi cvttpd2pi', 'qx qm', { values: 'double' });

// --- strings, AES, carry-less multiplication ---
const STRING = { values: 'string', immediates: ALL_128, flags: ARITHMETIC } as const;
add('pcmpistri pcmpistrm pcmpestri pcmpestrm', 'xxi', STRING);
add('pcmpistri pcmpistrm pcmpestri pcmpestrm', 'xmi', { ...STRING, immediates: [0, 12, 26, 69, 127] });
add('pcmpestri', 'xxi', { ...STRING, size: 8, immediates: [0, 5, 24, 76], mnemonic: 'rex.w pcmpestri' });
add('pcmpestrm', 'xxi', { ...STRING, size: 8, immediates: [8, 29, 64], mnemonic: 'rex.w pcmpestrm' });
add('aesenc aesenclast aesdec aesdeclast aesimc', 'xx xm');
add('aeskeygenassist', 'xxi xmi');
add('pclmulqdq', 'xxi xmi');

export const CASES: readonly TestCase[] = cases;
