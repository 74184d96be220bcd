/* engine_bench: what one decision of the engine costs, without Python in between.
 *
 *   engine_bench POLICY KEYS DECISIONS ROUNDS STEP_NS LOG2_WORDS TOPIC
 *
 * Loads a compiled policy, resolves KEYS clients, each with an address of its own, and lets each publish once, so that all
 * budgets exist. Then ROUNDS times DECISIONS messages on TOPIC by clients in random order; the clock, which the engine
 * is given, moves by STEP_NS with each. Which client is next depends on the verdict before, so that no two decisions
 * overlap in the processor: the figure is the time of one, not the share of several. The segment is memory as the gateway's
 * (memfd, shared).
 *
 * Prints one JSON object: resolve_ns (per client), rounds (ns per decision of each), matched (limits, of the last), refused and
 * crowded (messages; a figure counts only if both are 0).
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

static uint64_t used_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* whatever else the machine does */
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *why)
{
    fprintf(stderr, "engine_bench: %s\n", why);
    exit(1);
}

static void *room(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) fail("out of memory");
    return memory;
}

static void *shared(size_t bytes)
{
    int fd = memfd_create("engine_bench", 0);
    if (fd < 0 || posix_fallocate(fd, 0, (off_t)bytes) != 0) fail("no room for the segment");
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) fail("the segment cannot be mapped");
    close(fd);
    return memory;
}

static uint64_t next_random(uint64_t *state) /* xorshift64* (Vigna, 2016) */
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1du;
}

struct client { struct tg_who who; char id[16]; };

int main(int argc, char **argv)
{
    if (argc != 8 && argc != 9) {
        fprintf(stderr, "usage: engine_bench POLICY KEYS DECISIONS ROUNDS STEP_NS LOG2_WORDS TOPIC\n");
        return 2;
    }
    uint32_t keys = (uint32_t)strtoul(argv[2], NULL, 10);
    uint64_t decisions = strtoull(argv[3], NULL, 10), rounds = strtoull(argv[4], NULL, 10);
    bool chained = argc == 9;
    uint64_t step = strtoull(argv[5], NULL, 10), words = (uint64_t)1 << atoi(argv[6]);
    const char *topic = argv[7];
    if (keys == 0 || keys > 1u << 24 || decisions == 0 || rounds == 0 || words < 16 || words > (uint64_t)1 << 28) {
        fprintf(stderr, "engine_bench: an argument is out of range\n");
        return 2;
    }
    FILE *file = fopen(argv[1], "rb");
    if (file == NULL) fail("the policy cannot be opened");
    static uint8_t blob[1 << 26];
    size_t blob_size = fread(blob, 1, sizeof blob, file);
    fclose(file);

    char error[TG_ERROR] = "";
    const uint64_t secret[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    const uint32_t slots = TG_MAX_LIMITS;
    size_t bytes = tg_segment_bytes(1, slots, 1024, words, 4096);
    void *base = shared(bytes);
    tg_segment_create(base, 1, slots, 1024, words, 4096, 1, secret);
    struct tg_segment segment;
    struct tg_engine engine;
    if (!tg_segment_attach(&segment, base, bytes, 1, error) || !tg_engine_init(&engine, &segment, 0, 0)
        || !tg_engine_load(&engine, blob, blob_size, error))
        fail(error);

    size_t subject_size = (tg_subject_bytes(&engine.policy) + 63) & ~(size_t)63;
    struct client *clients = room(keys, sizeof *clients);
    uint8_t *subjects = aligned_alloc(64, keys * subject_size);
    struct tg_profile *profile = room(1, tg_profile_room(&engine.policy)); /* the same for all: none has a class of his own */
    if (subjects == NULL) fail("out of memory");
    uint32_t classes[TG_MAX_CLASSES], class_count;
    uint64_t started = used_ns();
    for (uint32_t i = 0; i < keys; i++) {
        struct client *one = &clients[i];
        one->who = (struct tg_who){.client = one->id, .listener = "", .family = 4, .version = 5, .clean_start = true};
        one->who.client_size = (uint32_t)snprintf(one->id, sizeof one->id, "client-%08" PRIu32, i);
        uint32_t address = i * 2654435761u; /* Knuth's multiplier: neighbours in number are none in address */
        memcpy(one->who.address, &address, 4);
        tg_resolve(&engine.policy, segment.secret, &one->who, (struct tg_subject *)(void *)(subjects + i * subject_size),
                   profile, classes, &class_count);
    }
    printf("{\"resolve_ns\": %.1f, \"rounds\": [", (double)(used_ns() - started) / keys);

    struct tg_message message = {.topic = topic, .topic_size = strlen(topic), .packet = 100, .payload = 64, .qos = 1};
    struct tg_verdict verdict = {0};
    uint64_t now = (uint64_t)1 << 50, state = 88172645463325252u, refused = 0;
    for (uint64_t round = 0; round <= rounds; round++) {
        uint64_t count = round == 0 ? keys : decisions;
        started = used_ns();
        for (uint64_t i = 0; i < count; i++) {
            uint64_t at = round == 0 ? i : (uint64_t)((__uint128_t)next_random(&state) * keys >> 64);
            tg_decide(&engine, (const struct tg_subject *)(const void *)(subjects + at * subject_size), profile,
                      &clients[at].who, &message, now, &verdict);
            refused += verdict.action != TG_PASS;
            if (chained) state += verdict.wait; /* 0, which the processor does not know before the verdict is there */
            now += step;
        }
        if (round > 0) printf("%s%.2f", round > 1 ? ", " : "", (double)(used_ns() - started) / (double)count);
    }
    uint64_t crowded = 0;
    for (uint32_t slot = 0; slot < slots; slot++) crowded += segment.tallies[(size_t)slot * TG_TALLIES + TG_TALLY_CROWDED];
    printf("], \"matched\": %" PRIu32 ", \"refused\": %" PRIu64 ", \"crowded\": %" PRIu64 "}\n", verdict.matched, refused,
           crowded);
    return 0;
}
