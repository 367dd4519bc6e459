/**
 * VEX-encoded instructions: AVX, AVX2, FMA, F16C, BMI1, BMI2. The notation is described in row.ts; in addition
 * `@avx/avx2` stands for two rows: 128 bits with the first feature, 256 bits with the second.
 * Facts from the SDM volume 2. Without W0 or W1, L0 or L1 in the opcode the bit is ignored.
 */
import { PACKED, pairs, SSE41, SSSE3 } from './table-sse.ts';

/** Packed shifts whose count is always 128 bits. */
const SHIFTS = ['D1', 'D2', 'D3', 'E1', 'E2', 'F1', 'F2', 'F3'];
const FLOAT = '58 vadd 59 vmul 5C vsub 5D vmin 5E vdiv 5F vmax';
const FMA = '98 fmadd 9A fmsub 9C fnmadd 9E fnmsub';

function hex(n: number): string {
  return n.toString(16).toUpperCase();
}

function generated(): string[] {
  const rows: string[] = [];
  for (const [op, name] of PACKED) {
    rows.push(`v.66.0F.${op} v${name} Vx,Hx,${SHIFTS.includes(op) ? 'Wdq' : 'Wx'} @avx/avx2`);
  }
  for (const [op, name] of [...pairs(SSSE3), ...pairs(SSE41)]) {
    if (name === 'phminposuw') rows.push(`v.66.38.L0.${op} v${name} Vx,Wx @avx`);
    else rows.push(`v.66.38.${op} v${name} ${name.startsWith('pabs') ? 'Vx,Wx' : 'Vx,Hx,Wx'} @avx/avx2`);
  }
  for (const [op, name] of pairs(FLOAT)) {
    rows.push(
      `v.NP.0F.${op} ${name}ps Vx,Hx,Wx @avx`,
      `v.66.0F.${op} ${name}pd Vx,Hx,Wx @avx`,
      `v.F3.0F.${op} ${name}ss Vdq,Hdq,Wd @avx`,
      `v.F2.0F.${op} ${name}sd Vdq,Hdq,Wq @avx`,
    );
  }
  const widen: [string, string][] = [
    ['bw', 'h'],
    ['bd', 'f'],
    ['bq', 'e'],
    ['wd', 'h'],
    ['wq', 'f'],
    ['dq', 'h'],
  ];
  widen.forEach(([form, size], i) => {
    rows.push(
      `v.66.38.2${i} vpmovsx${form} Vx,W${size} @avx/avx2`,
      `v.66.38.3${i} vpmovzx${form} Vx,W${size} @avx/avx2`,
    );
  });
  ['132', '213', '231'].forEach((order, i) => {
    const fused = (op: number, name: string, scalar: boolean) => {
      const code = hex(op + i * 16);
      rows.push(
        `v.66.38.W0.${code} v${name}${order}ps Vx,Hx,Wx @fma`,
        `v.66.38.W1.${code} v${name}${order}pd Vx,Hx,Wx @fma`,
      );
      if (!scalar) return;
      const next = hex(op + 1 + i * 16);
      rows.push(
        `v.66.38.W0.${next} v${name}${order}ss Vdq,Hdq,Wd @fma`,
        `v.66.38.W1.${next} v${name}${order}sd Vdq,Hdq,Wq @fma`,
      );
    };
    fused(0x96, 'fmaddsub', false);
    fused(0x97, 'fmsubadd', false);
    for (const [op, name] of pairs(FMA)) fused(Number.parseInt(op, 16), name, true);
  });
  return rows;
}

const COMPARE = 'w=oszapc';

