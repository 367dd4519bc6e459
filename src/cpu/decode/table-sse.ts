/**
 * MMX, SSE to SSE4.2, AES, PCLMULQDQ, SHA. The notation is described in row.ts; sizes of vector operands are the bytes used.
 * MMX and XMM forms of one mnemonic share a name. Facts from the SDM volume 2.
 */

/** Opcodes of the 0F map with an MMX form (no prefix) and an XMM form (66), both `destination, source`. */
export const PACKED: readonly (readonly [string, string, string])[] = [
  ['60', 'punpcklbw', 'mmx'],
  ['61', 'punpcklwd', 'mmx'],
  ['62', 'punpckldq', 'mmx'],
  ['63', 'packsswb', 'mmx'],
  ['64', 'pcmpgtb', 'mmx'],
  ['65', 'pcmpgtw', 'mmx'],
  ['66', 'pcmpgtd', 'mmx'],
  ['67', 'packuswb', 'mmx'],
  ['68', 'punpckhbw', 'mmx'],
  ['69', 'punpckhwd', 'mmx'],
  ['6A', 'punpckhdq', 'mmx'],
  ['6B', 'packssdw', 'mmx'],
  ['74', 'pcmpeqb', 'mmx'],
  ['75', 'pcmpeqw', 'mmx'],
  ['76', 'pcmpeqd', 'mmx'],
  ['D1', 'psrlw', 'mmx'],
  ['D2', 'psrld', 'mmx'],
  ['D3', 'psrlq', 'mmx'],
  ['D4', 'paddq', 'sse2'],
  ['D5', 'pmullw', 'mmx'],
  ['D8', 'psubusb', 'mmx'],
  ['D9', 'psubusw', 'mmx'],
  ['DA', 'pminub', 'sse'],
  ['DB', 'pand', 'mmx'],
  ['DC', 'paddusb', 'mmx'],
  ['DD', 'paddusw', 'mmx'],
  ['DE', 'pmaxub', 'sse'],
  ['DF', 'pandn', 'mmx'],
  ['E0', 'pavgb', 'sse'],
  ['E1', 'psraw', 'mmx'],
  ['E2', 'psrad', 'mmx'],
  ['E3', 'pavgw', 'sse'],
  ['E4', 'pmulhuw', 'sse'],
  ['E5', 'pmulhw', 'mmx'],
  ['E8', 'psubsb', 'mmx'],
  ['E9', 'psubsw', 'mmx'],
  ['EA', 'pminsw', 'sse'],
  ['EB', 'por', 'mmx'],
  ['EC', 'paddsb', 'mmx'],
  ['ED', 'paddsw', 'mmx'],
  ['EE', 'pmaxsw', 'sse'],
  ['EF', 'pxor', 'mmx'],
  ['F1', 'psllw', 'mmx'],
  ['F2', 'pslld', 'mmx'],
  ['F3', 'psllq', 'mmx'],
  ['F4', 'pmuludq', 'sse2'],
  ['F5', 'pmaddwd', 'mmx'],
  ['F6', 'psadbw', 'sse'],
  ['F8', 'psubb', 'mmx'],
  ['F9', 'psubw', 'mmx'],
  ['FA', 'psubd', 'mmx'],
  ['FB', 'psubq', 'sse2'],
  ['FC', 'paddb', 'mmx'],
  ['FD', 'paddw', 'mmx'],
  ['FE', 'paddd', 'mmx'],
];
/** SSSE3 opcodes of the 0F38 map, MMX and XMM. */
export const SSSE3 =
  '00 pshufb 01 phaddw 02 phaddd 03 phaddsw 04 pmaddubsw 05 phsubw 06 phsubd 07 phsubsw 08 psignb 09 psignw 0A psignd 0B pmulhrsw 1C pabsb 1D pabsw 1E pabsd';
/** SSE4.1 opcodes of the 0F38 map with whole-register operands. */
export const SSE41 =
  '28 pmuldq 29 pcmpeqq 2B packusdw 38 pminsb 39 pminsd 3A pminuw 3B pminud 3C pmaxsb 3D pmaxsd 3E pmaxuw 3F pmaxud 40 pmulld 41 phminposuw';
/** Opcodes of the 0F map with ps, pd, ss and sd forms. */
const FLOAT = '51 sqrt 58 add 59 mul 5C sub 5D min 5E div 5F max';

/** `'00 pshufb 01 phaddw'` as pairs of opcode and name. */
export function pairs(text: string): [string, string][] {
  const words = text.split(' ');
  const out: [string, string][] = [];
  for (let i = 0; i < words.length; i += 2) out.push([words[i], words[i + 1]]);
  return out;
}

