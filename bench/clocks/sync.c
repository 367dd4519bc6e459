/*
 * Measures the C peers: commands come on standard input, a line each; answers go to standard output: "ns N" for a
 * mean, "list N N N ..." for single values. Timer lists are here (src/timer/timer-list.ts, same heap), locks in sync.h,
 * event loops in loops.c.
 */
#include "sync.h"

/* --- timer list: four children to an entry, which lie in one cache line --- */

struct entry { double when; int32_t timer, seq; };
struct list {
    struct mutex lock;
    _Atomic double head;
    int32_t next_seq, count;
    struct entry *heap;
    int32_t *places;
    _Atomic double *expiries;
    _Atomic int32_t notified, notify_me;
};

static int before(double when, int32_t seq, const struct entry *e)
{
    return when < e->when || (when == e->when && seq < e->seq);
}

static void place(struct list *l, int32_t at, struct entry e)
{
    l->heap[at] = e;
    l->places[e.timer] = at + 1;
}

static int32_t sift_up(struct list *l, int32_t at, double when, int32_t seq)
{
    while (at > 0) {
        int32_t parent = (at - 1) >> 2;
        if (!before(when, seq, &l->heap[parent])) break;
        place(l, at, l->heap[parent]);
        at = parent;
    }
    return at;
}

static int32_t sift_down(struct list *l, int32_t at, double when, int32_t seq)
{
    for (;;) {
        int32_t child = at * 4 + 1, past = child + 4, other;
        if (child >= l->count) return at;
        if (past > l->count) past = l->count;
        for (other = child + 1; other < past; other++)
            if (before(l->heap[other].when, l->heap[other].seq, &l->heap[child])) child = other;
        if (before(when, seq, &l->heap[child])) return at;
        place(l, at, l->heap[child]);
        at = child;
    }
}

static void publish(struct list *l)
{
    double head = l->count == 0 ? 1e300 : l->heap[0].when;
    if (atomic_load(&l->head) != head) atomic_store(&l->head, head);
}

static void timer_mod(struct list *l, int32_t timer, double when)
{
    struct entry e = { when, timer, 0 };
    int32_t at, up, was;
    mutex_lock(&l->lock);
    e.seq = l->next_seq++;
    atomic_store_explicit(&l->expiries[timer], when, memory_order_relaxed);
    was = l->places[timer];
    at = was ? was - 1 : l->count++;
    up = sift_up(l, at, when, e.seq);
    at = up == at && was ? sift_down(l, at, when, e.seq) : up;
    place(l, at, e);
    publish(l);
    mutex_unlock(&l->lock);
    if (at == 0) {
        atomic_store(&l->notified, 1);
        if (atomic_load(&l->notify_me) != 0) futex_wake(&l->notified, INT_MAX);
    }
}

static void timer_del(struct list *l, int32_t timer)
{
    mutex_lock(&l->lock);
    if (l->places[timer]) {
        int32_t hole = l->places[timer] - 1, last = --l->count;
        l->places[timer] = 0;
        atomic_store_explicit(&l->expiries[timer], -1, memory_order_relaxed);
        if (hole != last) {
            struct entry e = l->heap[last];
            int32_t up = sift_up(l, hole, e.when, e.seq);
            place(l, up == hole ? sift_down(l, hole, e.when, e.seq) : up, e);
        }
        publish(l);
    }
    mutex_unlock(&l->lock);
}

static void timer_anticipate(struct list *l, int32_t timer, double when)
{
    int pending;
    double old = 0;
    mutex_lock(&l->lock);
    pending = l->places[timer];
    if (pending) old = l->heap[pending - 1].when;
    mutex_unlock(&l->lock);
    if (!pending || when < old) timer_mod(l, timer, when);
}

/* One pass: whoever is due, each taken under the lock and called without it. */
static void run_timers(struct list *l, double now, void (*call)(int32_t))
{
    for (;;) {
        int32_t timer = -1;
        mutex_lock(&l->lock);
        if (l->count > 0 && l->heap[0].when <= now) timer = l->heap[0].timer;
        mutex_unlock(&l->lock);
        if (timer < 0) return;
        timer_del(l, timer);
        call(timer);
    }
}

