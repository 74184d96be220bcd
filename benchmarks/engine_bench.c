/* engine_bench: what one decision of the engine costs, without Python in between.
 *
 *   engine_bench POLICY KEYS DECISIONS ROUNDS STEP_NS LOG2_WORDS TOPIC PAGES [at-hand]
 *   engine_bench - KEYS DECISIONS ROUNDS BUDGETS LOG2_WORDS PAGES [apart]
 *
 * Loads a compiled policy, resolves KEYS clients, each with an address of its own, and lets each publish once, so that all
 * budgets exist. Then ROUNDS times DECISIONS messages on TOPIC by clients in random order; the clock, which the engine
 * is given, moves by STEP_NS with each. With `at-hand`, the next client's memory is fetched while the present one is
 * decided, as if the caller had just used it. The segment is memory as the gateway's (memfd, shared): with PAGES `huge` as
 * where the kernel gives huge pages (engine/huge_pages.py), which is an error where it does not; with `small` as elsewhere.
 *
 * With - instead of a policy: the yardstick. Of each message only what no limiter with so many keys can do without: SipHash of
 * the client's identifier, and one compare-and-swap of 16 bytes in each of BUDGETS random words, fetched together. The processor
 * overlaps several messages; with `apart` it cannot, as which client is next depends on what was read for the one before.
 *
 * Times are this thread's CPU time, so that others on the machine disturb by their use of caches only.
 * Prints one JSON object: rounds (ns per decision of each), and of a policy resolve_ns (per client), matched (limits, of the
 * last message), refused and crowded (messages; a figure counts only if both are 0).
 * Exit status: 0 measured, 1 the policy or the memory is refused, 2 bad arguments.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "hash.h"

enum {
    MOST_POLICY = 1 << 26,
    MOST_KEYS = 1 << 24,
    MOST_BUDGETS = 64,
    SLOTS = TG_MAX_LIMITS,
    COLLAPSE = 25, /* MADV_COLLAPSE, Linux 6.1; glibc knows it since 2.37 */
};

#define HUGE_PAGE ((size_t)2 << 20)

static const uint64_t SECRET[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};

struct client { struct tg_who who; char id[16]; };

struct run { uint64_t keys, decisions, rounds, words; bool huge; };

static void fail(const char *why)
{
    fprintf(stderr, "engine_bench: %s\n", why);
    exit(1);
}

static uint64_t used_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *room(size_t count, size_t size)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 64, count * size) != 0) fail("out of memory");
    memset(memory, 0, count * size);
    return memory;
}

static void *shared(size_t bytes, bool huge)
{
    int fd = memfd_create("engine_bench", 0);
    size_t whole = huge ? bytes & ~(HUGE_PAGE - 1) : 0;
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) fail("no room for the segment");
    /* Addresses for it, of which it begins at a multiple of a huge page, or half a huge page off, so that it cannot have any. */
    uint8_t *room = mmap(NULL, bytes + 2 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) fail("the segment cannot be mapped");
    room += -(uintptr_t)room & (HUGE_PAGE - 1);
    if (!huge) room += HUGE_PAGE / 2;
    void *memory = mmap(room, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (memory == MAP_FAILED) fail("the segment cannot be mapped");
    for (size_t at = 0; at < whole; at += HUGE_PAGE) /* a piece that is all hole is refused */
        if (pwrite(fd, "", 1, (off_t)at) != 1) fail("no room for the segment");
    if (whole > 0 && madvise(memory, whole, COLLAPSE) != 0) fail("the kernel gives no huge pages to shared memory");
    if (posix_fallocate(fd, 0, (off_t)bytes) != 0) fail("no room for the segment");
    close(fd);
    return memory;
}

/* A number below `bound`, by xorshift64* (Vigna, 2016). */
static uint64_t any(uint64_t *state, uint64_t bound)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (uint64_t)((__uint128_t)(x * 0x2545f4914f6cdd1du) * bound >> 64);
}

static void print_round(uint64_t round, uint64_t started, uint64_t decisions)
{
    printf("%s%.2f", round > 0 ? ", " : "", (double)(used_ns() - started) / (double)decisions);
}

static void yardstick(const struct run *run, unsigned budgets, bool apart)
{
    typedef unsigned __int128 pair;
    pair *words = shared(run->words * sizeof *words, run->huge), *at[MOST_BUDGETS];
    uint64_t state = 88172645463325252u;
    for (uint64_t i = 0; i < run->words; i++) words[i] = i;
    printf("{\"rounds\": [");
    for (uint64_t round = 0; round < run->rounds; round++) {
        uint64_t started = used_ns();
        for (uint64_t i = 0; i < run->decisions; i++) {
            uint64_t id[2] = {any(&state, run->keys), 0x2d746e65696c63}, hash = tg_siphash(SECRET, id, sizeof id);
            for (unsigned b = 0; b < budgets; b++) {
                at[b] = words + (tg_mix(hash, b) & (run->words - 1));
                __builtin_prefetch(at[b], 1);
            }
            for (unsigned b = 0; b < budgets; b++) {
                pair seen = *at[b];
                __sync_bool_compare_and_swap(at[b], seen, seen + 1);
                if (apart) state += (uint64_t)seen;
            }
        }
        print_round(round, started, run->decisions);
    }
    printf("]}\n");
}

