/* Rings, bottom halves, clockEnable, conditions and barriers: shared/src, src/aio/bottom-half.ts, src/timer/clock.ts. */
#include "sync.h"

/* --- rings: ring-header.ts, spsc-ring.ts, spsc-record-ring.ts --- */

#define CAPACITY 4096
#define MASK (CAPACITY - 1)
#define SKIP 0xffffffffu

struct event_count { _Atomic int32_t seq, waiting; };
struct ring {
    LINE _Atomic int32_t tail;
    _Atomic int32_t closed;
    struct event_count space;
    LINE _Atomic int32_t head;
    struct event_count data;
    LINE uint8_t bytes[CAPACITY];
    struct mutex producers;
};

static void wake(struct event_count *e)
{
    if (atomic_load(&e->waiting) == 0) return;
    atomic_store(&e->waiting, 0);
    atomic_fetch_add(&e->seq, 1);
    futex_wake(&e->seq, INT_MAX);
}

static int32_t used(struct ring *r)
{
    int32_t head = atomic_load(&r->head), n = atomic_load(&r->tail) - head;
    return n < CAPACITY ? n : CAPACITY;
}

/* Sleeps until there are n bytes, or n bytes are free. */
static void wait_for(struct ring *r, struct event_count *e, int32_t n, int data)
{
    for (;;) {
        int32_t key, have = used(r);
        if ((data ? have : CAPACITY - have) >= n) return;
        key = atomic_load(&e->seq);
        atomic_store(&e->waiting, 1);
        have = used(r);
        if ((data ? have : CAPACITY - have) >= n) return;
        futex_wait(&e->seq, key, -1);
    }
}

static void copy_in(struct ring *r, int32_t at, const uint8_t *from, int32_t n)
{
    int32_t place = at & MASK, first = n < CAPACITY - place ? n : CAPACITY - place;
    memcpy(r->bytes + place, from, first);
    memcpy(r->bytes, from + first, n - first);
}

static void copy_out(struct ring *r, int32_t at, uint8_t *to, int32_t n)
{
    int32_t place = at & MASK, first = n < CAPACITY - place ? n : CAPACITY - place;
    memcpy(to, r->bytes + place, first);
    memcpy(to + first, r->bytes, n - first);
}

static int32_t ring_write(struct ring *r, const uint8_t *from, int32_t n)
{
    int32_t tail, room = CAPACITY - used(r);
    if (n > room) n = room;
    if (n <= 0) return 0;
    tail = atomic_load(&r->tail);
    copy_in(r, tail, from, n);
    atomic_store(&r->tail, tail + n);
    wake(&r->data);
    return n;
}

static int32_t ring_read(struct ring *r, uint8_t *to, int32_t n)
{
    int32_t head, have = used(r);
    if (n > have) n = have;
    if (n <= 0) return 0;
    head = atomic_load(&r->head);
    copy_out(r, head, to, n);
    atomic_store(&r->head, head + n);
    wake(&r->space);
    return n;
}

static uint32_t *word_at(struct ring *r, int32_t at) { return (uint32_t *)(r->bytes + (at & MASK)); }

static int record_push(struct ring *r, const uint8_t *from, int32_t length)
{
    int32_t tail = atomic_load(&r->tail), size = 4 + ((length + 3) & ~3);
    int32_t to_end = CAPACITY - (tail & MASK), skip = size <= to_end ? 0 : to_end;
    if (CAPACITY - used(r) < skip + size) return 0;
    if (skip) *word_at(r, tail) = SKIP;
    *word_at(r, tail + skip) = length;
    memcpy(word_at(r, tail + skip) + 1, from, length);
    atomic_store(&r->tail, tail + skip + size);
    wake(&r->data);
    return 1;
}

static int32_t record_pop(struct ring *r, uint8_t *to)
{
    int32_t head, length;
    if (used(r) == 0) return -1;
    head = atomic_load(&r->head);
    if (*word_at(r, head) == SKIP) head += CAPACITY - (head & MASK);
    length = *word_at(r, head);
    memcpy(to, word_at(r, head) + 1, length);
    atomic_store(&r->head, head + 4 + ((length + 3) & ~3));
    wake(&r->space);
    return length;
}

