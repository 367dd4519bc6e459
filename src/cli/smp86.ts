#!/usr/bin/env node
/** The command `smp86`. */
import { enableCompileCache } from '../machine/compile-cache.ts';

const OLDEST_NODE = 24;

if (Number(process.versions.node.split('.', 1)[0]) < OLDEST_NODE) {
  process.stderr.write(`smp86: needs Node.js ${OLDEST_NODE} or later, this is ${process.version}\n`);
  process.exitCode = 1;
} else {
  enableCompileCache();
  const args = process.argv.slice(2);
  if (args[0] === 'img') {
    const { runImg } = await import('./img/img.ts');
    process.exitCode = await runImg(args.slice(1));
  } else if (args[0] === 'stress') {
    const { runStress } = await import('./stress.ts');
    process.exitCode = await runStress(args.slice(1));
  } else if (args[0] === 'explore') {
    const { runExplore } = await import('./explore.ts');
    process.exitCode = await runExplore(args.slice(1));
  } else {
    const { runCommand } = await import('./run-machine.ts');
    process.exitCode = await runCommand(args);
  }
}
