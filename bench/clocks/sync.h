/*
 * The protocols of shared/src in C, to compare with: same states, same order of atomic operations. gcc -O2 -pthread.
 */
#ifndef SYNC_H
#define SYNC_H
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINE __attribute__((aligned(64)))

static inline double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static inline long futex_wait(_Atomic int32_t *word, int32_t expected, double timeout_ns)
{
    struct timespec t, *p = NULL;
    if (timeout_ns >= 0) {
        t.tv_sec = (time_t)(timeout_ns / 1e9);
        t.tv_nsec = (long)(timeout_ns - t.tv_sec * 1e9);
        p = &t;
    }
    return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, p, NULL, 0);
}

static inline void futex_wake(_Atomic int32_t *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* --- mutex: FREE, HELD, CONTENDED --- */

struct mutex { _Atomic int32_t state; int32_t owner; };

static inline void mutex_lock(struct mutex *m)
{
    int32_t free = 0;
    if (!atomic_compare_exchange_strong(&m->state, &free, 1)) {
        int i;
        for (i = 0; i < 40; i++) {
            int32_t state = atomic_load(&m->state);
            int32_t expected = 0;
            if (state == 0) {
                if (atomic_compare_exchange_strong(&m->state, &expected, 1)) break;
            } else if (state == 2) {
                i = 40;
                break;
            }
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
        if (i >= 40)
            while (atomic_exchange(&m->state, 2) != 0) futex_wait(&m->state, 2, -1);
    }
    m->owner = 1;
}

static inline void mutex_unlock(struct mutex *m)
{
    m->owner = 0;
    if (atomic_exchange(&m->state, 0) == 2) futex_wake(&m->state, 1);
}

/* --- event: SET 0, FREE 1, BUSY -1 --- */

static inline void event_set(_Atomic int32_t *e)
{
    if (atomic_exchange(e, 0) == -1) futex_wake(e, INT_MAX);
}

static inline void event_reset(_Atomic int32_t *e)
{
    if (atomic_load(e) == 0) atomic_fetch_or(e, 1);
}

static inline void event_wait(_Atomic int32_t *e)
{
    int32_t state = atomic_load(e);
    if (state == 0) return;
    if (state == 1) {
        int32_t expected = 1;
        if (!atomic_compare_exchange_strong(e, &expected, -1) && expected == 0) return;
    }
    futex_wait(e, -1, -1);
}

/* --- semaphore --- */

struct semaphore { _Atomic int32_t permits, waiters; };

static inline void semaphore_acquire(struct semaphore *s)
{
    int32_t n = atomic_load(&s->permits);
    while (n > 0)
        if (atomic_compare_exchange_strong(&s->permits, &n, n - 1)) return;
    abort(); /* uncontended here */
}

static inline void semaphore_release(struct semaphore *s)
{
    atomic_fetch_add(&s->permits, 1);
    if (atomic_load(&s->waiters) != 0) futex_wake(&s->permits, 1);
}

/* --- spin lock, sequence lock --- */

static inline void spin_lock(_Atomic int32_t *l)
{
    int32_t free = 0;
    while (!atomic_compare_exchange_strong(l, &free, 1)) free = 0;
}

static inline double seq_read(_Atomic uint32_t *seq, _Atomic double *word)
{
    for (;;) {
        uint32_t s = atomic_load(seq);
        double value;
        if (s & 1) continue;
        value = atomic_load(word);
        if (atomic_load(seq) == s) return value;
    }
}

/* --- loops.c --- */

/* Ns for each of n operations, of one thread or of two; -1: there is no such operation. */
double loop_alone(const char *name, long n);
double loop_contended(const char *name, long n);

#endif