static struct list *list_new(int32_t timers)
{
    struct list *l = aligned_alloc(64, 256);
    memset(l, 0, sizeof *l);
    l->heap = (struct entry *)aligned_alloc(64, (size_t)(timers + 4) * sizeof *l->heap / 64 * 64 + 64) + 3;
    l->places = calloc(timers, sizeof *l->places);
    l->expiries = calloc(timers, sizeof *l->expiries);
    atomic_store(&l->head, 1e300);
    return l;
}

static void list_free(struct list *l)
{
    free(l->heap - 3);
    free(l->places);
    free((void *)l->expiries);
    free(l);
}

static uint32_t lcg(uint32_t *seed) { return *seed = *seed * 1103515245u + 12345u; }

/* --- measurements --- */

LINE static struct mutex the_mutex;
LINE static _Atomic int32_t the_event;
LINE static struct semaphore the_semaphore;
LINE static _Atomic int32_t the_spin;
LINE static _Atomic uint32_t the_seq;
LINE static _Atomic double the_word = 5;
LINE static _Atomic int32_t go;
static volatile double sink;

/* Random numbers are made beforehand, and go on from one sample to the next, so that no branch is learnt by heart. */
#define PICKS (1 << 16)
static int32_t which[PICKS];
static double when[PICKS];
static int pick;

static void make_picks(int32_t count)
{
    uint32_t seed = 7;
    for (int i = 0; i < PICKS; i++) {
        which[i] = (lcg(&seed) >> 8) % (uint32_t)count;
        when[i] = 1.0 + lcg(&seed);
    }
}

static void called(int32_t timer) { sink = sink + timer; }

static double expiries(int32_t count, long n)
{
    struct list *l = list_new(count);
    double start = now_ns(), end;
    for (long done = 0; done < n; done += count) {
        for (int32_t i = 0; i < count; i++, pick = (pick + 1) % PICKS) timer_mod(l, i, when[pick]);
        run_timers(l, 1e299, called);
    }
    end = now_ns();
    list_free(l);
    return (end - start) / n;
}

/* The list lives from one sample to the next, so that its memory is as warm as ours. */
static double timers(const char *op, int32_t count, long n)
{
    static struct list *l;
    static int32_t armed;
    uint32_t seed = 1;
    double start, end;
    if (armed != count) {
        if (l != NULL) list_free(l);
        l = list_new(armed = count);
        for (int32_t i = 0; i < count; i++) timer_mod(l, i, 1.0 + lcg(&seed));
    }
    start = now_ns();
    for (long i = 0; i < n; i++, pick = (pick + 1) % PICKS) {
        int32_t timer = which[pick];
        if (op[0] == 'm') timer_mod(l, timer, when[pick]);
        else if (op[0] == 'a') timer_anticipate(l, timer, when[pick]);
        else {
            timer_del(l, timer);
            timer_mod(l, timer, when[pick]);
        }
    }
    end = now_ns();
    return (end - start) / n;
}

static const char *contended_op;
static struct list *contended_list;

static void *contender(void *arg)
{
    long n = *(long *)arg;
    uint32_t seed = 7;
    while (!atomic_load(&go)) sched_yield();
    if (!strcmp(contended_op, "mutex"))
        for (long i = 0; i < n; i++) {
            mutex_lock(&the_mutex);
            sink = sink + 1;
            mutex_unlock(&the_mutex);
        }
    else if (!strcmp(contended_op, "spinlock"))
        for (long i = 0; i < n; i++) {
            spin_lock(&the_spin);
            atomic_store(&the_spin, 0);
        }
    else if (!strcmp(contended_op, "add"))
        for (long i = 0; i < n; i++) atomic_fetch_add(&the_spin, 2);
    else
        for (long i = 0; i < n; i++) timer_mod(contended_list, lcg(&seed) % 1000, 1.0 + lcg(&seed));
    return NULL;
}

static double contended(const char *op, long n)
{
    pthread_t a, b;
    double start = loop_contended(op, n);
    if (start >= 0) return start;
    contended_op = op;
    contended_list = list_new(1000);
    atomic_store(&the_spin, 0);
    atomic_store(&go, 0);
    pthread_create(&a, NULL, contender, &n);
    pthread_create(&b, NULL, contender, &n);
    usleep(1000);
    start = now_ns();
    atomic_store(&go, 1);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    start = (now_ns() - start) / (2 * n);
    list_free(contended_list);
    return start;
}

LINE static _Atomic int32_t ping;
LINE static _Atomic int32_t pong;