const OTHERS = `
v.NP.0F.10 vmovups Vx,Wx @avx
v.66.0F.10 vmovupd Vx,Wx @avx
v.F3.0F.10 vmovss Vdq,Md @avx
v.F3.0F.10 vmovss Vdq,Hdq,Ud @avx
v.F2.0F.10 vmovsd Vdq,Mq @avx
v.F2.0F.10 vmovsd Vdq,Hdq,Uq @avx
v.NP.0F.11 vmovups Wx,Vx @avx
v.66.0F.11 vmovupd Wx,Vx @avx
v.F3.0F.11 vmovss Md,Vd @avx
v.F3.0F.11 vmovss Udq,Hdq,Vd @avx
v.F2.0F.11 vmovsd Mq,Vq @avx
v.F2.0F.11 vmovsd Udq,Hdq,Vq @avx
v.NP.0F.L0.12 vmovhlps Vdq,Hdq,Udq @avx
v.NP.0F.L0.12 vmovlps Vdq,Hdq,Mq @avx
v.66.0F.L0.12 vmovlpd Vdq,Hdq,Mq @avx
v.F3.0F.12 vmovsldup Vx,Wx @avx
v.F2.0F.L0.12 vmovddup Vx,Wq @avx
v.F2.0F.L1.12 vmovddup Vx,Wx @avx
v.NP.0F.L0.13 vmovlps Mq,Vq @avx
v.66.0F.L0.13 vmovlpd Mq,Vq @avx
v.NP.0F.14 vunpcklps Vx,Hx,Wx @avx
v.66.0F.14 vunpcklpd Vx,Hx,Wx @avx
v.NP.0F.15 vunpckhps Vx,Hx,Wx @avx
v.66.0F.15 vunpckhpd Vx,Hx,Wx @avx
v.NP.0F.L0.16 vmovlhps Vdq,Hdq,Uq @avx
v.NP.0F.L0.16 vmovhps Vdq,Hdq,Mq @avx
v.66.0F.L0.16 vmovhpd Vdq,Hdq,Mq @avx
v.F3.0F.16 vmovshdup Vx,Wx @avx
v.NP.0F.L0.17 vmovhps Mq,Vdq @avx
v.66.0F.L0.17 vmovhpd Mq,Vdq @avx
v.NP.0F.28 vmovaps Vx,Wx @avx
v.66.0F.28 vmovapd Vx,Wx @avx
v.NP.0F.29 vmovaps Wx,Vx @avx
v.66.0F.29 vmovapd Wx,Vx @avx
v.F3.0F.2A vcvtsi2ss Vdq,Hdq,Ey @avx
v.F2.0F.2A vcvtsi2sd Vdq,Hdq,Ey @avx
v.NP.0F.2B vmovntps Mx,Vx @avx
v.66.0F.2B vmovntpd Mx,Vx @avx
v.F3.0F.2C vcvttss2si Gy,Wd @avx
v.F2.0F.2C vcvttsd2si Gy,Wq @avx
v.F3.0F.2D vcvtss2si Gy,Wd @avx
v.F2.0F.2D vcvtsd2si Gy,Wq @avx
v.NP.0F.2E vucomiss Vd,Wd @avx ${COMPARE}
v.66.0F.2E vucomisd Vq,Wq @avx ${COMPARE}
v.NP.0F.2F vcomiss Vd,Wd @avx ${COMPARE}
v.66.0F.2F vcomisd Vq,Wq @avx ${COMPARE}
v.NP.0F.50 vmovmskps Gy,Ux @avx
v.66.0F.50 vmovmskpd Gy,Ux @avx
v.NP.0F.51 vsqrtps Vx,Wx @avx
v.66.0F.51 vsqrtpd Vx,Wx @avx
v.F3.0F.51 vsqrtss Vdq,Hdq,Wd @avx
v.F2.0F.51 vsqrtsd Vdq,Hdq,Wq @avx
v.NP.0F.52 vrsqrtps Vx,Wx @avx
v.F3.0F.52 vrsqrtss Vdq,Hdq,Wd @avx
v.NP.0F.53 vrcpps Vx,Wx @avx
v.F3.0F.53 vrcpss Vdq,Hdq,Wd @avx
v.NP.0F.54 vandps Vx,Hx,Wx @avx
v.66.0F.54 vandpd Vx,Hx,Wx @avx
v.NP.0F.55 vandnps Vx,Hx,Wx @avx
v.66.0F.55 vandnpd Vx,Hx,Wx @avx
v.NP.0F.56 vorps Vx,Hx,Wx @avx
v.66.0F.56 vorpd Vx,Hx,Wx @avx
v.NP.0F.57 vxorps Vx,Hx,Wx @avx
v.66.0F.57 vxorpd Vx,Hx,Wx @avx
v.NP.0F.5A vcvtps2pd Vx,Wh @avx
v.66.0F.5A vcvtpd2ps Vdq,Wx @avx
v.F3.0F.5A vcvtss2sd Vdq,Hdq,Wd @avx
v.F2.0F.5A vcvtsd2ss Vdq,Hdq,Wq @avx
v.NP.0F.5B vcvtdq2ps Vx,Wx @avx
v.66.0F.5B vcvtps2dq Vx,Wx @avx
v.F3.0F.5B vcvttps2dq Vx,Wx @avx
v.66.0F.6C vpunpcklqdq Vx,Hx,Wx @avx/avx2
v.66.0F.6D vpunpckhqdq Vx,Hx,Wx @avx/avx2
v.66.0F.L0.6E vmovd Vdq,Ed @avx
v.66.0F.W1.L0.6E vmovq Vdq,Eq only64 @avx
v.66.0F.6F vmovdqa Vx,Wx @avx
v.F3.0F.6F vmovdqu Vx,Wx @avx
v.66.0F.70 vpshufd Vx,Wx,Ub @avx/avx2
v.F3.0F.70 vpshufhw Vx,Wx,Ub @avx/avx2
v.F2.0F.70 vpshuflw Vx,Wx,Ub @avx/avx2
v.66.0F.71/2 vpsrlw Hx,Ux,Ub @avx/avx2
v.66.0F.71/4 vpsraw Hx,Ux,Ub @avx/avx2
v.66.0F.71/6 vpsllw Hx,Ux,Ub @avx/avx2
v.66.0F.72/2 vpsrld Hx,Ux,Ub @avx/avx2
v.66.0F.72/4 vpsrad Hx,Ux,Ub @avx/avx2
v.66.0F.72/6 vpslld Hx,Ux,Ub @avx/avx2
v.66.0F.73/2 vpsrlq Hx,Ux,Ub @avx/avx2
v.66.0F.73/3 vpsrldq Hx,Ux,Ub @avx/avx2
v.66.0F.73/6 vpsllq Hx,Ux,Ub @avx/avx2
v.66.0F.73/7 vpslldq Hx,Ux,Ub @avx/avx2
v.NP.0F.L0.77 vzeroupper - @avx
v.NP.0F.L1.77 vzeroall - @avx
v.66.0F.7C vhaddpd Vx,Hx,Wx @avx
v.F2.0F.7C vhaddps Vx,Hx,Wx @avx
v.66.0F.7D vhsubpd Vx,Hx,Wx @avx
v.F2.0F.7D vhsubps Vx,Hx,Wx @avx
v.66.0F.L0.7E vmovd Ed,Vd @avx
v.66.0F.W1.L0.7E vmovq Eq,Vq only64 @avx
v.F3.0F.L0.7E vmovq Vdq,Wq @avx
v.66.0F.7F vmovdqa Wx,Vx @avx
v.F3.0F.7F vmovdqu Wx,Vx @avx
v.NP.0F.L0.AE/2m vldmxcsr Md @avx
v.NP.0F.L0.AE/3m vstmxcsr Md @avx
v.NP.0F.C2 vcmpps Vx,Hx,Wx,Ub @avx
v.66.0F.C2 vcmppd Vx,Hx,Wx,Ub @avx
v.F3.0F.C2 vcmpss Vdq,Hdq,Wd,Ub @avx
v.F2.0F.C2 vcmpsd Vdq,Hdq,Wq,Ub @avx
v.66.0F.L0.C4 vpinsrw Vdq,Hdq,Ry/Mw,Ub @avx
v.66.0F.L0.C5 vpextrw Gy,Udq,Ub @avx
v.NP.0F.C6 vshufps Vx,Hx,Wx,Ub @avx
v.66.0F.C6 vshufpd Vx,Hx,Wx,Ub @avx
v.66.0F.D0 vaddsubpd Vx,Hx,Wx @avx
v.F2.0F.D0 vaddsubps Vx,Hx,Wx @avx
v.66.0F.L0.D6 vmovq Wq,Vq @avx
v.66.0F.D7 vpmovmskb Gy,Ux @avx/avx2
v.66.0F.E6 vcvttpd2dq Vdq,Wx @avx
v.F3.0F.E6 vcvtdq2pd Vx,Wh @avx
v.F2.0F.E6 vcvtpd2dq Vdq,Wx @avx
v.66.0F.E7 vmovntdq Mx,Vx @avx
v.F2.0F.F0 vlddqu Vx,Mx @avx
v.66.0F.L0.F7 vmaskmovdqu Vdq,Udq @avx
v.66.38.W0.0C vpermilps Vx,Hx,Wx @avx
v.66.38.W0.0D vpermilpd Vx,Hx,Wx @avx
v.66.38.W0.0E vtestps Vx,Wx ${COMPARE} @avx
v.66.38.W0.0F vtestpd Vx,Wx ${COMPARE} @avx
v.66.38.W0.13 vcvtph2ps Vx,Wh @f16c
v.66.38.W0.L1.16 vpermps Vqq,Hqq,Wqq @avx2
v.66.38.17 vptest Vx,Wx ${COMPARE} @avx
v.66.38.W0.18 vbroadcastss Vx,Md @avx
v.66.38.W0.18 vbroadcastss Vx,Ud @avx2
v.66.38.W0.L1.19 vbroadcastsd Vqq,Mq @avx
v.66.38.W0.L1.19 vbroadcastsd Vqq,Uq @avx2
v.66.38.W0.L1.1A vbroadcastf128 Vqq,Mdq @avx
v.66.38.2A vmovntdqa Vx,Mx @avx/avx2
v.66.38.W0.2C vmaskmovps Vx,Hx,Mx @avx
v.66.38.W0.2D vmaskmovpd Vx,Hx,Mx @avx
v.66.38.W0.2E vmaskmovps Mx,Hx,Vx @avx
v.66.38.W0.2F vmaskmovpd Mx,Hx,Vx @avx
v.66.38.W0.L1.36 vpermd Vqq,Hqq,Wqq @avx2
v.66.38.37 vpcmpgtq Vx,Hx,Wx @avx/avx2
v.66.38.W0.45 vpsrlvd Vx,Hx,Wx @avx2
v.66.38.W1.45 vpsrlvq Vx,Hx,Wx @avx2
v.66.38.W0.46 vpsravd Vx,Hx,Wx @avx2
v.66.38.W0.47 vpsllvd Vx,Hx,Wx @avx2
v.66.38.W1.47 vpsllvq Vx,Hx,Wx @avx2
v.66.38.W0.58 vpbroadcastd Vx,Wd @avx2
v.66.38.W0.59 vpbroadcastq Vx,Wq @avx2
v.66.38.W0.L1.5A vbroadcasti128 Vqq,Mdq @avx2
v.66.38.W0.78 vpbroadcastb Vx,Wb @avx2
v.66.38.W0.79 vpbroadcastw Vx,Ww @avx2
v.66.38.W0.8C vpmaskmovd Vx,Hx,Mx @avx2
v.66.38.W1.8C vpmaskmovq Vx,Hx,Mx @avx2
v.66.38.W0.8E vpmaskmovd Mx,Hx,Vx @avx2
v.66.38.W1.8E vpmaskmovq Mx,Hx,Vx @avx2
v.66.38.W0.90 vpgatherdd Vx,Md,Hx vsib @avx2
v.66.38.W1.90 vpgatherdq Vx,Mq,Hx vsib @avx2
v.66.38.W0.91 vpgatherqd Vdq,Md,Hdq vsib @avx2
v.66.38.W1.91 vpgatherqq Vx,Mq,Hx vsib @avx2
v.66.38.W0.92 vgatherdps Vx,Md,Hx vsib @avx2
v.66.38.W1.92 vgatherdpd Vx,Mq,Hx vsib @avx2
v.66.38.W0.93 vgatherqps Vdq,Md,Hdq vsib @avx2
v.66.38.W1.93 vgatherqpd Vx,Mq,Hx vsib @avx2
v.66.38.L0.DB vaesimc Vdq,Wdq @avx
v.66.38.DC vaesenc Vx,Hx,Wx @avx/vaes
v.66.38.DD vaesenclast Vx,Hx,Wx @avx/vaes
v.66.38.DE vaesdec Vx,Hx,Wx @avx/vaes
v.66.38.DF vaesdeclast Vx,Hx,Wx @avx/vaes
v.NP.38.L0.F2 andn Gy,By,Ey w=oszc u=ap @bmi1
v.NP.38.L0.F3/1 blsr By,Ey w=oszc u=ap @bmi1
v.NP.38.L0.F3/2 blsmsk By,Ey w=oszc u=ap @bmi1
v.NP.38.L0.F3/3 blsi By,Ey w=oszc u=ap @bmi1
v.NP.38.L0.F5 bzhi Gy,Ey,By w=oszc u=ap @bmi2
v.F3.38.L0.F5 pext Gy,By,Ey @bmi2
v.F2.38.L0.F5 pdep Gy,By,Ey @bmi2
v.F2.38.L0.F6 mulx Gy,By,Ey @bmi2
v.NP.38.L0.F7 bextr Gy,Ey,By w=ozc u=sap @bmi1
v.66.38.L0.F7 shlx Gy,Ey,By @bmi2
v.F3.38.L0.F7 sarx Gy,Ey,By @bmi2
v.F2.38.L0.F7 shrx Gy,Ey,By @bmi2
v.66.3A.W1.L1.00 vpermq Vqq,Wqq,Ub @avx2
v.66.3A.W1.L1.01 vpermpd Vqq,Wqq,Ub @avx2
v.66.3A.W0.02 vpblendd Vx,Hx,Wx,Ub @avx2
v.66.3A.W0.04 vpermilps Vx,Wx,Ub @avx
v.66.3A.W0.05 vpermilpd Vx,Wx,Ub @avx
v.66.3A.W0.L1.06 vperm2f128 Vqq,Hqq,Wqq,Ub @avx
v.66.3A.08 vroundps Vx,Wx,Ub @avx
v.66.3A.09 vroundpd Vx,Wx,Ub @avx
v.66.3A.0A vroundss Vdq,Hdq,Wd,Ub @avx
v.66.3A.0B vroundsd Vdq,Hdq,Wq,Ub @avx
v.66.3A.0C vblendps Vx,Hx,Wx,Ub @avx
v.66.3A.0D vblendpd Vx,Hx,Wx,Ub @avx
v.66.3A.0E vpblendw Vx,Hx,Wx,Ub @avx/avx2
v.66.3A.0F vpalignr Vx,Hx,Wx,Ub @avx/avx2
v.66.3A.L0.14 vpextrb Ry/Mb,Vdq,Ub @avx
v.66.3A.L0.15 vpextrw Ry/Mw,Vdq,Ub @avx
v.66.3A.L0.16 vpextrd Ed,Vdq,Ub @avx
v.66.3A.W1.L0.16 vpextrq Eq,Vdq,Ub only64 @avx
v.66.3A.L0.17 vextractps Ry/Md,Vdq,Ub @avx
v.66.3A.W0.L1.18 vinsertf128 Vqq,Hqq,Wdq,Ub @avx
v.66.3A.W0.L1.19 vextractf128 Wdq,Vqq,Ub @avx
v.66.3A.W0.1D vcvtps2ph Wh,Vx,Ub @f16c
v.66.3A.L0.20 vpinsrb Vdq,Hdq,Ry/Mb,Ub @avx
v.66.3A.L0.21 vinsertps Vdq,Hdq,Udq/Md,Ub @avx
v.66.3A.L0.22 vpinsrd Vdq,Hdq,Ed,Ub @avx
v.66.3A.W1.L0.22 vpinsrq Vdq,Hdq,Eq,Ub only64 @avx
v.66.3A.W0.L1.38 vinserti128 Vqq,Hqq,Wdq,Ub @avx2
v.66.3A.W0.L1.39 vextracti128 Wdq,Vqq,Ub @avx2
v.66.3A.40 vdpps Vx,Hx,Wx,Ub @avx
v.66.3A.L0.41 vdppd Vdq,Hdq,Wdq,Ub @avx
v.66.3A.42 vmpsadbw Vx,Hx,Wx,Ub @avx/avx2
v.66.3A.44 vpclmulqdq Vx,Hx,Wx,Ub @avx/vpclmulqdq
v.66.3A.W0.L1.46 vperm2i128 Vqq,Hqq,Wqq,Ub @avx2
v.66.3A.W0.4A vblendvps Vx,Hx,Wx,Lx @avx
v.66.3A.W0.4B vblendvpd Vx,Hx,Wx,Lx @avx
v.66.3A.W0.4C vpblendvb Vx,Hx,Wx,Lx @avx/avx2
v.66.3A.L0.60 vpcmpestrm Vdq,Wdq,Ub ${COMPARE} @avx
v.66.3A.L0.61 vpcmpestri Vdq,Wdq,Ub ${COMPARE} @avx
v.66.3A.L0.62 vpcmpistrm Vdq,Wdq,Ub ${COMPARE} @avx
v.66.3A.L0.63 vpcmpistri Vdq,Wdq,Ub ${COMPARE} @avx
v.66.3A.L0.DF vaeskeygenassist Vdq,Wdq,Ub @avx
v.F2.3A.L0.F0 rorx Gy,Ey,Ub @bmi2
`;

/** `@a/b` as two rows. */
function split(row: string): string[] {
  const match = /@(\w+)\/(\w+)/.exec(row);
  if (!match) return [row];
  const [opcode, ...rest] = row.split(' ');
  const at = opcode.lastIndexOf('.');
  return [0, 1].map((l) =>
    `${opcode.slice(0, at)}.L${l}${opcode.slice(at)} ${rest.join(' ')}`.replace(match[0], `@${match[1 + l]}`),
  );
}

/** Rows of VEX-encoded instructions. */
export const AVX_ROWS: readonly string[] = [...generated(), ...OTHERS.trim().split('\n')].flatMap(split);
