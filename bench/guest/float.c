/* Floating point: SSE2 doubles, long double, the C library's functions. */
#include "bench.h"
#include <math.h>
#include <string.h>

static uint64_t bits(double x) {
  uint64_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

struct body {
  double x[3], v[3], mass;
};
static uint64_t nbody(uint64_t n) {
  struct body bodies[5];
  uint64_t state = 41;
  for (int i = 0; i < 5; i++) {
    for (int k = 0; k < 3; k++) {
      bodies[i].x[k] = (double)(next_random(&state) >> 11) / (1ull << 48);
      bodies[i].v[k] = (double)(next_random(&state) >> 11) / (1ull << 53);
    }
    bodies[i].mass = 1.0 / (i + 1);
  }
  for (uint64_t step = 0; step < n; step++) {
    for (int i = 0; i < 5; i++)
      for (int k = i + 1; k < 5; k++) {
        double d[3], square = 0.01;
        for (int c = 0; c < 3; c++) d[c] = bodies[i].x[c] - bodies[k].x[c], square += d[c] * d[c];
        double force = 0.001 / (square * sqrt(square));
        for (int c = 0; c < 3; c++) {
          bodies[i].v[c] -= d[c] * bodies[k].mass * force;
          bodies[k].v[c] += d[c] * bodies[i].mass * force;
        }
      }
    for (int i = 0; i < 5; i++)
      for (int c = 0; c < 3; c++) bodies[i].x[c] += 0.001 * bodies[i].v[c];
  }
  uint64_t sum = 0;
  for (int i = 0; i < 5; i++) sum = mix(sum, bits(bodies[i].x[0]));
  return sum;
}

static uint64_t mandelbrot(uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t y = 0; y < n; y++)
    for (uint64_t x = 0; x < n; x++) {
      double cr = 2.5 * (double)x / (double)n - 1.9, ci = 2.0 * (double)y / (double)n - 1, r = 0, i = 0;
      int k = 0;
      for (; k < 80 && r * r + i * i < 4; k++) {
        double t = r * r - i * i + cr;
        i = 2 * r * i + ci;
        r = t;
      }
      sum = mix(sum, (uint64_t)k);
    }
  return sum;
}

static uint64_t matrix(uint64_t n) {
  enum { SIZE = 64 };
  static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];
  uint64_t state = 43;
  for (int i = 0; i < SIZE; i++)
    for (int k = 0; k < SIZE; k++) {
      a[i][k] = (double)(next_random(&state) >> 40) / 65536;
      b[i][k] = (double)(next_random(&state) >> 40) / 65536;
    }
  for (uint64_t round = 0; round < n; round++) {
    for (int i = 0; i < SIZE; i++)
      for (int k = 0; k < SIZE; k++) {
        double sum = 0;
        for (int j = 0; j < SIZE; j++) sum += a[i][j] * b[j][k];
        c[i][k] = sum;
      }
    a[round % SIZE][0] = c[1][round % SIZE] / 65536;
  }
  uint64_t sum = 0;
  for (int i = 0; i < SIZE; i++) sum = mix(sum, bits(c[i][i]));
  return sum;
}

/* x87: sums of series with 64-bit precision. */
static uint64_t long_double(uint64_t n) {
  long double sum = 0, product = 1, x = 0.7L;
  for (uint64_t i = 1; i <= n; i++) {
    sum += 1.0L / ((long double)i * i + x);
    product *= 1 + 1 / ((long double)i * (i + 1));
    x = sqrtl(x * x + 0.25L) - x * 0.1L;
    if (x > 3) x -= 2.5L;
  }
  return mix(bits((double)sum), bits((double)product)) ^ bits((double)x);
}

static uint64_t functions(uint64_t n) {
  double sum = 0, x = 0.1;
  for (uint64_t i = 0; i < n; i++) {
    sum += sin(x) * cos(x / 3) + exp(-x) + log(x + 1) + pow(x, 1.3) + atan2(x, 2) + floor(x * 7);
    x += 0.0137;
    if (x > 20) x -= 19.9;
  }
  return bits(sum);
}

const struct workload float_workloads[] = {
    {"nbody", nbody, 200000},           {"mandelbrot", mandelbrot, 520},   {"matrix", matrix, 120},
    {"long-double", long_double, 600000}, {"functions", functions, 100000}, {0},
};
