/** Options of disks: what QEMU's syntax comes to, and what is refused. */
import { describe, expect, test } from 'vitest';
import { OptionError, parseOptions } from '../../src/cli/options.ts';

function disks(...args: string[]) {
  const { drives, devices, objects, blockdevs } = parseOptions(args);
  return { drives, devices, objects, blockdevs };
}
function message(...args: string[]): string {
  try {
    parseOptions(args);
  } catch (error) {
    if (error instanceof OptionError) return error.message;
    throw error;
  }
  return 'no error';
}

describe('-drive', () => {
  test('if=virtio is a drive and a device', () => {
    const { drives, devices } = disks('-drive', 'file=a.qcow2,if=virtio');
    expect(drives).toEqual([
      {
        id: 'virtio0',
        given: { option: 'drive', text: 'file=a.qcow2,if=virtio' },
        node: { file: { filename: 'a.qcow2' }, cache: { direct: false, 'no-flush': false } },
        readOnly: false,
        snapshot: false,
        writeCache: true,
        werror: 'enospc',
        rerror: 'report',
        detectZeroes: 'off',
      },
    ]);
    expect(devices).toEqual([
      {
        driver: 'virtio-blk-pci',
        drive: 'virtio0',
        queueSize: 256,
        serial: '',
        disableLegacy: false,
        discard: true,
        writeZeroes: true,
        configWce: true,
        addr: 2,
      },
    ]);
  });

  test.each([
    [
      ['-hda', 'a', '-hdd', 'b'],
      ['ide0-hd0 0.0', 'ide1-hd1 1.1'],
    ],
    [['a'], ['ide0-hd0 0.0']],
    [['-cdrom', 'c'], ['ide1-cd0 1.0']],
    [
      ['-drive', 'file=a', '-drive', 'file=b', '-drive', 'file=c'],
      ['ide0-hd0 0.0', 'ide0-hd1 0.1', 'ide1-hd0 1.0'],
    ],
    [
      ['-drive', 'file=a,index=3', '-drive', 'file=b'],
      ['ide1-hd1 1.1', 'ide0-hd0 0.0'],
    ],
    [['-drive', 'file=a,bus=1,unit=1'], ['ide1-hd1 1.1']],
    [['-drive', 'file=a,bus=1'], ['ide1-hd0 1.0']],
    [['-drive', 'file=a,media=cdrom'], ['ide0-cd0 0.0']],
  ])('%j', (args, expected) => {
    const { drives, devices } = disks(...args);
    const places = new Map(devices.map((d) => ('bus' in d ? [d.drive, `${d.bus}.${d.unit}`] : ['', ''])));
    expect(drives.map(({ id }) => `${id} ${places.get(id)}`)).toEqual(expected);
  });

  test('a name given to -hda may have commas', () => {
    expect(disks('-hda', 'a,b=c').drives[0].node).toMatchObject({ file: { filename: 'a,b=c' } });
    expect(disks('-drive', 'file=a,,b,if=none').drives[0].node).toMatchObject({ file: { filename: 'a,b' } });
  });

  test.each([
    ['cache=none', true, { direct: true, 'no-flush': false }],
    ['cache=writethrough', false, { direct: false, 'no-flush': false }],
    ['cache=directsync', false, { direct: true, 'no-flush': false }],
    ['cache=unsafe', true, { direct: false, 'no-flush': true }],
    ['cache=unsafe,cache.no-flush=off', true, { direct: false, 'no-flush': false }],
    ['cache.writeback=off', false, { direct: false, 'no-flush': false }],
  ])('%s', (text, writeCache, cache) => {
    const [drive] = disks('-drive', `file=a,if=none,${text}`).drives;
    expect(drive.writeCache).toBe(writeCache);
    expect(drive.node).toMatchObject({ cache });
  });

  test('keys of formats go to the node', () => {
    const [drive] = disks(
      '-drive',
      'file=a,if=none,format=qcow2,l2-cache-size=1M,cache-clean-interval=60,backing.driver=raw,discard=unmap',
    ).drives;
    expect(drive.node).toEqual({
      driver: 'qcow2',
      'l2-cache-size': '1M',
      'cache-clean-interval': '60',
      discard: 'unmap',
      backing: { driver: 'raw' },
      file: { filename: 'a' },
      cache: { direct: false, 'no-flush': false },
    });
  });

  test('throttling under new names and old', () => {
    const [drive] = disks(
      '-drive',
      'file=a,if=none,throttling.iops-total=100,throttling.bps-read-max=1M,bps_wr=2M,throttling.group=g',
    ).drives;
    expect(drive.throttling).toEqual({
      group: 'g',
      limits: { 'iops-total': 100, 'bps-read-max': 2 ** 20, 'bps-write': 2 ** 21 },
    });
  });

  test('-snapshot concerns all drives that are written, snapshot= one', () => {
    const { drives } = disks(
      ...['-snapshot', '-drive', 'file=a,if=none', '-drive', 'file=b,if=none,snapshot=off'],
      ...['-drive', 'file=c,if=none,readonly=on'],
    );
    expect(drives.map(({ snapshot }) => snapshot)).toEqual([true, false, false]);
  });

  test('a CD-ROM drive may be empty', () => {
    const { drives, devices } = disks('-drive', 'if=ide,media=cdrom');
    expect(drives[0].node).toBeUndefined();
    expect(devices).toEqual([{ driver: 'ide-cd', bus: 0, unit: 0 }]);
  });
});