function generated(): string[] {
  const rows: string[] = [];
  for (const [op, name, feature] of PACKED) {
    const source = op === '60' || op === '61' || op === '62' ? 'Qd' : 'Qq';
    rows.push(`NP.0F.${op} ${name} Pq,${source} @${feature}`, `66.0F.${op} ${name} Vx,Wx @sse2`);
  }
  for (const [op, name] of pairs(SSSE3)) {
    rows.push(`NP.38.${op} ${name} Pq,Qq @ssse3`, `66.38.${op} ${name} Vx,Wx @ssse3`);
  }
  for (const [op, name] of pairs(SSE41)) rows.push(`66.38.${op} ${name} Vx,Wx @sse4_1`);
  for (const [op, name] of pairs(FLOAT)) {
    rows.push(
      `NP.0F.${op} ${name}ps Vx,Wx @sse`,
      `66.0F.${op} ${name}pd Vx,Wx @sse2`,
      `F3.0F.${op} ${name}ss Vd,Wd @sse`,
      `F2.0F.${op} ${name}sd Vq,Wq @sse2`,
    );
  }
  const widen: [string, string][] = [
    ['bw', 'q'],
    ['bd', 'd'],
    ['bq', 'w'],
    ['wd', 'q'],
    ['wq', 'd'],
    ['dq', 'q'],
  ];
  widen.forEach(([form, size], i) => {
    rows.push(
      `66.38.2${i} pmovsx${form} Vx,W${size} @sse4_1`,
      `66.38.3${i} pmovzx${form} Vx,W${size} @sse4_1`,
    );
  });
  return rows;
}

const COMPARE = 'w=oszapc';