static void *ponger(void *arg)
{
    long n = *(long *)arg;
    for (long i = 0; i < n; i++) {
        while (atomic_load(&ping) != 0) event_wait(&ping);
        event_reset(&ping);
        event_set(&pong);
    }
    return NULL;
}

/* The best of batches of round trips counts. */
#define BATCH 50

static double round_trip(long n)
{
    pthread_t t;
    double start, best = 1e300;
    atomic_store(&ping, 1);
    atomic_store(&pong, 1);
    pthread_create(&t, NULL, ponger, &n);
    for (long done = 0; done < n; done += BATCH) {
        start = now_ns();
        for (int i = 0; i < BATCH; i++) {
            event_set(&ping);
            while (atomic_load(&pong) != 0) event_wait(&pong);
            event_reset(&pong);
        }
        start = (now_ns() - start) / BATCH;
        if (start < best) best = start;
    }
    pthread_join(t, NULL);
    return best;
}

/* A 1 kHz timer: how late each of n expiries is seen by a loop that sleeps in a futex. */
static void lateness(long n)
{
    static _Atomic int32_t word;
    double next = now_ns() + 1e6;
    prctl(PR_SET_TIMERSLACK, 1UL);
    printf("list");
    for (long i = 0; i < n; i++, next += 1e6) {
        double now;
        while ((now = now_ns()) < next) futex_wait(&word, 0, next - now);
        printf(" %.0f", now - next);
        while (next + 1e6 < now) next += 1e6;
    }
    printf("\n");
}

static double measure(const char *name, long n)
{
    double start = now_ns();
    double sum = 0;
    if (!strcmp(name, "mutex")) for (long i = 0; i < n; i++) { mutex_lock(&the_mutex); mutex_unlock(&the_mutex); }
    else if (!strcmp(name, "event")) for (long i = 0; i < n; i++) { event_reset(&the_event); event_set(&the_event); event_wait(&the_event); }
    else if (!strcmp(name, "semaphore")) {
        atomic_store(&the_semaphore.permits, 1);
        for (long i = 0; i < n; i++) { semaphore_acquire(&the_semaphore); semaphore_release(&the_semaphore); }
    }
    else if (!strcmp(name, "spinlock")) for (long i = 0; i < n; i++) { spin_lock(&the_spin); atomic_store(&the_spin, 0); }
    else if (!strcmp(name, "seqlock-read")) for (long i = 0; i < n; i++) sum += seq_read(&the_seq, &the_word);
    else if (!strcmp(name, "seqlock-write")) for (long i = 0; i < n; i++) { atomic_fetch_add(&the_seq, 1); atomic_store(&the_word, i); atomic_fetch_add(&the_seq, 1); }
    else if (!strcmp(name, "load")) for (long i = 0; i < n; i++) sum += atomic_load(&the_spin);
    else if (!strcmp(name, "add")) for (long i = 0; i < n; i++) sum += atomic_fetch_add(&the_spin, 2);
    else if (!strcmp(name, "clock")) for (long i = 0; i < n; i++) sum += now_ns();
    else return loop_alone(name, n);
    sink = sum;
    atomic_store(&the_spin, 0);
    return (now_ns() - start) / n;
}

int main(void)
{
    char name[64];
    long n, count;
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    while (scanf("%63s %ld %ld", name, &n, &count) == 3) {
        double ns, best = 1e300;
        /* of what one thread does alone the best of some samples counts */
        int samples = !strncmp(name, "contended-", 10) || !strcmp(name, "round-trip") ? 1 : 20;
        if (!strcmp(name, "lateness")) { lateness(n); continue; }
        if (count > 0) make_picks(count);
        for (; samples > 0; samples--) {
            if (!strcmp(name, "timer-mod")) ns = timers("mod", count, n);
            else if (!strcmp(name, "timer-anticipate")) ns = timers("anticipate", count, n);
            else if (!strcmp(name, "timer-expire")) ns = expiries(count, n);
            else if (!strcmp(name, "timer-del-mod")) ns = timers("del", count, n);
            else if (!strncmp(name, "contended-", 10)) ns = contended(name + 10, n);
            else if (!strcmp(name, "round-trip")) ns = round_trip(n);
            else ns = measure(name, n);
            if (ns < best) best = ns;
        }
        printf("ns %.3f\n", best);
    }
    return 0;
}
