/** `smp86 img snapshot`: internal snapshots. */
import type { BlockNode } from '../../block/node.ts';
import { errnoText } from '../../block/errors.ts';
import { BlockError } from '../../block/errors.ts';
import { Qcow2Node } from '../../block/qcow2/node.ts';
import { applySnapshot, createSnapshot, deleteSnapshot, findSnapshot } from '../../block/qcow2/snapshot.ts';
import { commandArguments, type CommandContext, type Given, IMAGE_OPTIONS, oneFile } from './command.ts';
import { ImgError, reasonOf } from './img-error.ts';
import { openImage } from './images.ts';
import { snapshotTable } from './snapshot-list.ts';

const ACTIONS = ['l', 'a', 'c', 'd'] as const;
type Action = (typeof ACTIONS)[number];

function actionOf(given: Given): Action | undefined {
  const chosen = ACTIONS.flatMap((action) => given.all(action).map(() => action));
  if (chosen.length > 1) throw new ImgError("Cannot mix '-l', '-a', '-c', '-d'", { usage: true });
  return chosen[0];
}

export async function runSnapshot(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, { short: 'la:c:d:hqU', long: IMAGE_OPTIONS });
  const action = actionOf(given);
  const filename = oneFile(given);
  const image = await openImage(context, filename, { ...given.image(), writable: action !== 'l' });
  try {
    if (action === 'l') list(context, image);
    else if (action !== undefined) await change(image, action, given.last(action) ?? '');
    return 0;
  } finally {
    await image.close();
  }
}

function list({ output }: CommandContext, image: BlockNode): void {
  if (!(image instanceof Qcow2Node) || image.state.snapshots.length === 0) return;
  output.out(`${snapshotTable(image.state.snapshots).join('\n')}\n`);
}

async function change(image: BlockNode, action: Exclude<Action, 'l'>, name: string): Promise<void> {
  switch (action) {
    case 'c':
      return create(image, name);
    case 'a':
      return apply(image, name);
    case 'd':
      return remove(image, name);
  }
}

async function create(image: BlockNode, name: string): Promise<void> {
  try {
    if (!(image instanceof Qcow2Node)) throw new BlockError('ENOTSUP', errnoText('ENOTSUP'));
    await createSnapshot(image, { name, date: Date.now(), icount: 0n });
  } catch (error) {
    const errno = error instanceof BlockError ? error.errno : 0;
    throw new ImgError(`Could not create snapshot '${name}': ${-errno} (${reasonOf(error)})`, {
      cause: error,
    });
  }
}

async function apply(image: BlockNode, name: string): Promise<void> {
  const refuse = (reason: string): ImgError => new ImgError(`Could not apply snapshot '${name}': ${reason}`);
  if (!(image instanceof Qcow2Node)) throw refuse('Block driver does not support snapshots');
  if (findSnapshot(image.state.snapshots, name) === undefined) {
    throw refuse('Failed to load snapshot: No such file or directory');
  }
  try {
    await applySnapshot(image, name);
  } catch (error) {
    throw refuse(reasonOf(error));
  }
}

async function remove(image: BlockNode, name: string): Promise<void> {
  const refuse = (reason: string): ImgError => new ImgError(`Could not delete snapshot '${name}': ${reason}`);
  // only by name, though others find one by its id too
  const found =
    image instanceof Qcow2Node ? image.state.snapshots.find((each) => each.name === name) : undefined;
  if (!(image instanceof Qcow2Node) || found === undefined) throw refuse('snapshot not found');
  try {
    await deleteSnapshot(image, found.id);
  } catch (error) {
    throw refuse(reasonOf(error));
  }
}
