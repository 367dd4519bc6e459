/* Control flow: calls, recursion, pointers to functions, branches, sorting, an interpreter, compression. */
#include "bench.h"
#include <stdlib.h>
#include <string.h>

static NOINLINE uint64_t fibonacci(uint64_t n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
static NOINLINE uint64_t ackermann(uint64_t m, uint64_t n) {
  if (m == 0) return n + 1;
  return n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}
static uint64_t calls(uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n; i++) sum = mix(sum, fibonacci(24 + (i & 3)) + ackermann(2, 60));
  return sum;
}

struct shape {
  uint64_t (*area)(const struct shape *);
  uint64_t a, b;
};
static NOINLINE uint64_t area_square(const struct shape *s) { return s->a * s->a; }
static NOINLINE uint64_t area_rectangle(const struct shape *s) { return s->a * s->b; }
static NOINLINE uint64_t area_triangle(const struct shape *s) { return s->a * s->b / 2; }
static NOINLINE uint64_t area_frame(const struct shape *s) { return 2 * (s->a + s->b); }
static uint64_t indirect(uint64_t n) {
  enum { SHAPES = 1024 };
  static struct shape shapes[SHAPES];
  static uint64_t (*const areas[])(const struct shape *) = {area_square, area_rectangle, area_triangle, area_frame};
  uint64_t state = 5, sum = 0;
  for (int i = 0; i < SHAPES; i++)
    shapes[i] = (struct shape){areas[next_random(&state) & 3], next_random(&state) & 1023, next_random(&state) & 1023};
  for (uint64_t i = 0; i < n; i++) {
    const struct shape *s = &shapes[(i * 7) % SHAPES];
    sum += s->area(s);
  }
  return sum;
}

/* Which way each branch goes depends on random bits. */
static uint64_t branches(uint64_t n) {
  uint64_t state = 11, a = 0, b = 0, c = 0;
  for (uint64_t i = 0; i < n; i++) {
    uint64_t r = next_random(&state);
    if (r & 1) a += r >> 3;
    else if (r & 2) b ^= r;
    else c -= r >> 7;
    if (r & 4 ? (r & 8) != 0 : a > b) c = c * 3 + 1;
    switch (r >> 4 & 7) {
    case 0: a ^= c; break;
    case 1: b += 3; break;
    case 2: c ^= b >> 1; break;
    case 5: a--; break;
    case 6: b = b * 5 + a; break;
    default: c++;
    }
  }
  return a ^ b ^ c;
}

static void quick_sort(uint32_t *a, size_t n) {
  while (n > 16) {
    uint32_t pivot = a[n / 2];
    size_t i = 0, k = n - 1;
    for (;;) {
      while (a[i] < pivot) i++;
      while (a[k] > pivot) k--;
      if (i >= k) break;
      uint32_t t = a[i];
      a[i++] = a[k];
      a[k--] = t;
    }
    quick_sort(a, k + 1);
    a += k + 1;
    n -= k + 1;
  }
  for (size_t i = 1; i < n; i++) {
    uint32_t x = a[i];
    size_t k = i;
    for (; k > 0 && a[k - 1] > x; k--) a[k] = a[k - 1];
    a[k] = x;
  }
}
static void heap_sort(uint32_t *a, size_t n) {
  for (size_t start = n / 2, end = n; end > 1;) {
    if (start > 0) start--;
    else {
      uint32_t t = a[--end];
      a[end] = a[0];
      a[0] = t;
    }
    for (size_t at = start, child; (child = 2 * at + 1) < end; at = child) {
      if (child + 1 < end && a[child] < a[child + 1]) child++;
      if (a[at] >= a[child]) break;
      uint32_t t = a[at];
      a[at] = a[child];
      a[child] = t;
    }
  }
}
static int compare(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}
static uint64_t sort(uint64_t n) {
  enum { COUNT = 20000 };
  static uint32_t a[COUNT];
  uint64_t state = 13, sum = 0;
  for (uint64_t round = 0; round < n; round++) {
    for (int i = 0; i < COUNT; i++) a[i] = (uint32_t)next_random(&state);
    if (round % 3 == 0) quick_sort(a, COUNT);
    else if (round % 3 == 1) heap_sort(a, COUNT);
    else qsort(a, COUNT, sizeof *a, compare);
    for (int i = 1; i < COUNT; i++)
      if (a[i - 1] > a[i]) return 0;
    sum = mix(sum, a[COUNT / 3]);
  }
  return sum;
}

