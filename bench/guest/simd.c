/* SSE up to 4.2 (x86-64-v2): integers and floats. */
#include "bench.h"
#include <nmmintrin.h>
#include <string.h>

static uint64_t fold(__m128i v) {
  uint64_t w[2];
  memcpy(w, &v, sizeof w);
  return w[0] ^ w[1] * 3;
}

/* Shuffles, products, saturation, comparison over 16 KiB. */
static uint64_t sse_integer(uint64_t n) {
  enum { VECTORS = 1024 };
  static __m128i data[VECTORS];
  uint64_t state = 47;
  for (int i = 0; i < VECTORS; i++) data[i] = _mm_set_epi64x((long long)next_random(&state), (long long)next_random(&state));
  const __m128i order = _mm_set_epi8(3, 1, 4, 15, 9, 2, 6, 5, 0, 12, 7, 13, 10, 8, 11, 14);
  __m128i sum = _mm_setzero_si128();
  for (uint64_t round = 0; round < n; round++)
    for (int i = 0; i < VECTORS; i++) {
      __m128i v = data[i], s = _mm_shuffle_epi8(v, order);
      __m128i m = _mm_madd_epi16(v, s);
      __m128i d = _mm_sad_epu8(v, s);
      __m128i w = _mm_packs_epi32(m, _mm_mullo_epi32(v, s));
      __m128i c = _mm_blendv_epi8(w, _mm_adds_epi16(v, w), _mm_cmpgt_epi32(v, s));
      sum = _mm_add_epi64(sum, _mm_xor_si128(_mm_unpacklo_epi16(c, d), _mm_srli_epi64(c, 3)));
      data[i] = _mm_add_epi32(v, _mm_slli_epi32(sum, 1));
    }
  return fold(sum);
}

/* Sums of products, square roots, minima over 16 KiB of floats. */
static uint64_t sse_float(uint64_t n) {
  enum { VECTORS = 1024 };
  static __m128 data[VECTORS];
  uint64_t state = 53;
  for (int i = 0; i < VECTORS; i++)
    data[i] = _mm_set_ps((float)(next_random(&state) >> 44), (float)(next_random(&state) >> 44), 3, (float)i);
  __m128 sum = _mm_set1_ps(1), low = _mm_set1_ps(1e9f);
  for (uint64_t round = 0; round < n; round++)
    for (int i = 0; i < VECTORS; i++) {
      __m128 v = data[i];
      __m128 r = _mm_sqrt_ps(_mm_add_ps(_mm_mul_ps(v, v), _mm_set1_ps(2)));
      r = _mm_add_ps(r, _mm_shuffle_ps(r, v, 0x4e));
      low = _mm_min_ps(low, _mm_sub_ps(r, v));
      sum = _mm_add_ps(_mm_mul_ps(sum, _mm_set1_ps(0.999f)), _mm_and_ps(r, _mm_cmplt_ps(v, r)));
    }
  return fold(_mm_castps_si128(_mm_add_ps(sum, low)));
}

/* Lengths of numbers in text by PCMPISTRI, checksums by the CRC32 instruction, POPCNT. */
static uint64_t sse42(uint64_t n) {
  static char text[16384 + 16];
  uint64_t state = 59, sum = 0;
  for (int i = 0; i < 16384; i++) text[i] = next_random(&state) % 9 == 0 ? ' ' : (char)('0' + next_random(&state) % 10);
  const __m128i range = _mm_setr_epi8('0', '9', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  for (uint64_t round = 0; round < n; round++) {
    uint32_t crc = (uint32_t)round;
    for (int at = 0; at < 16384;) {
      __m128i v = _mm_loadu_si128((const __m128i *)(text + at));
      int length = _mm_cmpistri(range, v, _SIDD_CMP_RANGES | _SIDD_NEGATIVE_POLARITY);
      uint32_t word;
      memcpy(&word, text + at, sizeof word);
      crc = _mm_crc32_u32(crc, word);
      sum += (uint64_t)_mm_popcnt_u32(crc);
      at += length == 0 ? 1 : length;
    }
    sum = mix(sum, crc);
  }
  return sum;
}

const struct workload simd_workloads[] = {
    {"sse-integer", sse_integer, 5000}, {"sse-float", sse_float, 3500}, {"sse4.2", sse42, 1200}, {0},
};
