/* The shared memory: head, then per limit its slot, per row (process) counters, events and turns, the windows, the buckets,
 * and two halves for compiled policies. What the head says is checked once and copied; after that nothing here is believed: every word
 * is harmless at any value, and indices are masked or compared with the private copy. */
#include <stdint.h>
#include <string.h>

#include "gcra.h"
#include "hash.h"

#define PAGE 4096u
#define MOST_ROWS 256u
#define MOST_RECORDS 65536u
#define MOST_WORDS ((uint64_t)1 << 32)
#define MOST_POLICY ((uint64_t)1 << 30)

static size_t pages(size_t bytes) { return (bytes + PAGE - 1) & ~(size_t)(PAGE - 1); }

struct parts { size_t scales, slot, tallies, row_heads, events, turns, window_tags, window_shares, table, policies, end; };

/* A window is in use while messages are in flight, a budget for as long as its debt lasts: there are fewer. */
static uint64_t windows_of(uint32_t rows, uint64_t words) { return rows == 0 ? 0 : words < 64 ? 16 : words / 4; }

static struct parts layout(uint32_t rows, uint32_t slots, uint32_t records, uint64_t words, uint64_t policy_room)
{
    struct parts at;
    at.scales = PAGE;
    at.slot = at.scales + (size_t)slots * sizeof(struct tg_scale);
    at.tallies = pages(at.slot + (size_t)slots * sizeof(struct tg_slot));
    at.row_heads = at.tallies + pages((size_t)rows * slots * TG_TALLIES * 8);
    at.events = at.row_heads + pages((size_t)rows * sizeof(struct tg_row_head));
    at.turns = at.events + pages((size_t)rows * records * sizeof(struct tg_event));
    at.window_tags = at.turns + (size_t)rows * TG_TURNS * sizeof(struct tg_turn);
    at.window_shares = at.window_tags + pages((size_t)windows_of(rows, words) * 8);
    at.table = at.window_shares + pages((size_t)windows_of(rows, words) * rows * 4);
    at.policies = at.table + pages((size_t)words * sizeof(struct tg_word));
    at.end = at.policies + 2 * pages(policy_room + 8);
    return at;
}

size_t tg_segment_bytes(uint32_t rows, uint32_t slots, uint32_t records, uint64_t words, uint64_t policy_room)
{
    return layout(rows, slots, records, words, policy_room).end;
}

void tg_segment_create(void *base, uint32_t rows, uint32_t slots, uint32_t records, uint64_t words,
                       uint64_t policy_room, uint32_t boot, const uint64_t secret[2])
{
    struct tg_segment_head *head = base;
    struct parts at = layout(rows, slots, records, words, policy_room);
    memset(head, 0, sizeof *head);
    head->layout = TG_LAYOUT;
    head->boot = boot;
    head->bytes = at.end;
    head->rows = rows;
    head->slots = slots;
    head->records = records;
    head->words = words;
    head->policy_room = policy_room;
    memcpy(head->secret, secret, sizeof head->secret);
    struct tg_scale *scales = (void *)((uint8_t *)base + at.scales);
    for (uint32_t i = 0; i < slots; i++)
        for (unsigned p = 0; p < TG_PRIORITIES; p++) scales[i].of[p] = TG_UNSCALED;
    memcpy(head->magic, TG_SEGMENT_MAGIC, sizeof head->magic); /* last: without it nobody attaches */
}

static bool refuse(char error[TG_ERROR], const char *text)
{
    strncpy(error, text, TG_ERROR - 1);
    error[TG_ERROR - 1] = 0;
    return false;
}

