/* Processes that take slots of windows and give them back, in one thread: at every atomic operation chance says who
 * goes on. Now and then one stands still for long, as one does that has lost its processor, or is killed, forgotten and
 * replaced. So what real processes would meet once in days of load is met in seconds, and a seed meets it again.
 *
 *     interleave PROCESSES KEYS NUMBER STEPS SEED
 *
 * Every key is in a neighbourhood of its own and has two windows, its own and its crowd's. Prints how many slots were
 * taken, how many of them of crowds, how often none was left, how many processes were killed, how often a window held
 * more than NUMBER, and how many slots are taken in the end.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "engine.h"
#include "hash.h"

#define MOST 16
#define DEAD UINT64_MAX     /* it goes on no more, or not yet again */
#define STACK 65536
#define HELD 4              /* slots of one process at a time */
#define WORDS 64            /* buckets of a segment with 16 windows, which all keys compete for */
#define SELDOM 30           /* of so many steps one is long */
#define LONG 400            /* steps that others do meanwhile, at most */
#define FATAL 20000         /* of so many steps one kills somebody */

struct process {
    ucontext_t context;
    uint64_t until;         /* steps: until then it stands still */
    struct tg_engine engine;
    struct tg_taken held[HELD];
    unsigned windows[HELD], n;  /* of what is held */
    char stack[STACK];
};

static struct process processes[MOST];
static ucontext_t start;
static struct tg_segment segment;
static uint64_t chance, steps, most_steps;
static unsigned count, keys, number, current, ended;
static unsigned *in_flight;     /* by window: what is in flight for sure */
static uint64_t taken, of_crowds, refused, killed, too_many;
static bool is_killing;

static uint64_t choose(uint64_t among)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (chance >> 16) % among;
}

static void go_on(unsigned next)
{
    unsigned before = current;
    if (next == before) return;
    current = next;
    swapcontext(&processes[before].context, &processes[next].context);
}

static void run(void);

static bool begin(struct process *one)
{
    one->n = 0;
    if (!tg_engine_init(&one->engine, &segment, (uint32_t)(one - processes), 0)) return false;
    getcontext(&one->context);
    one->context.uc_stack.ss_sp = one->stack;
    one->context.uc_stack.ss_size = STACK;
    makecontext(&one->context, run, 0);
    one->until = 0;
    return true;
}

/* What a supervisor does when a process has died; the others go on meanwhile. */
static void replace(struct process *one)
{
    is_killing = true;
    one->until = DEAD;
    for (unsigned i = 0; i < one->n; i++) in_flight[one->windows[i]]--;
    tg_segment_recover(&segment, (uint32_t)(one - processes));
    tg_engine_free(&one->engine);
    if (!begin(one)) abort();
    killed++;
    is_killing = false;
}

void tg_step(void)
{
    if (ended == count) return;
    steps++;
    unsigned next = (unsigned)choose(count);
    if (!is_killing && choose(FATAL) == 0 && next != current && processes[next].until != DEAD)
        replace(&processes[next]);
    if (choose(SELDOM) == 0) processes[current].until = steps + choose(LONG);
    for (unsigned i = 0; i < count && processes[next].until > steps; i++) next = (next + 1) % count;
    if (processes[next].until != DEAD) go_on(next);
}

static void release(struct process *one, unsigned i)
{
    uint32_t place = one->held[i].place;
    in_flight[one->windows[i]]--;
    one->held[i] = one->held[--one->n];
    one->windows[i] = one->windows[one->n];
    tg_window_free(&one->engine, place);
}

static void run(void)
{
    struct process *one = &processes[current];
    while (steps < most_steps) {
        if (one->n < HELD && choose(2)) {
            unsigned key = (unsigned)choose(keys);
            struct tg_window window = {0, tg_mix(key, 1), key, tg_mix(key, 2), number};
            bool crowd = false;
            if (tg_window_take(&one->engine, &window, true, &one->held[one->n], &crowd)) {
                unsigned mine = one->windows[one->n++] = 2 * key + crowd;
                if (++in_flight[mine] > number) too_many++;
                taken++;
                of_crowds += crowd;
            } else {
                refused++;
            }
        } else if (one->n > 0) {
            release(one, (unsigned)choose(one->n));
        }
    }
    while (one->n > 0) release(one, 0);
    one->until = DEAD;
    if (++ended == count) setcontext(&start);
    for (unsigned i = 0;; i = (i + 1) % count)
        if (processes[i].until != DEAD) go_on(i);
}

int main(int argc, char **argv)
{
    static const uint64_t secret[2] = {1, 2};
    char error[TG_ERROR];
    if (argc != 6) return 2;
    count = (unsigned)atoi(argv[1]);
    keys = (unsigned)atoi(argv[2]);
    number = (unsigned)atoi(argv[3]);
    most_steps = strtoull(argv[4], NULL, 10);
    chance = tg_mix(strtoull(argv[5], NULL, 10), 3) | 1;
    size_t bytes = tg_segment_bytes(count, 1, 0, WORDS, 0);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    in_flight = calloc(2 * (size_t)keys, sizeof *in_flight);
    if (count > MOST || memory == MAP_FAILED || in_flight == NULL) return 2;
    ended = count; /* nobody to go on with yet */
    tg_segment_create(memory, count, 1, 0, WORDS, 0, 1, secret);
    if (!tg_segment_attach(&segment, memory, bytes, 1, error)) return 2;
    for (unsigned i = 0; i < count; i++)
        if (!begin(&processes[i])) return 2;
    ended = 0;
    swapcontext(&start, &processes[0].context);
    uint64_t left = 0;
    for (uint64_t i = 0; i < segment.windows; i++) left += tg_window_count(&segment, i);
    printf("{\"taken\": %ju, \"crowds\": %ju, \"refused\": %ju, ",
           (uintmax_t)taken, (uintmax_t)of_crowds, (uintmax_t)refused);
    printf("\"killed\": %ju, \"too_many\": %ju, \"left\": %ju}\n", (uintmax_t)killed, (uintmax_t)too_many,
           (uintmax_t)left);
    for (unsigned i = 0; i < count; i++) tg_engine_free(&processes[i].engine);
    free(in_flight);
    return 0;
}