static int shared_push(struct ring *r, const uint8_t *from, int32_t length)
{
    int done;
    mutex_lock(&r->producers);
    done = record_push(r, from, length);
    mutex_unlock(&r->producers);
    return done;
}

/* --- notifier, lists and their done-event, bottom halves --- */

struct notifier { _Atomic int32_t notified, notify_me; };
struct timer_list { LINE _Atomic double head; _Atomic int32_t done, runner, current; struct mutex lock; };
struct group { LINE _Atomic int32_t used; struct notifier notifier; struct timer_list lists[4]; };
#define GROUPS 2
static struct group groups[GROUPS];
static _Atomic int32_t enabled[4];

enum { PENDING = 1, SCHEDULED = 2, ONESHOT = 4, IDLE = 8, DELETED = 16 };
struct half { _Atomic int32_t flags; int32_t next, callback, arg; };
#define HALVES 64
static struct half halves[HALVES + 1];
LINE static _Atomic int32_t top;
LINE static struct mutex free_lock;
static int32_t free_half, fresh_half;
static struct event_count room;
static int32_t slice_first, slice_last;
static volatile double called_sum;
static void callback(int32_t arg) { called_sum = called_sum + arg; }
static void (*callbacks[2])(int32_t) = { callback, callback };

static void notify(struct notifier *n)
{
    atomic_store(&n->notified, 1);
    if (atomic_load(&n->notify_me) != 0) futex_wake(&n->notified, INT_MAX);
}

static void enqueue(int32_t index, int32_t flags)
{
    if ((atomic_fetch_or(&halves[index].flags, PENDING | flags) & PENDING) == 0) {
        int32_t seen = atomic_load(&top);
        do halves[index].next = seen;
        while (!atomic_compare_exchange_strong(&top, &seen, index));
    }
    notify(&groups[1].notifier);
}

static void schedule_oneshot(int32_t which)
{
    int32_t index;
    mutex_lock(&free_lock);
    index = free_half;
    if (index) free_half = halves[index].next;
    else index = ++fresh_half;
    mutex_unlock(&free_lock);
    halves[index].callback = which;
    halves[index].arg = 0;
    atomic_store(&halves[index].flags, ONESHOT);
    enqueue(index, SCHEDULED);
}

static void dispatch(void)
{
    struct notifier *n = &groups[1].notifier;
    if (atomic_load(&n->notified) != 0) atomic_exchange(&n->notified, 0);
    if (atomic_load(&top) != 0) {
        int32_t newest = atomic_exchange(&top, 0), first = 0;
        for (int32_t link = newest; link != 0;) {
            int32_t older = halves[link].next;
            halves[link].next = first;
            first = link;
            link = older;
        }
        if (slice_first == 0) slice_first = first;
        else halves[slice_last].next = first;
        slice_last = newest;
    }
    while (slice_first != 0) {
        int32_t index = slice_first, which = halves[index].callback, arg = halves[index].arg, flags;
        slice_first = halves[index].next;
        flags = atomic_fetch_and(&halves[index].flags, ~(PENDING | SCHEDULED | IDLE));
        if (flags & (DELETED | ONESHOT)) {
            mutex_lock(&free_lock);
            halves[index].next = free_half;
            free_half = index;
            mutex_unlock(&free_lock);
            wake(&room);
        }
        if ((flags & (SCHEDULED | DELETED)) == SCHEDULED) callbacks[which](arg);
    }
    for (int i = 0; i < 4; i++) if (atomic_load(&groups[1].lists[i].head) < 1e299) abort();
}

static void loop_wait(void)
{
    struct notifier *n = &groups[1].notifier;
    if (atomic_load(&top) != 0) return;
    atomic_fetch_add(&n->notify_me, 1);
    futex_wait(&n->notified, 0, -1);
    atomic_fetch_add(&n->notify_me, -1);
}

/* A pass over a list with one timer that is due and arms itself again. */
static void pass(struct timer_list *l)
{
    int32_t none = 0;
    if (atomic_load(&l->head) > 1e299 || !atomic_compare_exchange_strong(&l->runner, &none, 1)) return;
    event_reset(&l->done);
    if (atomic_load(&enabled[1])) {
        mutex_lock(&l->lock);
        atomic_store(&l->head, 1e300);
        mutex_unlock(&l->lock);
        atomic_store(&l->current, 1);
        mutex_lock(&l->lock);
        atomic_store(&l->head, 5);
        mutex_unlock(&l->lock);
        notify(&groups[1].notifier);
    }
    atomic_store(&l->current, -1);
    atomic_store(&l->runner, 0);
    event_set(&l->done);
}

