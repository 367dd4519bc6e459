/**
 * Iothreads come and go, and a disk moves between them, while a Linux guest writes to it, reads back, and compares:
 *
 *   node test/tools/iothread-moves.ts [--moves N] [--smp N] [--seed N] [--bus virtio|ide]
 *
 * What has to hold: the guest reads what it wrote and reports no error; every iothread that is made can be ended, so no
 * place is lost; the image is whole afterwards. Ends with status 1 when something does not.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Machine } from '../../src/index.ts';
import { Random } from '../../src/stress/random.ts';
import { complaints, LinuxGuest } from './linux-guest.ts';

/** Until `/tmp/over` is there: 2 MB of noise to a random place of the disk, and back past the guest's cache. */
const CHECK = `#!/bin/sh
n=0
while [ ! -e /tmp/over ]; do
  at=$((($(od -An -N2 -tu2 /dev/urandom)) % 28))
  dd if=/dev/urandom of=/tmp/out bs=64k count=32 2>/dev/null
  dd if=/tmp/out of=$1 bs=64k count=32 seek=$((at*32)) conv=fsync 2>/dev/null || echo "write failed"
  echo 3 >/proc/sys/vm/drop_caches
  dd if=$1 of=/tmp/in bs=64k count=32 skip=$((at*32)) 2>/dev/null || echo "read failed"
  cmp /tmp/out /tmp/in || echo "other data"
  n=$((n+1))
done
echo "rounds $n"
`;
const BUSES = {
  virtio: { modules: ['virtio_pci', 'virtio_blk'], disk: '/dev/vda' },
  ide: { modules: ['ata_piix', 'sd_mod'], disk: '/dev/sda' },
} as const;

const { values } = parseArgs({
  options: {
    moves: { type: 'string', default: '100' },
    smp: { type: 'string', default: '2' },
    seed: { type: 'string', default: '1' },
    bus: { type: 'string', default: 'virtio' },
  },
});
const { modules, disk } = values.bus === 'ide' ? BUSES.ide : BUSES.virtio;

/** Returns how often each thing was done. */
async function moveAtRandom(
  machine: Machine,
  moves: number,
  random: Random,
): Promise<Record<string, number>> {
  const done = { made: 0, moved: 0, ended: 0, refused: 0, stopped: 0 };
  let home: string | null = null;
  let next = 0;
  for (let i = 0; i < moves; i++) {
    await sleep(random.below(40));
    const { iothreads } = machine;
    if (iothreads.length === 0 || (iothreads.length < 4 && random.oneIn(3))) {
      await machine.objectAdd({ type: 'iothread', id: `io${next++}` });
      done.made++;
    }
    const stop = random.oneIn(6);
    if (stop) await machine.pause();
    home = random.pick([null, ...machine.iothreads]);
    await machine.setIothread('d0', home);
    done.moved++;
    if (stop) {
      await machine.resume();
      done.stopped++;
    }
    if (!random.oneIn(3)) continue;
    const id = random.pick(machine.iothreads);
    try {
      await machine.objectDel(id);
      if (id === home) throw new Error('an iothread ended that the disk lives in');
      done.ended++;
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ERR_MACHINE_BUSY' || id !== home) throw error;
      done.refused++;
    }
  }
  await machine.setIothread('d0', null);
  for (const id of machine.iothreads) await machine.objectDel(id);
  return done;
}

const directory = mkdtempSync(join(tmpdir(), 'smp86-moves-'));
const image = join(directory, 'disk.qcow2');
spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '64M']);
const problems: string[] = [];
try {
  const begin = performance.now();
  await using guest = await LinuxGuest.boot({
    smp: Number(values.smp),
    modules: [...modules],
    extra: ['-drive', `file=${image},format=qcow2,if=${values.bus},id=d0`],
    files: [{ path: 'bin/check', data: CHECK, mode: 0o755 }],
  });
  const machine = guest.machine!;
  await guest.run(`rm -f /tmp/over; check ${disk} >/tmp/checked 2>&1 &`);
  const done = await moveAtRandom(machine, Number(values.moves), new Random(Number(values.seed)));
  await guest.run('touch /tmp/over; wait', 120_000);
  const checked = await guest.run('cat /tmp/checked');
  const rounds = /rounds (\d+)/.exec(checked)?.[1];
  if (rounds === undefined || checked.trim() !== `rounds ${rounds}`)
    problems.push(`the guest says: ${checked}`);
  problems.push(...complaints(await guest.run('dmesg')));
  if (machine.iothreads.length > 0) problems.push('iothreads are left');
  const counts = Object.entries(done).map(([what, count]) => `${count} ${what}`);
  console.log(
    `${counts.join(', ')}; ${rounds} rounds of 2 MB compared; ${((performance.now() - begin) / 1000).toFixed(0)} s`,
  );
} finally {
  const check = spawnSync('qemu-img', ['check', image], { encoding: 'utf8' });
  if (check.status !== 0) problems.push(`qemu-img check: ${check.stdout}`);
  rmSync(directory, { recursive: true });
}
console.log(problems.length === 0 ? 'all well' : problems.join('\n'));
process.exit(problems.length === 0 ? 0 : 1);
