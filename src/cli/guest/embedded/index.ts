/** The guest that comes with smp86: see embedded.asm. */
import { fileURLToPath } from 'node:url';

/** What the embedded guest prints last when all its checks agree. */
export const EMBEDDED_SUCCESS = 'all correct';

/** Path of the program, for `-kernel`. */
export const EMBEDDED_KERNEL = fileURLToPath(new URL('embedded.bin', import.meta.url));
