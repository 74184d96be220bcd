/* Windows: messages in flight per key, over all processes.
 *
 * A window has a tag (which limit's, which key's) and for each process its share of what is in flight. To take a slot a
 * process raises its share, then adds all shares up; above the window's number it lowers its own again. Two who do so at
 * once may both be refused, never both admitted. There is no total that a kill -9 could leave wrong: what a dead process
 * had in flight is forgotten by clearing its row.
 *
 * Tags are found in two neighbourhoods of eight (a cache line each). A window whose shares are all 0 may become another
 * key's. One key must never have two, so a tag is made in steps that everybody can finish or undo; the low bits of a tag
 * say which step it is at, and whose:
 *
 *   old             live, all shares 0
 *   old | frozen    whoever raised a share looks at the tag again, and takes that back
 *   new | claimed   if the shares are still 0; now all places are read again for the same tag
 *   new             live
 *
 * Who needs a window that is frozen thaws it. Of two claims for one key the one further behind gives way to the other,
 * and any claim to what lives or is frozen, which may be in use. Nobody waits for anybody (a claim is taken over after some
 * looks), so none can be left waiting for the dead. Who goes on with another's step makes it his own first: the same tag
 * may have been through all of it and be there again, but not with his row in it.
 *
 * What this process has in flight it also knows by itself, so damage to its row is healed by a sweep. */
#include "engine.h"
#include "hash.h"

#define WAYS 8u
#define PLACES (2 * WAYS)
#define FOR_WINDOW 0x77696e646f77u
#define FOR_CROWD 0x63726f7764u
#define FROZEN ((uint64_t)1 << 8)   /* below: the row, of which there are at most 256 */
#define CLAIMED ((uint64_t)1 << 9)
#define STEP ((uint64_t)0x3ff)
#define TRIES 1000
#define SPINS 64                /* looks at a claim before it is taken over */
#define SHARE_OF_SOURCE 16u     /* one address has at most this part of the windows */
#define SWEPT 8192u             /* windows that one sweep looks at */
#define NOWHERE UINT32_MAX

static uint64_t load(const uint64_t *at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }

static bool swap(uint64_t *at, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(at, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static struct tg_key key_of(uint32_t slot, uint64_t hash)
{
    struct tg_key key = tg_key_make(slot, tg_mix(hash, FOR_WINDOW));
    key.tag &= ~STEP;
    return key;
}

uint64_t tg_window_tag(uint32_t slot, uint64_t hash) { return key_of(slot, hash).tag; }

static uint32_t place_of(const struct tg_segment *segment, struct tg_key key, unsigned i)
{
    uint64_t part = i < WAYS ? key.hash : key.hash >> 32;
    return (uint32_t)((part & (segment->windows - 1) & ~(uint64_t)(WAYS - 1)) + i % WAYS);
}

uint64_t tg_window_count(const struct tg_segment *segment, uint64_t place)
{
    uint64_t sum = 0;
    const uint32_t *shares = segment->window_shares + place * segment->rows;
    for (uint32_t row = 0; row < segment->rows; row++) sum += __atomic_load_n(&shares[row], __ATOMIC_SEQ_CST);
    return sum;
}

static void put_share(struct tg_engine *engine, uint32_t place)
{
    uint32_t *share = &engine->segment.window_shares[(size_t)place * engine->segment.rows + engine->row];
    __atomic_store_n(share, engine->own_shares[place], __ATOMIC_SEQ_CST);
}

/* Finishes the claim `seen` at `place`, or gives it up for another of the same key. */
static void finish(const struct tg_engine *engine, struct tg_key key, unsigned at, uint64_t seen)
{
    const struct tg_segment *segment = &engine->segment;
    uint64_t *tags = segment->window_tags, *mine = &tags[place_of(segment, key, at)];
    uint64_t claim = key.tag | CLAIMED | engine->row;
    if (seen != claim && !swap(mine, seen, claim)) return;
    for (unsigned i = 0; i < PLACES; i++) {
        uint64_t *other = &tags[place_of(segment, key, i)], tag = load(other);
        while (other != mine && (tag & ~STEP) == key.tag) {
            if (!(tag & CLAIMED) || i < at) {
                swap(mine, claim, 0);
                return;
            }
            swap(other, tag, 0);
            tag = load(other); /* it may have come to life meanwhile */
        }
    }
    swap(mine, claim, key.tag);
}

/* The place of this key's window; NOWHERE if there is none. Who only asks changes nothing. */
static uint32_t find(const struct tg_engine *engine, struct tg_key key, bool commit)
{
    const struct tg_segment *segment = &engine->segment;
    for (int tries = 0; tries < TRIES; tries++) {
        unsigned i = 0;
        uint64_t tag = 0;
        for (; i < PLACES; i++) {
            tag = load(&segment->window_tags[place_of(segment, key, i)]);
            if ((tag & ~STEP) == key.tag) break;
        }
        if (i == PLACES) return NOWHERE;
        uint32_t place = place_of(segment, key, i);
        if (tag == key.tag || !commit) return place;
        if (!(tag & CLAIMED)) swap(&segment->window_tags[place], tag, key.tag);
        else if (tries >= SPINS || (tag & STEP) == (CLAIMED | engine->row)) finish(engine, key, i, tag);
    }
    return NOWHERE;
}

static uint32_t make(const struct tg_engine *engine, struct tg_key key)
{
    const struct tg_segment *segment = &engine->segment;
    uint64_t claim = key.tag | CLAIMED | engine->row;
    for (unsigned i = 0; i < PLACES; i++) {
        uint32_t place = place_of(segment, key, i);
        uint64_t *at = &segment->window_tags[place], old = load(at), live = old & ~STEP;
        if (tg_window_count(segment, place) != 0) continue;
        if (old != 0 && !(old & CLAIMED)) { /* in nobody's window, nor in one that never lived, can anything be in flight */
            uint64_t frozen = live | FROZEN | engine->row;
            if (old != frozen && !swap(at, old, frozen)) continue;
            if (tg_window_count(segment, place) != 0) {
                swap(at, frozen, live);
                continue;
            }
            old = frozen;
        }
        if (!swap(at, old, claim)) continue;
        finish(engine, key, i, claim);
        return find(engine, key, true);
    }
    return NOWHERE;
}

/* Takes a slot of this key's window: 1 taken, 0 none is left, -1 no room for another window. */
static int take(struct tg_engine *engine, struct tg_key key, const struct tg_window *window, bool of_crowd, bool commit,
                struct tg_taken *taken)
{
    struct tg_segment *segment = &engine->segment;
    taken->tag = key.tag;
    bool is_mine = false;
    for (int tries = 0; tries < TRIES; tries++) {
        uint32_t place = find(engine, key, commit);
        if (place == NOWHERE) {
            if (!commit) return 1;
            uint32_t *made = &engine->made[window->source & (TG_MADE - 1)];
            if (!of_crowd && *made >= segment->windows / SHARE_OF_SOURCE) return -1;
            place = make(engine, key);
            if (place == NOWHERE) return -1;
            is_mine = !of_crowd;
        }
        /* Looked at first: a share that is raised and lowered again wakes all who wait, for nothing. */
        if (tg_window_count(segment, place) >= window->number) return 0;
        if (!commit) return 1;
        engine->own_shares[place]++;
        put_share(engine, place);
        bool still = load(&segment->window_tags[place]) == key.tag;
        if (still && tg_window_count(segment, place) <= window->number) {
            taken->place = place;
            if (is_mine && engine->window_source[place] == 0) {
                uint32_t source = (uint32_t)(window->source & (TG_MADE - 1));
                engine->window_source[place] = (uint16_t)(source + 1);
                engine->made[source]++;
            }
            return 1;
        }
        tg_window_free(engine, place);
        if (still) return 0;
    }
    return 0;
}

bool tg_window_take(struct tg_engine *engine, const struct tg_window *window, bool commit, struct tg_taken *taken, bool *crowd)
{
    if (engine->own_shares == NULL) commit = false;
    if (engine->segment.windows == 0) return true;
    int outcome = take(engine, key_of(window->slot, window->hash), window, false, commit, taken);
    if (outcome >= 0) return outcome == 1;
    *crowd = true;
    return take(engine, key_of(window->slot, tg_mix(window->vicinity, FOR_CROWD)), window, true, commit, taken) == 1;
}

uint64_t tg_window_free(struct tg_engine *engine, uint32_t place)
{
    if (engine->own_shares == NULL || place >= engine->segment.windows || engine->own_shares[place] == 0) return 0;
    uint64_t tag = load(&engine->segment.window_tags[place]) & ~STEP;
    if (--engine->own_shares[place] == 0 && engine->window_source[place] != 0) {
        engine->made[engine->window_source[place] - 1]--;
        engine->window_source[place] = 0;
    }
    put_share(engine, place);
    engine->to_wake |= tg_turn_others(engine, tag);
    return tag;
}

void tg_window_sweep(struct tg_engine *engine)
{
    if (engine->own_shares == NULL) return;
    const struct tg_segment *segment = &engine->segment;
    for (uint32_t i = 0; i < SWEPT && i < segment->windows; i++) {
        uint64_t place = engine->swept++ & (segment->windows - 1);
        if (segment->window_shares[place * segment->rows + engine->row] != engine->own_shares[place])
            put_share(engine, (uint32_t)place);
    }
}
