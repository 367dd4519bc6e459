/**
 * x87: D8–DF. Facts from the SDM volume 2, A.5, and the aliases that processors have always accepted
 * (SDM volume 2, table A-8 ff. leaves them blank; they behave as the row says).
 */

const ARITHMETIC = ['fadd', 'fmul', 'fcom', 'fcomp', 'fsub', 'fsubr', 'fdiv', 'fdivr'];
/** With ST(i) as destination the reversed forms change places. */
const REVERSED = ['fadd', 'fmul', 'fcom', 'fcomp', 'fsubr', 'fsub', 'fdivr', 'fdiv'];

function arithmeticRows(): string[] {
  const rows: string[] = [];
  for (let i = 0; i < 8; i++) {
    const name = ARITHMETIC[i];
    rows.push(
      `D8/${i}m ${name} Md`,
      `DC/${i}m ${name} Mq`,
      `DA/${i}m fi${name.slice(1)} Md`,
      `DE/${i}m fi${name.slice(1)} Mw`,
      `D8/${i}r ${name} ST0,STi`,
    );
    if (i === 2) rows.push('DC/2r fcom ST0,STi', 'DE/2r fcomp ST0,STi');
    else if (i === 3) rows.push('DC/3r fcomp ST0,STi', 'DE:D9 fcompp -');
    else rows.push(`DC/${i}r ${REVERSED[i]} STi,ST0`, `DE/${i}r ${REVERSED[i]}p STi,ST0`);
  }
  return rows;
}

const OTHERS = `
D9/0m fld Md
D9/2m fst Md
D9/3m fstp Md
D9/4m fldenv Mc
D9/5m fldcw Mw
D9/6m fnstenv Mc
D9/7m fnstcw Mw
D9/0r fld STi
D9/1r fxch ST0,STi
D9:D0 fnop -
D9/3r fstpnce~fstp STi
D9:E0 fchs -
D9:E1 fabs -
D9:E4 ftst -
D9:E5 fxam -
D9:E8 fld1 -
D9:E9 fldl2t -
D9:EA fldl2e -
D9:EB fldpi -
D9:EC fldlg2 -
D9:ED fldln2 -
D9:EE fldz -
D9:F0 f2xm1 -
D9:F1 fyl2x -
D9:F2 fptan -
D9:F3 fpatan -
D9:F4 fxtract -
D9:F5 fprem1 -
D9:F6 fdecstp -
D9:F7 fincstp -
D9:F8 fprem -
D9:F9 fyl2xp1 -
D9:FA fsqrt -
D9:FB fsincos -
D9:FC frndint -
D9:FD fscale -
D9:FE fsin -
D9:FF fcos -
DA/0r fcmovb ST0,STi r=c @cmov
DA/1r fcmove ST0,STi r=z @cmov
DA/2r fcmovbe ST0,STi r=zc @cmov
DA/3r fcmovu ST0,STi r=p @cmov
DA:E9 fucompp -
DB/0m fild Md
DB/1m fisttp Md @sse3
DB/2m fist Md
DB/3m fistp Md
DB/5m fld Mt
DB/7m fstp Mt
DB/0r fcmovnb ST0,STi r=c @cmov
DB/1r fcmovne ST0,STi r=z @cmov
DB/2r fcmovnbe ST0,STi r=zc @cmov
DB/3r fcmovnu ST0,STi r=p @cmov
DB:E0 fneni -
DB:E1 fneni~fndisi -
DB:E2 fnclex -
DB:E3 fninit -
DB:E4 fneni~fnsetpm -
DB/5r fucomi ST0,STi w=oszapc @cmov
DB/6r fcomi ST0,STi w=oszapc @cmov
DD/0m fld Mq
DD/1m fisttp Mq @sse3
DD/2m fst Mq
DD/3m fstp Mq
DD/4m frstor Mk
DD/6m fnsave Mk
DD/7m fnstsw Mw
DD/0r ffree STi
DD/1r fxch ST0,STi
DD/2r fst STi
DD/3r fstp STi
DD/4r fucom ST0,STi
DD/5r fucomp ST0,STi
DF/0m fild Mw
DF/1m fisttp Mw @sse3
DF/2m fist Mw
DF/3m fistp Mw
DF/4m fbld Mt
DF/5m fild Mq
DF/6m fbstp Mt
DF/7m fistp Mq
DF/0r ffreep STi
DF/1r fxch ST0,STi
DF/2r fstp STi
DF/3r fstp STi
DF:E0 fnstsw AX
DF/5r fucomip ST0,STi w=oszapc @cmov
DF/6r fcomip ST0,STi w=oszapc @cmov
`;

/** Rows of the x87. */
export const X87_ROWS: readonly string[] = [...arithmeticRows(), ...OTHERS.trim().split('\n')].map((row) =>
  row.includes('@') ? row : `${row} @fpu`,
);