static void clock_enable(int type, int on)
{
    int32_t was;
    if (!on)
        for (int g = 0; g < GROUPS; g++)
            if (atomic_load(&groups[g].used) && atomic_load(&groups[g].lists[type].runner) == 2) abort();
    was = atomic_exchange(&enabled[type], on);
    if (on && was) return;
    for (int g = 0; g < GROUPS; g++) {
        if (!atomic_load(&groups[g].used)) continue;
        if (on) notify(&groups[g].notifier);
        else while (atomic_load(&groups[g].lists[type].done) != 0) event_wait(&groups[g].lists[type].done);
    }
}

static void start_loops(void)
{
    for (int g = 0; g < GROUPS; g++) {
        atomic_store(&groups[g].used, 1);
        for (int i = 0; i < 4; i++) atomic_store(&groups[g].lists[i].head, 1e300);
    }
    for (int i = 0; i < 4; i++) atomic_store(&enabled[i], 1);
    if (fresh_half == 0) fresh_half = 1;
}

/* --- condition, barrier --- */

struct condition { _Atomic int32_t seq, waiters; };
struct barrier { _Atomic int32_t arrived, generation, parties; };

static void condition_wait(struct condition *c, struct mutex *m)
{
    int32_t seq;
    atomic_fetch_add(&c->waiters, 1);
    seq = atomic_load(&c->seq);
    mutex_unlock(m);
    futex_wait(&c->seq, seq, -1);
    atomic_fetch_add(&c->waiters, -1);
    mutex_lock(m);
}

static void condition_signal(struct condition *c)
{
    if (atomic_load(&c->waiters) == 0) return;
    atomic_fetch_add(&c->seq, 1);
    futex_wake(&c->seq, 1);
}

static void barrier_wait(struct barrier *b)
{
    int32_t generation = atomic_load(&b->generation), parties = atomic_load(&b->parties);
    if (atomic_fetch_add(&b->arrived, 1) + 1 == parties) {
        atomic_store(&b->arrived, 0);
        atomic_fetch_add(&b->generation, 1);
        futex_wake(&b->generation, INT_MAX);
        return;
    }
    while (atomic_load(&b->generation) == generation) futex_wait(&b->generation, generation, -1);
}

static void contended_acquire(struct semaphore *s)
{
    for (;;) {
        int32_t n = atomic_load(&s->permits);
        while (n > 0)
            if (atomic_compare_exchange_strong(&s->permits, &n, n - 1)) return;
        atomic_fetch_add(&s->waiters, 1);
        futex_wait(&s->permits, 0, -1);
        atomic_fetch_add(&s->waiters, -1);
    }
}

/* --- measurements --- */

static struct ring the_ring;
LINE static struct mutex the_lock;
LINE static struct condition the_condition;
LINE static struct barrier the_barrier;
LINE static struct semaphore the_permits;
LINE static _Atomic int32_t over;
static int32_t turn;
static uint8_t bytes[2][64];

