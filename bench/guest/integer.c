/* Arithmetic on registers: mixed operations, division, hashing, many-word numbers. */
#include "bench.h"
#include <string.h>

static uint64_t int_mix(uint64_t n) {
  uint64_t a = 1, b = 2, c = 3, d = 4;
  for (uint64_t i = 0; i < n; i++) {
    a += b ^ (c >> 7);
    b = (b << 13 | b >> 51) + d;
    c ^= a * 0x9e3779b1u;
    d = (d - c) ^ (uint32_t)a;
    if (d & 1) c += i;
  }
  return a ^ b ^ c ^ d;
}

static uint64_t div64(uint64_t n) {
  uint64_t state = 1, sum = 0;
  for (uint64_t i = 0; i < n; i++) {
    uint64_t a = next_random(&state), b = next_random(&state) >> (i & 63);
    sum += a / (b | 1) + a % (b | 3);
    sum ^= (uint64_t)((int64_t)a / ((int64_t)(b >> 1) + 1));
    sum += (uint32_t)a / ((uint32_t)b | 1);
  }
  return sum;
}

static const uint32_t SHA_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotr(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void sha_block(uint32_t h[8], const uint8_t *p) {
  uint32_t w[64], s[8];
  for (int i = 0; i < 16; i++) w[i] = (uint32_t)p[i * 4] << 24 | p[i * 4 + 1] << 16 | p[i * 4 + 2] << 8 | p[i * 4 + 3];
  for (int i = 16; i < 64; i++) {
    uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + (rotr(a, 7) ^ rotr(a, 18) ^ a >> 3) + w[i - 7] + (rotr(b, 17) ^ rotr(b, 19) ^ b >> 10);
  }
  memcpy(s, h, sizeof s);
  for (int i = 0; i < 64; i++) {
    uint32_t e = s[4], a = s[0];
    uint32_t t1 = s[7] + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + SHA_K[i] + w[i];
    uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
    s[7] = s[6], s[6] = s[5], s[5] = e, s[4] = s[3] + t1;
    s[3] = s[2], s[2] = s[1], s[1] = a, s[0] = t1 + t2;
  }
  for (int i = 0; i < 8; i++) h[i] += s[i];
}

static uint64_t sha256(uint64_t n) {
  uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t block[64];
  for (int i = 0; i < 64; i++) block[i] = i;
  for (uint64_t i = 0; i < n; i++) {
    block[i & 63] ^= (uint8_t)h[i & 7];
    sha_block(h, block);
  }
  return (uint64_t)h[0] << 32 | h[7];
}

static uint64_t rotl64(uint64_t x, int by) { return x << by | x >> (64 - by); }

/* Four lanes of multiply and rotate over 64 KiB, in the manner of xxHash64. */
static uint64_t hash64(uint64_t n) {
  enum { WORDS = 8192 };
  static uint64_t data[WORDS];
  uint64_t state = 7;
  for (int i = 0; i < WORDS; i++) data[i] = next_random(&state);
  const uint64_t p1 = 0x9e3779b185ebca87u, p2 = 0xc2b2ae3d27d4eb4fu;
  uint64_t lane[4] = {p1, p2, 3, 4};
  for (uint64_t round = 0; round < n; round++)
    for (int i = 0; i < WORDS; i += 4)
      for (int k = 0; k < 4; k++) lane[k] = rotl64(lane[k] + data[i + k] * p2, 31) * p1;
  return rotl64(lane[0], 1) + rotl64(lane[1], 7) + rotl64(lane[2], 12) + rotl64(lane[3], 18);
}

/* CRC-32 with a table, a byte at a time. */
static uint64_t crc32(uint64_t n) {
  static uint32_t table[256];
  static uint8_t data[65536];
  uint64_t state = 3;
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    table[i] = c;
  }
  for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)next_random(&state);
  uint32_t crc = ~0u;
  for (uint64_t round = 0; round < n; round++)
    for (size_t i = 0; i < sizeof data; i++) crc = table[(crc ^ data[i]) & 255] ^ crc >> 8;
  return ~crc;
}

/* Squares a number of 32 words again and again: multiplications with a double result, chains of carries. */
static uint64_t bignum(uint64_t n) {
  enum { WORDS = 32 };
  uint32_t a[WORDS], r[2 * WORDS];
  for (int i = 0; i < WORDS; i++) a[i] = 0x9e3779b9u * (i + 1);
  for (uint64_t round = 0; round < n; round++) {
    memset(r, 0, sizeof r);
    for (int i = 0; i < WORDS; i++) {
      uint64_t carry = 0;
      for (int k = 0; k < WORDS; k++) {
        carry += (uint64_t)a[i] * a[k] + r[i + k];
        r[i + k] = (uint32_t)carry;
        carry >>= 32;
      }
      r[i + WORDS] = (uint32_t)carry;
    }
    for (int i = 0; i < WORDS; i++) a[i] = r[i] ^ r[i + WORDS];
  }
  uint64_t sum = 0;
  for (int i = 0; i < WORDS; i++) sum = mix(sum, a[i]);
  return sum;
}

const struct workload integer_workloads[] = {
    {"int-mix", int_mix, 80000000}, {"div64", div64, 24000000}, {"sha256", sha256, 200000}, {"hash64", hash64, 12000},
    {"crc32", crc32, 2500},         {"bignum", bignum, 100000}, {0},
};