describe('-device', () => {
  const DRIVE = ['-drive', 'file=a,if=none,id=d0'];

  test('an iothread has the polling parameters that are given', () => {
    const objects = (text: string) => parseOptions(['-object', text]).objects;
    expect(objects('iothread,id=a,poll-max-ns=0')).toEqual([
      { type: 'iothread', id: 'a', polling: { maxNs: 0, grow: 0, shrink: 0 } },
    ]);
    expect(objects('iothread,id=a,poll-grow=4,poll-shrink=2')).toEqual([
      { type: 'iothread', id: 'a', polling: { maxNs: 32768, grow: 4, shrink: 2 } },
    ]);
    expect(() => objects('iothread,id=a,poll-grow=-1')).toThrow('poll-grow must be a number');
  });

  test('a throttle group has limits, by either name', () => {
    const objects = (text: string) => parseOptions(['-object', text]).objects;
    const limits = { 'iops-total': 100, 'bps-read-max': 1 << 20 };
    const expected = [{ type: 'throttle-group', id: 'a', limits }];
    expect(objects('throttle-group,id=a,limits.iops-total=100,limits.bps-read-max=1M')).toEqual(expected);
    expect(objects('throttle-group,id=a,x-iops-total=100,x-bps-read-max=1M')).toEqual(expected);
    expect(() => objects('throttle-group,id=a,limits.iops=100')).toThrow("'limits.iops'");
  });

  test('virtio-blk-pci with an iothread', () => {
    const { devices, objects } = disks(
      ...['-object', 'iothread,id=io0', ...DRIVE],
      ...['-device', 'virtio-blk-pci,drive=d0,iothread=io0,num-queues=2,serial=abc,addr=5,disable-legacy=on'],
    );
    expect(objects).toEqual([{ type: 'iothread', id: 'io0' }]);
    expect(devices).toMatchObject([
      { drive: 'd0', iothread: 'io0', numQueues: 2, serial: 'abc', addr: 5, disableLegacy: true },
    ]);
  });

  test('a block node becomes a drive', () => {
    const { drives, blockdevs } = disks(
      ...['-blockdev', 'driver=file,node-name=f,filename=a'],
      ...['-blockdev', '{"driver":"qcow2","node-name":"q","file":"f","read-only":true}'],
      ...['-device', 'virtio-blk-pci,drive=q'],
    );
    expect(blockdevs).toHaveLength(2);
    expect(drives).toMatchObject([{ id: 'q', node: 'q', readOnly: true }]);
  });

  test('slots: those asked for, and the first that are free', () => {
    const { devices } = disks(
      ...['-drive', 'file=c,if=virtio', ...DRIVE, '-drive', 'file=b,if=none,id=d1'],
      ...['-device', 'virtio-blk-pci,drive=d0,addr=2', '-device', 'virtio-blk-pci,drive=d1'],
    );
    expect(devices.map((d) => ('addr' in d ? [d.drive, d.addr] : []))).toEqual([
      ['d0', 2],
      ['d1', 3],
      ['virtio0', 4],
    ]);
  });

  test('IDE devices take the first free place', () => {
    const { devices } = disks(
      ...['-hda', 'x', ...DRIVE],
      ...['-device', 'ide-hd,drive=d0', '-device', 'ide-cd,bus=ide.1,unit=1'],
    );
    expect(devices.map((d) => ('bus' in d ? [d.driver, d.bus, d.unit] : []))).toEqual([
      ['ide-hd', 0, 0],
      ['ide-hd', 0, 1],
      ['ide-cd', 1, 1],
    ]);
  });
});