static void load(struct tg_engine *engine, struct tg_segment *segment, const char *path, const struct run *run)
{
    static uint8_t blob[MOST_POLICY];
    char error[TG_ERROR] = "";
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail("the policy cannot be opened");
    size_t blob_size = fread(blob, 1, sizeof blob, file);
    fclose(file);
    size_t bytes = tg_segment_bytes(1, SLOTS, 1024, run->words, 4096);
    void *base = shared(bytes, run->huge);
    tg_segment_create(base, 1, SLOTS, 1024, run->words, 4096, 1, SECRET);
    if (!tg_segment_attach(segment, base, bytes, 1, error)) fail(error);
    if (!tg_engine_init(engine, segment, 0, 0)) fail("out of memory");
    if (!tg_engine_load(engine, blob, blob_size, error)) fail(error);
}

static void decisions(const struct run *run, const char *path, uint64_t step, const char *topic, bool at_hand)
{
    struct tg_segment segment;
    struct tg_engine engine;
    load(&engine, &segment, path, run);
    size_t size = (tg_subject_bytes(&engine.policy) + 63) & ~(size_t)63;
    struct client *clients = room(run->keys, sizeof *clients);
    uint8_t *subjects = room(run->keys, size);
    struct tg_profile *profile = room(1, tg_profile_room(&engine.policy)); /* one for all: they are of the same classes */
    uint32_t classes[TG_MAX_CLASSES], class_count;
    uint64_t started = used_ns();
    for (uint32_t i = 0; i < run->keys; i++) {
        struct client *one = &clients[i];
        one->who = (struct tg_who){.client = one->id, .listener = "", .family = 4, .version = 5, .clean_start = true};
        one->who.client_size = (uint32_t)snprintf(one->id, sizeof one->id, "client-%08" PRIu32, i);
        uint32_t address = i * 2654435761u; /* Knuth's multiplier: neighbours in number are none in address */
        memcpy(one->who.address, &address, 4);
        tg_resolve(&engine.policy, segment.secret, &one->who, (void *)(subjects + i * size), profile, classes, &class_count);
    }
    printf("{\"resolve_ns\": %.1f, \"rounds\": [", (double)(used_ns() - started) / (double)run->keys);

    struct tg_message message = {.topic = topic, .topic_size = strlen(topic), .packet = 100, .payload = 64, .qos = 1};
    struct tg_verdict verdict = {0};
    uint64_t now = (uint64_t)1 << 50, state = 88172645463325252u, refused = 0;
    for (uint64_t i = 0; i < run->keys; i++, now += step) {
        tg_decide(&engine, (void *)(subjects + i * size), profile, &clients[i].who, &message, now, &verdict);
        refused += verdict.action != TG_PASS;
    }
    for (uint64_t round = 0; round < run->rounds; round++) {
        started = used_ns();
        uint64_t next = any(&state, run->keys);
        for (uint64_t i = 0; i < run->decisions; i++, now += step) {
            uint64_t at = next;
            next = any(&state, run->keys);
            if (at_hand) __builtin_prefetch(subjects + next * size);
            tg_decide(&engine, (void *)(subjects + at * size), profile, &clients[at].who, &message, now, &verdict);
            refused += verdict.action != TG_PASS;
        }
        print_round(round, started, run->decisions);
    }
    uint64_t crowded = 0;
    for (size_t slot = 0; slot < SLOTS; slot++) crowded += segment.tallies[(size_t)TG_TALLY_CROWDED * SLOTS + slot];
    printf("], \"matched\": %" PRIu32 ", \"refused\": %" PRIu64 ", \"crowded\": %" PRIu64 "}\n", verdict.matched, refused,
           crowded);
}

int main(int argc, char **argv)
{
    bool bare = argc > 1 && strcmp(argv[1], "-") == 0;
    int plain = bare ? 8 : 9;
    bool more = argc == plain + 1 && strcmp(argv[plain], bare ? "apart" : "at-hand") == 0;
    bool small = argc >= plain && strcmp(argv[plain - 1], "small") == 0;
    bool huge = argc >= plain && strcmp(argv[plain - 1], "huge") == 0;
    if ((argc != plain && !more) || !(small || huge)) {
        fprintf(stderr, "usage: engine_bench POLICY KEYS DECISIONS ROUNDS STEP_NS LOG2_WORDS TOPIC small|huge [at-hand]\n"
                        "       engine_bench - KEYS DECISIONS ROUNDS BUDGETS LOG2_WORDS small|huge [apart]\n");
        return 2;
    }
    struct run run = {strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10), 0, huge};
    uint64_t number = strtoull(argv[5], NULL, 10), log_words = strtoull(argv[6], NULL, 10);
    if (run.keys == 0 || run.keys > MOST_KEYS || run.decisions == 0 || run.rounds == 0 || log_words < 4 || log_words > 28
        || (bare && (number == 0 || number > MOST_BUDGETS))) {
        fprintf(stderr, "engine_bench: an argument is out of range\n");
        return 2;
    }
    run.words = (uint64_t)1 << log_words;
    if (bare) yardstick(&run, (unsigned)number, more);
    else decisions(&run, argv[1], number, argv[7], more);
    return 0;
}