bool tg_segment_attach(struct tg_segment *segment, void *base, size_t bytes, uint32_t boot, char error[TG_ERROR])
{
    struct tg_segment_head head;
    if (bytes < PAGE) return refuse(error, "truncated: it has not even a head");
    if ((uintptr_t)base % sizeof(struct tg_word) != 0) return refuse(error, "mapped where no bucket can lie");
    memcpy(&head, base, sizeof head);
    if (memcmp(head.magic, TG_SEGMENT_MAGIC, sizeof head.magic) != 0) return refuse(error, "not a segment of Tidegate");
    if (head.layout != TG_LAYOUT) return refuse(error, "of another version of Tidegate");
    if (head.boot != boot) return refuse(error, "left over from before the last boot");
    if (head.rows > MOST_ROWS || head.slots == 0 || head.slots > TG_MAX_SLOTS || head.records > MOST_RECORDS
        || (head.records & (head.records - 1)) != 0 || head.words < 16 || head.words > MOST_WORDS
        || (head.words & (head.words - 1)) != 0 || head.policy_room > MOST_POLICY)
        return refuse(error, "corrupt: its head holds numbers that no version writes");
    struct parts at = layout(head.rows, head.slots, head.records, head.words, head.policy_room);
    if (head.bytes != at.end) return refuse(error, "corrupt: its head contradicts itself");
    if (bytes < at.end) return refuse(error, "truncated: it is shorter than its head says");
    *segment = (struct tg_segment){
        .base = base, .bytes = at.end, .rows = head.rows, .slots = head.slots, .records = head.records,
        .words = head.words, .policy_room = head.policy_room, .secret = {head.secret[0], head.secret[1]},
    };
    uint8_t *start = base;
    segment->scales = (void *)(start + at.scales);
    segment->slot = (void *)(start + at.slot);
    segment->tallies = (void *)(start + at.tallies);
    segment->row_heads = (void *)(start + at.row_heads);
    segment->events = (void *)(start + at.events);
    segment->turns = (void *)(start + at.turns);
    segment->window_tags = (void *)(start + at.window_tags);
    segment->window_shares = (void *)(start + at.window_shares);
    segment->windows = windows_of(head.rows, head.words);
    segment->table = (void *)(start + at.table);
    segment->policies = start + at.policies;
    return true;
}

uint32_t tg_segment_claim(struct tg_segment *segment, uint64_t identity)
{
    if (identity == 0) identity = 1; /* 0 is a free place */
    for (uint32_t i = 0; i < segment->slots; i++) {
        uint64_t found = 0;
        if (__atomic_compare_exchange_n(&segment->slot[i].identity, &found, identity, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
            || found == identity)
            return i;
    }
    return TG_NONE;
}

static uint64_t *generation_of(const struct tg_segment *segment)
{
    return (uint64_t *)(void *)(segment->base + offsetof(struct tg_segment_head, generation));
}

uint64_t tg_segment_generation(const struct tg_segment *segment)
{
    return __atomic_load_n(generation_of(segment), __ATOMIC_ACQUIRE);
}

static uint8_t *half(const struct tg_segment *segment, uint64_t generation)
{
    return segment->policies + (generation & 1) * pages(segment->policy_room + 8);
}

bool tg_segment_publish(struct tg_segment *segment, const void *policy, size_t bytes)
{
    if (bytes > segment->policy_room) return false;
    uint64_t next = tg_segment_generation(segment) + 1;
    uint8_t *to = half(segment, next);
    uint64_t size = bytes;
    memcpy(to, &size, 8);
    memcpy(to + 8, policy, bytes);
    __atomic_store_n(generation_of(segment), next, __ATOMIC_RELEASE);
    return true;
}

size_t tg_segment_policy(const struct tg_segment *segment, void *out)
{
    uint64_t generation = tg_segment_generation(segment), size;
    if (generation == 0) return 0;
    const uint8_t *from = half(segment, generation);
    memcpy(&size, from, 8);
    if (size > segment->policy_room) return 0;
    memcpy(out, from + 8, size); /* tg_policy_load compares its checksum */
    return size;
}

void tg_segment_recover(struct tg_segment *segment, uint32_t row)
{
    if (row >= segment->rows) return;
    memset(segment->turns + (size_t)row * TG_TURNS, 0, TG_TURNS * sizeof(struct tg_turn));
    for (uint64_t i = 0; i < segment->windows; i++)
        __atomic_store_n(&segment->window_shares[i * segment->rows + row], 0, __ATOMIC_SEQ_CST);
}

void tg_segment_forget(struct tg_segment *segment, uint32_t slot)
{
    if (slot >= segment->slots) return;
    memset(segment->slot[slot].crowd, 0, sizeof segment->slot[slot].crowd);
    memset(segment->slot[slot].quota, 0, sizeof segment->slot[slot].quota);
    for (unsigned p = 0; p < TG_PRIORITIES; p++) segment->scales[slot].of[p] = TG_UNSCALED;
    for (uint32_t row = 0; row < segment->rows; row++)
        for (unsigned i = 0; i < TG_TALLIES; i++) segment->tallies[((size_t)row * TG_TALLIES + i) * segment->slots + slot] = 0;
}
