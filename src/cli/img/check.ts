/** `smp86 img check`: whether an image's metadata is right; repairs it. */
import type { BlockNode } from '../../block/node.ts';
import { checkImage, type CheckResult, type Fix } from '../../block/qcow2/check.ts';
import { Qcow2Node } from '../../block/qcow2/node.ts';
import { checkCache } from './cache-modes.ts';
import { commandArguments, type CommandContext, IMAGE_OPTIONS, oneFile, outputFormat } from './command.ts';
import { ImgError, reasonOf } from './img-error.ts';
import { openImage } from './images.ts';
import { jsonText, type Output } from './output.ts';
import { fixedText } from './sizes.ts';

/** Exit codes. */
const FAILED = 1;
const CORRUPT = 2;
const LEAKS = 3;
const NO_CHECK = 63;

function fixOf(text: string): Fix {
  if (text === 'leaks' || text === 'all') return text;
  throw new ImgError(`Unknown option value for -r (expecting 'leaks' or 'all'): ${text}`, { usage: true });
}

export async function runCheck(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, {
    short: 'hf:r:T:qU',
    long: {
      ...IMAGE_OPTIONS,
      format: { as: 'f', kind: 'value' },
      repair: { as: 'r', kind: 'value' },
      output: { kind: 'value' },
    },
  });
  const fix = given.last('r', fixOf);
  const filename = oneFile(given);
  const json = outputFormat(given) === 'json';
  checkCache('T', given.last('T'));
  const image = await openImage(context, filename, {
    ...given.image(),
    writable: fix !== undefined,
    forCheck: true,
  });
  const quiet = given.has('q');
  try {
    const result = await checkTwice(context.output, image, fix, quiet || json);
    if (json) context.output.out(jsonText(jsonResult(filename, image.driver, result)));
    else if (!quiet) context.output.out(humanResult(result));
    if (result.corruptions > 0) return CORRUPT;
    if (result.leaks > 0) return LEAKS;
    return result.checkErrors > 0 ? FAILED : 0;
  } finally {
    await image.close();
  }
}

/** A repaired image is checked once more, and that is the result. */
async function checkTwice(
  output: Output,
  image: BlockNode,
  fix: Fix | undefined,
  quiet: boolean,
): Promise<CheckResult> {
  const first = await checkOnce(output, image, fix);
  if (first.corruptionsFixed + first.leaksFixed === 0) return first;
  if (!quiet) {
    output.out(
      'The following inconsistencies were found and repaired:\n\n' +
        `    ${first.leaksFixed} leaked clusters\n    ${first.corruptionsFixed} corruptions\n\n` +
        'Double checking the fixed image now...\n',
    );
  }
  const second = await checkOnce(output, image, undefined);
  return { ...second, corruptionsFixed: first.corruptionsFixed, leaksFixed: first.leaksFixed };
}

async function checkOnce(output: Output, image: BlockNode, fix: Fix | undefined): Promise<CheckResult> {
  if (!(image instanceof Qcow2Node)) {
    throw new ImgError('This image format does not support checks', { status: NO_CHECK });
  }
  try {
    return await checkImage(image.state, { fix, print: (line) => output.err(`${line}\n`) });
  } catch (error) {
    throw new ImgError(`Check failed: ${reasonOf(error)}`, { cause: error });
  }
}

function percent(part: number, whole: number): string {
  return `${fixedText((part * 100) / whole, 2)}%`;
}

function humanResult(result: CheckResult): string {
  const { corruptions, leaks, checkErrors, totalClusters: total, allocatedClusters: allocated } = result;
  let text = '';
  if (corruptions === 0 && leaks === 0 && checkErrors === 0) text += 'No errors were found on the image.\n';
  if (corruptions > 0) {
    text +=
      `\n${corruptions} errors were found on the image.\n` +
      'Data may be corrupted, or further writes to the image may corrupt it.\n';
  }
  if (leaks > 0) {
    text +=
      `\n${leaks} leaked clusters were found on the image.\n` +
      'This means waste of disk space, but no harm to data.\n';
  }
  if (checkErrors > 0) text += `\n${checkErrors} internal errors have occurred during the check.\n`;
  if (total > 0 && allocated > 0) {
    text +=
      `${allocated}/${total} = ${percent(allocated, total)} allocated, ` +
      `${percent(result.fragmentedClusters, allocated)} fragmented, ` +
      `${percent(result.compressedClusters, allocated)} compressed clusters\n`;
  }
  if (result.imageEndOffset > 0) text += `Image end offset: ${result.imageEndOffset}\n`;
  return text;
}

/** Counts of nothing are left out, but for the errors of the check itself. */
function jsonResult(filename: string, format: string, result: CheckResult): object {
  const some = (key: string, count: number): object => (count === 0 ? {} : { [key]: count });
  return {
    ...some('image-end-offset', result.imageEndOffset),
    ...some('compressed-clusters', result.compressedClusters),
    ...some('total-clusters', result.totalClusters),
    ...some('corruptions', result.corruptions),
    ...some('corruptions-fixed', result.corruptionsFixed),
    'check-errors': result.checkErrors,
    ...some('leaks', result.leaks),
    ...some('leaks-fixed', result.leaksFixed),
    ...some('allocated-clusters', result.allocatedClusters),
    filename,
    format,
    ...some('fragmented-clusters', result.fragmentedClusters),
  };
}