double loop_alone(const char *name, long n)
{
    double start;
    start_loops();
    start = now_ns();
    if (!strcmp(name, "ring")) for (long i = 0; i < n; i++) { ring_write(&the_ring, bytes[0], 64); ring_read(&the_ring, bytes[1], 64); }
    else if (!strcmp(name, "records")) for (long i = 0; i < n; i++) { record_push(&the_ring, bytes[0], 60); record_pop(&the_ring, bytes[1]); }
    else if (!strcmp(name, "mpsc")) for (long i = 0; i < n; i++) { shared_push(&the_ring, bytes[0], 60); record_pop(&the_ring, bytes[1]); }
    else if (!strcmp(name, "signal")) for (long i = 0; i < n; i++) condition_signal(&the_condition);
    else if (!strcmp(name, "notify")) for (long i = 0; i < n; i++) notify(&groups[1].notifier);
    else if (!strcmp(name, "bh-schedule")) for (long i = 0; i < n; i++) enqueue(1, SCHEDULED);
    else if (!strcmp(name, "bh-turn")) for (long i = 0; i < n; i++) { enqueue(1, SCHEDULED); dispatch(); }
    else if (!strcmp(name, "bh-oneshot")) for (long i = 0; i < n; i++) { schedule_oneshot(1); dispatch(); }
    else if (!strcmp(name, "clock-enable")) for (long i = 0; i < n; i++) { clock_enable(1, 0); clock_enable(1, 1); }
    else if (!strcmp(name, "deadline"))
        for (long i = 0; i < n; i++) {
            double soonest = 1e300;
            for (int k = 0; k < 4; k++) {
                double head = atomic_load(&groups[1].lists[k].head);
                if (head < soonest && atomic_load(&enabled[k])) soonest = head;
            }
            called_sum = soonest;
        }
    else return -1;
    return (now_ns() - start) / n;
}

struct side { const char *name; long n; int index; };
static _Atomic int32_t start_word;

static void *side(void *arg)
{
    struct side *s = arg;
    long n = s->n;
    int me = s->index;
    while (!atomic_load(&start_word)) sched_yield();
    if (!strcmp(s->name, "semaphore")) for (long i = 0; i < n; i++) { contended_acquire(&the_permits); semaphore_release(&the_permits); }
    else if (!strcmp(s->name, "barrier")) for (long i = 0; i < n; i++) barrier_wait(&the_barrier);
    else if (!strcmp(s->name, "condition"))
        for (long i = 0; i < n; i++) {
            mutex_lock(&the_lock);
            while (turn != me) condition_wait(&the_condition, &the_lock);
            turn = 1 - me;
            condition_signal(&the_condition);
            mutex_unlock(&the_lock);
        }
    else if (!strcmp(s->name, "ring"))
        for (long i = 0; i < n; i++)
            for (int32_t done = 0; done < 64;) {
                if (me == 0) {
                    wait_for(&the_ring, &the_ring.space, 1, 0);
                    done += ring_write(&the_ring, bytes[0] + done, 64 - done);
                } else {
                    wait_for(&the_ring, &the_ring.data, 1, 1);
                    done += ring_read(&the_ring, bytes[1] + done, 64 - done);
                }
            }
    else if (!strcmp(s->name, "records"))
        for (long i = 0; i < n; i++) {
            if (me == 0) while (!shared_push(&the_ring, bytes[0], 60)) wait_for(&the_ring, &the_ring.space, 64, 0);
            else while (record_pop(&the_ring, bytes[1]) < 0) wait_for(&the_ring, &the_ring.data, 1, 1);
        }
    else if (!strcmp(s->name, "bh")) {
        if (me == 0) {
            for (long i = 0; i < n; i++) enqueue(1, SCHEDULED);
            atomic_store(&over, 1);
            notify(&groups[1].notifier);
        } else while (!atomic_load(&over)) { dispatch(); if (!atomic_load(&over)) loop_wait(); }
    } else {
        if (me == 0) {
            for (long i = 0; i < n; i++) { clock_enable(1, 0); clock_enable(1, 1); }
            atomic_store(&over, 1);
        } else while (!atomic_load(&over)) pass(&groups[1].lists[1]);
    }
    return NULL;
}

double loop_contended(const char *name, long n)
{
    static const char *const names[] = { "semaphore", "barrier", "condition", "ring", "records", "bh", "clock-enable", NULL };
    pthread_t threads[2];
    double start;
    int known = 0;
    struct side sides[2] = { { name, n, 0 }, { name, n, 1 } };
    for (int i = 0; names[i]; i++) known |= !strcmp(name, names[i]);
    if (!known) return -1;
    start_loops();
    atomic_store(&start_word, 0);
    atomic_store(&over, 0);
    atomic_store(&the_permits.permits, 1);
    atomic_store(&the_barrier.parties, 2);
    turn = 0;
    if (!strcmp(name, "clock-enable")) atomic_store(&groups[1].lists[1].head, 5);
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, side, &sides[i]);
    usleep(1000);
    start = now_ns();
    atomic_store(&start_word, 1);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    return (now_ns() - start) / n;
}
