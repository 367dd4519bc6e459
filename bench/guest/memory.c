/* Memory: copies, repeated string instructions, chains of pointers, C strings. */
#include "bench.h"
#include <stdlib.h>
#include <string.h>

/* The C library's copies, short and long. */
static uint64_t copies(uint64_t n) {
  enum { SIZE = 1 << 20 };
  static uint8_t from[SIZE], to[SIZE];
  uint64_t state = 19, sum = 0;
  for (int i = 0; i < SIZE; i++) from[i] = (uint8_t)next_random(&state);
  memset(to, 0, SIZE);
  for (uint64_t i = 0; i < n; i++) {
    uint64_t r = next_random(&state);
    size_t length = i % 64 == 0 ? 65536 : r % 700;
    size_t a = (r >> 20) % (SIZE - length), b = (r >> 42) % (SIZE - length);
    if (r & 1 << 16) memmove(from + a, from + b, length);
    else memcpy(to + b, from + a, length);
    sum = mix(sum, to[b] + memcmp(to + b, from + a, length & 31));
  }
  return sum;
}

/* Words of eight bytes in a loop, as a compiler makes it without a library. */
static uint64_t copy_loop(uint64_t n) {
  enum { WORDS = 1 << 15 };
  static volatile uint64_t from[WORDS], to[WORDS];
  for (uint64_t i = 0; i < WORDS; i++) from[i] = i * i;
  for (uint64_t round = 0; round < n; round++)
    for (int i = 0; i < WORDS; i++) to[i] = from[i] + round;
  uint64_t sum = 0;
  for (int i = 0; i < WORDS; i++) sum = mix(sum, to[i]);
  return sum;
}

/* MOVS and STOS with REP, all sizes, page by page and short. */
static uint64_t rep_movs(uint64_t n) {
  enum { SIZE = 1 << 18 };
  static uint8_t from[SIZE], to[SIZE];
  uint64_t state = 23, sum = 0;
  for (int i = 0; i < SIZE; i++) from[i] = (uint8_t)next_random(&state);
  for (uint64_t i = 0; i < n; i++) {
    uint64_t r = next_random(&state);
    size_t count = i % 4 == 0 ? 8192 : 1 + r % 300;
    const uint8_t *s = from + (r >> 20) % (SIZE - 65536);
    uint8_t *d = to + (r >> 42) % (SIZE - 65536);
    size_t left = count;
    switch (r & 3) {
    case 0: __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(left)::"memory"); break;
    case 1: __asm__ volatile("rep movsl" : "+S"(s), "+D"(d), "+c"(left)::"memory"); break;
    case 2: __asm__ volatile("rep stosb" : "+D"(d), "+c"(left) : "a"((uint32_t)r) : "memory"); break;
    default: __asm__ volatile("rep stosl" : "+D"(d), "+c"(left) : "a"((uint32_t)r) : "memory"); break;
    }
    sum = mix(sum, d[-1]);
  }
  return sum;
}

/* A chain through 64 MiB in random order: each step in another page. */
static uint64_t chase(uint64_t n) {
  enum { LINE = 256, COUNT = (64 << 20) / LINE };
  char *memory = allocate((size_t)COUNT * LINE);
  uint32_t *order = allocate(COUNT * sizeof *order);
  uint64_t state = 29;
  for (uint32_t i = 0; i < COUNT; i++) order[i] = i;
  for (uint32_t i = COUNT - 1; i > 0; i--) {
    uint32_t k = (uint32_t)(next_random(&state) % (i + 1)), t = order[i];
    order[i] = order[k];
    order[k] = t;
  }
  for (uint32_t i = 0; i < COUNT; i++) *(uint32_t *)(memory + (size_t)order[i] * LINE) = order[(i + 1) % COUNT];
  uint32_t at = order[0];
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n; i++) {
    at = *(uint32_t *)(memory + (size_t)at * LINE);
    sum += at;
  }
  free(order);
  free(memory);
  return sum;
}

/* A search tree: allocation, comparison, pointers. */
struct node {
  struct node *child[2];
  uint64_t key;
};
static uint64_t tree(uint64_t n) {
  uint64_t state = 31, found = 0;
  struct node *root = NULL, **all = allocate(n * sizeof *all);
  size_t count = 0;
  for (uint64_t i = 0; i < n; i++) {
    uint64_t key = next_random(&state) % n;
    struct node **at = &root;
    while (*at != NULL && (*at)->key != key) at = &(*at)->child[key > (*at)->key];
    if (*at != NULL) {
      found++;
      continue;
    }
    struct node *made = calloc(1, sizeof *made + (key & 63));
    if (made == NULL) fail("calloc");
    made->key = key;
    *at = all[count++] = made;
  }
  for (size_t i = 0; i < count; i++) free(all[i]);
  free(all);
  return mix(count, found);
}

/* The C library's string functions. */
static uint64_t strings(uint64_t n) {
  static char text[4096], other[4096];
  uint64_t state = 37, sum = 0;
  for (size_t i = 0; i < sizeof text - 1; i++) text[i] = (char)('a' + next_random(&state) % 20);
  for (uint64_t i = 0; i < n; i++) {
    uint64_t r = next_random(&state);
    const char *at = text + r % 4000;
    sum += strlen(at);
    const char *z = strchr(at, 'z');
    sum += z == NULL ? 1 : (uint64_t)(z - at);
    strcpy(other + (r >> 32) % 64, at);
    sum += strncmp(at, other + (r >> 32) % 64, 200) == 0;
    const char *found = memchr(text, (int)('a' + (r >> 50) % 26), sizeof text);
    sum += found == NULL ? 3 : (uint64_t)(found - text);
    sum = mix(sum, strstr(text, "abcd") != NULL);
  }
  return sum;
}

const struct workload memory_workloads[] = {
    {"copies", copies, 160000}, {"copy-loop", copy_loop, 3000}, {"rep-movs", rep_movs, 100000}, {"chase", chase, 1500000},
    {"tree", tree, 150000},     {"strings", strings, 60000},    {0},
};