const OTHERS = `
NP.0F.10 movups Vx,Wx @sse
66.0F.10 movupd Vx,Wx @sse2
F3.0F.10 movss Vd,Wd @sse
F2.0F.10 movsd_xmm~movsd Vq,Wq @sse2
NP.0F.11 movups Wx,Vx @sse
66.0F.11 movupd Wx,Vx @sse2
F3.0F.11 movss Wd,Vd @sse
F2.0F.11 movsd_xmm~movsd Wq,Vq @sse2
NP.0F.12 movhlps Vq,Ux @sse
NP.0F.12 movlps Vq,Mq @sse
66.0F.12 movlpd Vq,Mq @sse2
F3.0F.12 movsldup Vx,Wx @sse3
F2.0F.12 movddup Vx,Wq @sse3
NP.0F.13 movlps Mq,Vq @sse
66.0F.13 movlpd Mq,Vq @sse2
NP.0F.14 unpcklps Vx,Wx @sse
66.0F.14 unpcklpd Vx,Wx @sse2
NP.0F.15 unpckhps Vx,Wx @sse
66.0F.15 unpckhpd Vx,Wx @sse2
NP.0F.16 movlhps Vx,Uq @sse
NP.0F.16 movhps Vx,Mq @sse
66.0F.16 movhpd Vx,Mq @sse2
F3.0F.16 movshdup Vx,Wx @sse3
NP.0F.17 movhps Mq,Vx @sse
66.0F.17 movhpd Mq,Vx @sse2
NP.0F.28 movaps Vx,Wx @sse
66.0F.28 movapd Vx,Wx @sse2
NP.0F.29 movaps Wx,Vx @sse
66.0F.29 movapd Wx,Vx @sse2
NP.0F.2A cvtpi2ps Vq,Qq @sse
66.0F.2A cvtpi2pd Vx,Qq @sse2
F3.0F.2A cvtsi2ss Vd,Ey @sse
F2.0F.2A cvtsi2sd Vq,Ey @sse2
NP.0F.2B movntps Mx,Vx @sse
66.0F.2B movntpd Mx,Vx @sse2
NP.0F.2C cvttps2pi Pq,Wq @sse
66.0F.2C cvttpd2pi Pq,Wx @sse2
F3.0F.2C cvttss2si Gy,Wd @sse
F2.0F.2C cvttsd2si Gy,Wq @sse2
NP.0F.2D cvtps2pi Pq,Wq @sse
66.0F.2D cvtpd2pi Pq,Wx @sse2
F3.0F.2D cvtss2si Gy,Wd @sse
F2.0F.2D cvtsd2si Gy,Wq @sse2
NP.0F.2E ucomiss Vd,Wd @sse ${COMPARE}
66.0F.2E ucomisd Vq,Wq @sse2 ${COMPARE}
NP.0F.2F comiss Vd,Wd @sse ${COMPARE}
66.0F.2F comisd Vq,Wq @sse2 ${COMPARE}
NP.0F.50 movmskps Gy,Ux @sse
66.0F.50 movmskpd Gy,Ux @sse2
NP.0F.52 rsqrtps Vx,Wx @sse
F3.0F.52 rsqrtss Vd,Wd @sse
NP.0F.53 rcpps Vx,Wx @sse
F3.0F.53 rcpss Vd,Wd @sse
NP.0F.54 andps Vx,Wx @sse
66.0F.54 andpd Vx,Wx @sse2
NP.0F.55 andnps Vx,Wx @sse
66.0F.55 andnpd Vx,Wx @sse2
NP.0F.56 orps Vx,Wx @sse
66.0F.56 orpd Vx,Wx @sse2
NP.0F.57 xorps Vx,Wx @sse
66.0F.57 xorpd Vx,Wx @sse2
NP.0F.5A cvtps2pd Vx,Wq @sse2
66.0F.5A cvtpd2ps Vx,Wx @sse2
F3.0F.5A cvtss2sd Vq,Wd @sse2
F2.0F.5A cvtsd2ss Vd,Wq @sse2
NP.0F.5B cvtdq2ps Vx,Wx @sse2
66.0F.5B cvtps2dq Vx,Wx @sse2
F3.0F.5B cvttps2dq Vx,Wx @sse2
66.0F.6C punpcklqdq Vx,Wx @sse2
66.0F.6D punpckhqdq Vx,Wx @sse2
NP.0F.6E movd Pq,Ed @mmx
NP.0F.W1.6E movq Pq,Eq @mmx
66.0F.6E movd Vx,Ed @sse2
66.0F.W1.6E movq Vx,Eq @sse2
NP.0F.6F movq Pq,Qq @mmx
66.0F.6F movdqa Vx,Wx @sse2
F3.0F.6F movdqu Vx,Wx @sse2
NP.0F.70 pshufw Pq,Qq,Ub @sse
66.0F.70 pshufd Vx,Wx,Ub @sse2
F3.0F.70 pshufhw Vx,Wx,Ub @sse2
F2.0F.70 pshuflw Vx,Wx,Ub @sse2
NP.0F.71/2 psrlw Nq,Ub @mmx
66.0F.71/2 psrlw Ux,Ub @sse2
NP.0F.71/4 psraw Nq,Ub @mmx
66.0F.71/4 psraw Ux,Ub @sse2
NP.0F.71/6 psllw Nq,Ub @mmx
66.0F.71/6 psllw Ux,Ub @sse2
NP.0F.72/2 psrld Nq,Ub @mmx
66.0F.72/2 psrld Ux,Ub @sse2
NP.0F.72/4 psrad Nq,Ub @mmx
66.0F.72/4 psrad Ux,Ub @sse2
NP.0F.72/6 pslld Nq,Ub @mmx
66.0F.72/6 pslld Ux,Ub @sse2
NP.0F.73/2 psrlq Nq,Ub @mmx
66.0F.73/2 psrlq Ux,Ub @sse2
66.0F.73/3 psrldq Ux,Ub @sse2
NP.0F.73/6 psllq Nq,Ub @mmx
66.0F.73/6 psllq Ux,Ub @sse2
66.0F.73/7 pslldq Ux,Ub @sse2
NP.0F.77 emms - @mmx
66.0F.7C haddpd Vx,Wx @sse3
F2.0F.7C haddps Vx,Wx @sse3
66.0F.7D hsubpd Vx,Wx @sse3
F2.0F.7D hsubps Vx,Wx @sse3
NP.0F.7E movd Ed,Pd @mmx
NP.0F.W1.7E movq Eq,Pq @mmx
66.0F.7E movd Ed,Vd @sse2
66.0F.W1.7E movq Eq,Vq @sse2
F3.0F.7E movq Vx,Wq @sse2
NP.0F.7F movq Qq,Pq @mmx
66.0F.7F movdqa Wx,Vx @sse2
F3.0F.7F movdqu Wx,Vx @sse2
NP.0F.C2 cmpps Vx,Wx,Ub @sse
66.0F.C2 cmppd Vx,Wx,Ub @sse2
F3.0F.C2 cmpss Vd,Wd,Ub @sse
F2.0F.C2 cmpsd_xmm~cmpsd Vq,Wq,Ub @sse2
NP.0F.C4 pinsrw Pq,Ry/Mw,Ub @sse
66.0F.C4 pinsrw Vx,Ry/Mw,Ub @sse2
NP.0F.C5 pextrw Gy,Nq,Ub @sse
66.0F.C5 pextrw Gy,Ux,Ub @sse2
NP.0F.C6 shufps Vx,Wx,Ub @sse
66.0F.C6 shufpd Vx,Wx,Ub @sse2
66.0F.D0 addsubpd Vx,Wx @sse3
F2.0F.D0 addsubps Vx,Wx @sse3
66.0F.D6 movq Wq,Vq @sse2
F3.0F.D6 movq2dq Vx,Nq @sse2
F2.0F.D6 movdq2q Pq,Uq @sse2
NP.0F.D7 pmovmskb Gy,Nq @sse
66.0F.D7 pmovmskb Gy,Ux @sse2
66.0F.E6 cvttpd2dq Vx,Wx @sse2
F3.0F.E6 cvtdq2pd Vx,Wq @sse2
F2.0F.E6 cvtpd2dq Vx,Wx @sse2
NP.0F.E7 movntq Mq,Pq @sse
66.0F.E7 movntdq Mx,Vx @sse2
F2.0F.F0 lddqu Vx,Mx @sse3
NP.0F.F7 maskmovq Pq,Nq @sse
66.0F.F7 maskmovdqu Vx,Ux @sse2
66.38.10 pblendvb Vx,Wx,XMM0 @sse4_1
66.38.14 blendvps Vx,Wx,XMM0 @sse4_1
66.38.15 blendvpd Vx,Wx,XMM0 @sse4_1
66.38.17 ptest Vx,Wx ${COMPARE} @sse4_1
66.38.2A movntdqa Vx,Mx @sse4_1
66.38.37 pcmpgtq Vx,Wx @sse4_2
66.38.DB aesimc Vx,Wx @aes
66.38.DC aesenc Vx,Wx @aes
66.38.DD aesenclast Vx,Wx @aes
66.38.DE aesdec Vx,Wx @aes
66.38.DF aesdeclast Vx,Wx @aes
NP.38.C8 sha1nexte Vx,Wx @sha_ni
NP.38.C9 sha1msg1 Vx,Wx @sha_ni
NP.38.CA sha1msg2 Vx,Wx @sha_ni
NP.38.CB sha256rnds2 Vx,Wx,XMM0 @sha_ni
NP.38.CC sha256msg1 Vx,Wx @sha_ni
NP.38.CD sha256msg2 Vx,Wx @sha_ni
66.3A.08 roundps Vx,Wx,Ub @sse4_1
66.3A.09 roundpd Vx,Wx,Ub @sse4_1
66.3A.0A roundss Vd,Wd,Ub @sse4_1
66.3A.0B roundsd Vq,Wq,Ub @sse4_1
66.3A.0C blendps Vx,Wx,Ub @sse4_1
66.3A.0D blendpd Vx,Wx,Ub @sse4_1
66.3A.0E pblendw Vx,Wx,Ub @sse4_1
NP.3A.0F palignr Pq,Qq,Ub @ssse3
66.3A.0F palignr Vx,Wx,Ub @ssse3
66.3A.14 pextrb Ry/Mb,Vx,Ub @sse4_1
66.3A.15 pextrw Ry/Mw,Vx,Ub @sse4_1
66.3A.16 pextrd Ed,Vx,Ub @sse4_1
66.3A.W1.16 pextrq Eq,Vx,Ub @sse4_1
66.3A.17 extractps Ry/Md,Vx,Ub @sse4_1
66.3A.20 pinsrb Vx,Ry/Mb,Ub @sse4_1
66.3A.21 insertps Vx,Ux/Md,Ub @sse4_1
66.3A.22 pinsrd Vx,Ed,Ub @sse4_1
66.3A.W1.22 pinsrq Vx,Eq,Ub @sse4_1
66.3A.40 dpps Vx,Wx,Ub @sse4_1
66.3A.41 dppd Vx,Wx,Ub @sse4_1
66.3A.42 mpsadbw Vx,Wx,Ub @sse4_1
66.3A.44 pclmulqdq Vx,Wx,Ub @pclmulqdq
66.3A.60 pcmpestrm Vx,Wx,Ub ${COMPARE} @sse4_2
66.3A.61 pcmpestri Vx,Wx,Ub ${COMPARE} @sse4_2
66.3A.62 pcmpistrm Vx,Wx,Ub ${COMPARE} @sse4_2
66.3A.63 pcmpistri Vx,Wx,Ub ${COMPARE} @sse4_2
NP.3A.CC sha1rnds4 Vx,Wx,Ub @sha_ni
66.3A.DF aeskeygenassist Vx,Wx,Ub @aes
`;

/** Rows of MMX and SSE. */
export const SSE_ROWS: readonly string[] = [...generated(), ...OTHERS.trim().split('\n')];
