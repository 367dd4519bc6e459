/** Where holes of files cannot be asked for: all of a file is data. */
import { fstatSync } from 'node:fs';
import type { HostFiles } from './host-files.ts';

export const ALL_IS_DATA: Pick<HostFiles, 'seekData' | 'seekHole'> = {
  seekData: (fd, offset) => (offset < fstatSync(fd).size ? offset : undefined),
  seekHole(fd, offset) {
    const { size } = fstatSync(fd);
    return offset < size ? size : undefined;
  },
};