test.each([
  [['-drive', 'if=virtio'], '-drive if=virtio: file=NAME is missing'],
  [['-drive', 'file=a,if=scsi'], '-drive file=a,if=scsi: if=scsi is not supported'],
  [['-drive', 'file=a,if=foo'], "-drive file=a,if=foo: if must be ide, virtio, none, not 'foo'"],
  [['-drive', 'file=a,media=tape'], "-drive file=a,media=tape: media must be disk, cdrom, not 'tape'"],
  [
    ['-drive', 'file=a,cache=fast'],
    /cache must be none, off, writeback, unsafe, writethrough, directsync, not 'fast'$/,
  ],
  [['-drive', 'file=a,werror=panic'], /werror must be report, ignore, stop, enospc, auto, not 'panic'$/],
  [['-drive', 'file=a,rerror=enospc'], /rerror must be report, ignore, stop, auto, not 'enospc'$/],
  [['-drive', 'file=a,index=4'], '-drive file=a,index=4: an IDE drive has index 0 to 3'],
  [['-drive', 'file=a,index=0,bus=0'], /index cannot be used with bus and unit$/],
  [['-hda', 'a', '-hda', 'b'], '-hda b: drive with bus=0, unit=0 (index=0) exists'],
  [['-hdc', 'a', '-cdrom', 'b'], '-cdrom b: drive with bus=1, unit=0 (index=2) exists'],
  [['-hda', ''], '-hda : the file name is empty'],
  [['-drive', 'file=a,if=none,id=x', '-drive', 'file=b,if=none,id=x'], /id 'x' is used twice$/],
  [['-drive', 'file=a,file.filename=b,file.x.y=1,file.x=2'], /'file.x=2' does not go with 'file.x.…'$/],
  [['-drive', 'file=a,throttling.iops-total=fast'], /must be a number/],
  [['-object', 'iothread'], '-object iothread: id=NAME is missing'],
  [['-object', 'rng-random,id=a'], /object 'rng-random' does not exist here, only iothread, throttle-group$/],
  [['-object', 'iothread,id=a', '-object', 'iothread,id=a'], /id 'a' is used twice$/],
  [['-blockdev', 'driver=raw'], '-blockdev driver=raw: node-name=NAME is missing'],
  [['-blockdev', '{"driver"'], /^-blockdev {"driver": not JSON/],
  [['-device', 'virtio-blk-pci'], '-device virtio-blk-pci: drive=NAME is missing'],
  [['-device', 'virtio-blk-pci,drive=a'], /no -drive has id 'a', and no -blockdev has it as node-name$/],
  [['-hda', 'a', '-device', 'ide-hd,drive=ide0-hd0'], /drive 'ide0-hd0' is connected to a device already/],
  [
    ['-drive', 'file=a,if=none,id=d', '-device', 'virtio-blk-pci,drive=d', '-device', 'ide-hd,drive=d'],
    /drive 'd' is used by another device$/,
  ],
  [
    ['-drive', 'file=a,if=none,id=d', '-device', 'virtio-blk-pci,drive=d,iothread=io'],
    /no -object iothread has id 'io'$/,
  ],
  [
    ['-drive', 'file=a,if=none,id=d', '-device', 'virtio-blk-pci,drive=d,num-queues=0'],
    /num-queues must be from 1/,
  ],
  [['-drive', 'file=a,if=none,id=d', '-device', 'virtio-blk-pci,drive=d,addr=1'], /addr must be a PCI slot/],
  [['-drive', 'file=a,if=none,id=d', '-device', 'ide-hd,drive=d,bus=ide.2'], /bus must be ide.0 or ide.1/],
])('%j is refused', (args, expected) => {
  if (typeof expected === 'string') expect(message(...args)).toBe(expected);
  else expect(message(...args)).toMatch(expected);
});
