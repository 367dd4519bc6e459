/**
 * Prints the region that tier 1 finds at the start of some x86 code, and what it becomes:
 *
 *   node bench/dump-region.ts [--bits 32] [--head OFFSET] [--size] HEX...
 *
 * HEX is the code, at offset 0 of a page that is filled up with HLT, which is never compiled. `--size` leaves the
 * text out; code with SSE has none.
 */
import { parseArgs } from 'node:util';
import { PAGE, regionText } from './region-text.ts';
import { TextError } from './wasm-text.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    bits: { type: 'string', default: '64' },
    head: { type: 'string', default: '0' },
    size: { type: 'boolean', default: false },
  },
});
const code = Buffer.from(positionals.join('').replace(/[^0-9a-f]/gi, ''), 'hex');
if (code.length === 0 || code.length > PAGE) {
  console.error('dump-region: give up to 4096 bytes of code in hexadecimal');
  process.exit(1);
}
const text = regionText(code, values.bits === '32' ? 32 : 64, Number(values.head));
if (text === undefined) {
  console.error('dump-region: nothing there can be compiled');
  process.exit(1);
}
console.log(text.structure);
console.log(`module: ${text.size} bytes`);
try {
  if (!values.size) console.log(text.wasm());
} catch (error) {
  if (!(error instanceof TextError)) throw error;
  console.error(`dump-region: ${error.message}; see --size`);
  process.exitCode = 1;
}