/* A machine with a stack of registers, its program a search for the longest Collatz chain. */
enum op { MOVE, LOAD, ADD, MULTIPLY, HALVE, AND, JUMP_IF, LESS, MAXIMUM, INCREMENT, STOP };
struct code {
  uint8_t op, a, b;
  int16_t value;
};
static uint64_t interpreter(uint64_t n) {
  /* r0 number, r1 limit, r2 value, r3 steps, r4 longest, r5 scratch, r6 one, r7 three */
  static const struct code program[] = {
      {LOAD, 0, 0, 1},      {LOAD, 6, 0, 1},    {LOAD, 7, 0, 3},
      /* 3: next number */
      {MOVE, 2, 0, 0},      {LOAD, 3, 0, 0},
      /* 5: step */
      {MOVE, 5, 2, 0},      {AND, 5, 6, 0},     {JUMP_IF, 5, 0, 10}, {HALVE, 2, 0, 0},   {JUMP_IF, 6, 0, 12},
      /* 10: odd */
      {MULTIPLY, 2, 7, 0},  {ADD, 2, 6, 0},
      /* 12 */
      {INCREMENT, 3, 0, 0}, {MOVE, 5, 6, 0},    {LESS, 5, 2, 0},     {JUMP_IF, 5, 0, 5}, {MAXIMUM, 4, 3, 0},
      {INCREMENT, 0, 0, 0}, {MOVE, 5, 0, 0},    {LESS, 5, 1, 0},     {JUMP_IF, 5, 0, 3}, {STOP, 0, 0, 0},
  };
  uint64_t r[8] = {0};
  r[1] = n;
  for (const struct code *pc = program;;) {
    const struct code c = *pc++;
    switch ((enum op)c.op) {
    case MOVE: r[c.a] = r[c.b]; break;
    case LOAD: r[c.a] = (uint64_t)c.value; break;
    case ADD: r[c.a] += r[c.b]; break;
    case MULTIPLY: r[c.a] *= r[c.b]; break;
    case HALVE: r[c.a] >>= 1; break;
    case AND: r[c.a] &= r[c.b]; break;
    case JUMP_IF:
      if (r[c.a] != 0) pc = program + c.value;
      break;
    case LESS: r[c.a] = r[c.a] < r[c.b]; break;
    case MAXIMUM:
      if (r[c.a] < r[c.b]) r[c.a] = r[c.b];
      break;
    case INCREMENT: r[c.a]++; break;
    case STOP: return r[4] * 1000003 + r[3];
    }
  }
}

/* LZ77 with a hash table of three-byte strings, and back. */
enum { TEXT = 1 << 17, HASHES = 1 << 13 };
static size_t put_match(uint8_t *out, size_t length, size_t distance) {
  out[0] = 0xff;
  out[1] = (uint8_t)length;
  out[2] = (uint8_t)distance;
  out[3] = (uint8_t)(distance >> 8);
  return 4;
}
static size_t pack(const uint8_t *in, size_t n, uint8_t *out) {
  static uint32_t last[HASHES];
  memset(last, 0, sizeof last);
  size_t o = 0;
  for (size_t i = 0; i < n;) {
    size_t length = 0, distance = 0;
    if (i + 4 <= n) {
      uint32_t h = ((in[i] << 16 | in[i + 1] << 8 | in[i + 2]) * 2654435761u) >> 19;
      size_t from = last[h];
      last[h] = (uint32_t)(i + 1);
      if (from != 0 && i + 1 - from < 65536) {
        from--;
        while (length < 255 && i + length < n && in[from + length] == in[i + length]) length++;
        distance = i - from;
      }
    }
    if (length >= 5) {
      o += put_match(out + o, length, distance);
      i += length;
    } else {
      if (in[i] == 0xff) o += put_match(out + o, 0, 0);
      else out[o++] = in[i];
      i++;
    }
  }
  return o;
}
static size_t unpack(const uint8_t *in, size_t n, uint8_t *out) {
  size_t o = 0;
  for (size_t i = 0; i < n;) {
    if (in[i] != 0xff) {
      out[o++] = in[i++];
      continue;
    }
    size_t length = in[i + 1], distance = in[i + 2] | in[i + 3] << 8;
    i += 4;
    if (length == 0) out[o++] = 0xff;
    for (; length > 0; length--, o++) out[o] = out[o - distance];
  }
  return o;
}
static uint64_t compression(uint64_t n) {
  static uint8_t text[TEXT], packed[4 * TEXT], back[TEXT];
  static const char *const words[] = {"the ",   "of ",    "machine ", "memory ", "clock", "and ", "interrupt ",
                                      "page\n", "write ", "\xff\x01", "vector ", "a ",    "is ",  "processor "};
  uint64_t state = 17, sum = 0;
  for (uint64_t round = 0; round < n; round++) {
    for (size_t at = 0; at < TEXT;) {
      const char *word = words[next_random(&state) % (sizeof words / sizeof *words)];
      for (; *word != 0 && at < TEXT; word++) text[at++] = (uint8_t)*word;
      if ((next_random(&state) & 15) == 0 && at < TEXT) text[at++] = (uint8_t)next_random(&state);
    }
    size_t size = pack(text, TEXT, packed);
    if (unpack(packed, size, back) != TEXT || memcmp(text, back, TEXT) != 0) return 0;
    sum = mix(sum, size);
  }
  return sum;
}

/* A sieve over bits. */
static uint64_t sieve(uint64_t n) {
  enum { LIMIT = 1 << 20 };
  static uint64_t bits[LIMIT / 64];
  uint64_t count = 0;
  for (uint64_t round = 0; round < n; round++) {
    memset(bits, 0, sizeof bits);
    for (uint32_t i = 2; i < LIMIT; i++) {
      if (bits[i >> 6] >> (i & 63) & 1) continue;
      count++;
      for (uint64_t k = (uint64_t)i * i; k < LIMIT; k += i) bits[k >> 6] |= 1ull << (k & 63);
    }
  }
  return count;
}

const struct workload code_workloads[] = {
    {"calls", calls, 200},
    {"indirect", indirect, 20000000},
    {"branches", branches, 12000000},
    {"sort", sort, 90},
    {"interpreter", interpreter, 18000},
    {"compression", compression, 180},
    {"sieve", sieve, 40},
    {0},
};
