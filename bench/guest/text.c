/* Text: formatting and parsing of numbers, a table of words. */
#include "bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash(const char *text) {
  uint64_t h = 0xcbf29ce484222325u;
  for (; *text != 0; text++) h = (h ^ (uint8_t)*text) * 0x100000001b3u;
  return h;
}

static uint64_t format(uint64_t n) {
  char line[200];
  uint64_t state = 61, sum = 0;
  for (uint64_t i = 0; i < n; i++) {
    uint64_t r = next_random(&state);
    snprintf(line, sizeof line, "%08x %-12s|%lld %5.2f %g %c %lu", (unsigned)r, i & 1 ? "interrupt" : "clock",
             (long long)r, (double)(r >> 40) / 100, (double)(r >> 20) * 1e-9, (int)('a' + r % 26), (unsigned long)i);
    sum = mix(sum, hash(line));
  }
  return sum;
}

static uint64_t parse(uint64_t n) {
  char line[100];
  uint64_t state = 67, sum = 0;
  for (uint64_t i = 0; i < n; i++) {
    uint64_t r = next_random(&state);
    sprintf(line, "%llu,%lld", (unsigned long long)(r >> 3), (long long)r >> 30);
    char *end;
    sum = mix(sum, strtoull(line, &end, 10));
    sum = mix(sum, (uint64_t)strtoll(end + 1, NULL, 10));
    double d = strtod(line, NULL);
    uint64_t u;
    memcpy(&u, &d, sizeof u);
    sum = mix(sum, u);
  }
  return sum;
}

/* Counts words in an open table. */
static uint64_t words(uint64_t n) {
  enum { SLOTS = 1 << 15 };
  struct slot {
    char word[12];
    uint32_t count;
  };
  struct slot *table = calloc(SLOTS, sizeof *table);
  if (table == NULL) fail("calloc");
  uint64_t state = 71, sum = 0;
  for (uint64_t i = 0; i < n; i++) {
    char word[12];
    uint64_t r = next_random(&state) & next_random(&state);
    int length = 2 + (int)(r >> 60 & 1);
    for (int k = 0; k < length; k++) word[k] = (char)('a' + (r >> (8 * k)) % 26);
    word[length] = 0;
    size_t at = hash(word) % SLOTS;
    while (table[at].count != 0 && strcmp(table[at].word, word) != 0) at = (at + 1) % SLOTS;
    if (table[at].count++ == 0) strcpy(table[at].word, word);
  }
  for (int i = 0; i < SLOTS; i++) sum = mix(sum, table[i].count);
  free(table);
  return sum;
}

const struct workload text_workloads[] = {
    {"format", format, 40000}, {"parse", parse, 120000}, {"words", words, 3000000}, {0},
};
