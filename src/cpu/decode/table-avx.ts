/** VEX-encoded instructions. */
export const AVX_ROWS: readonly string[] = [];
