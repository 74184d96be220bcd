/* Transitions for people to read: a key came under a limit, still is, no longer is. A flood makes two or three records,
 * not one a message, and one flooder cannot push the others out: a source has a few places among the episodes, a key
 * holds its place until it has been quiet, and a message that finds all places taken is counted as lost. */
#include <string.h>

#include "hash.h"
#include "gcra.h"

#define QUIET ((uint64_t)5 * 1000000000)    /* ns without an excess after which an episode has ended */
#define AGAIN ((uint64_t)30 * 1000000000)   /* ns after which one that goes on is told again */
#define PLACES 32u                          /* episodes that one source may have at a time */
#define SWEPT 256u                          /* episodes looked at by one sweep */

static void copy_text(char *to, uint8_t *size, size_t room, const char *from, size_t from_size)
{
    size_t n = from_size < room ? from_size : room;
    /* Cut between characters: what follows must not be a continuation byte of UTF-8. */
    while (n > 0 && n < from_size && ((uint8_t)from[n] & 0xc0) == 0x80) n--;
    if (n > 0) memcpy(to, from, n);
    *size = (uint8_t)n;
}

static void record(struct tg_engine *engine, const struct tg_event *event)
{
    struct tg_segment *segment = &engine->segment;
    if (segment->records == 0) return;
    struct tg_row_head *head = &segment->row_heads[engine->row];
    uint64_t sequence = __atomic_load_n(&head->written, __ATOMIC_RELAXED) + 1;
    struct tg_event *to = &segment->events[(size_t)engine->row * segment->records + (sequence & (segment->records - 1))];
    __atomic_store_n(&to->sequence, 0, __ATOMIC_SEQ_CST);
    memcpy((uint8_t *)to + 8, (const uint8_t *)event + 8, sizeof *event - 8);
    __atomic_store_n(&to->sequence, sequence, __ATOMIC_RELEASE);
    __atomic_store_n(&head->written, sequence, __ATOMIC_RELEASE);
}

static void tell(struct tg_engine *engine, struct tg_episode *episode, uint8_t kind, uint64_t now_ns)
{
    episode->event.kind = kind;
    episode->event.now = now_ns;
    record(engine, &episode->event);
    episode->event.count = 0;
    episode->told = now_ns;
}

/* Of a crowd, the client that was over it first stands for all. */
static void begin(struct tg_episode *episode, const struct tg_who *who, const struct tg_message *message, uint32_t slot,
                  uint64_t key, uint8_t action, bool crowd)
{
    struct tg_event *event = &episode->event;
    memset(event, 0, sizeof *event);
    event->key = key;
    event->slot = slot;
    event->count = 1;
    event->action = action;
    event->crowd = crowd;
    event->family = who->family;
    memcpy(event->address, who->address, sizeof event->address);
    copy_text(event->client, &event->client_size, sizeof event->client, who->client, who->client_size);
    if (who->has_username)
        copy_text(event->username, &event->username_size, sizeof event->username, who->username, who->username_size);
    copy_text(event->topic, &event->topic_size, sizeof event->topic, message->topic, message->topic_size);
}

/* The place of a key among those of its source: its own, a free one, or NULL when all are taken. */
static struct tg_episode *find(struct tg_engine *engine, uint64_t source, uint32_t slot, uint64_t key, uint64_t now_ns)
{
    struct tg_episode *places = &engine->episodes[source & (TG_EPISODES - 1) & ~(uint64_t)(PLACES - 1)], *room = NULL;
    for (unsigned i = 0; i < PLACES; i++) {
        struct tg_episode *episode = &places[i];
        bool quiet = (int64_t)(now_ns - episode->last) > (int64_t)QUIET;
        if (episode->event.key == key && episode->event.slot == slot && !quiet) return episode;
        if (room == NULL && (episode->event.key == 0 || quiet)) room = episode;
    }
    if (room != NULL && room->event.key != 0) tell(engine, room, TG_ENDED, now_ns);
    if (room != NULL) room->event.key = 0;
    return room;
}

void tg_note(struct tg_engine *engine, const struct tg_who *who, uint64_t source, const struct tg_message *message,
             uint32_t slot, uint64_t key, uint8_t action, bool crowd, uint64_t now_ns)
{
    if (key == 0) key = 1; /* 0 is nobody's */
    struct tg_episode *episode = find(engine, source, slot, key, now_ns);
    if (episode == NULL) {
        __atomic_fetch_add(&engine->segment.row_heads[engine->row].lost, 1, __ATOMIC_RELAXED);
        return;
    }
    bool begins = episode->event.key == 0;
    if (begins) begin(episode, who, message, slot, key, action, crowd);
    else episode->event.count++;
    episode->last = now_ns;
    bool stricter = action > episode->event.action;
    if (stricter) episode->event.action = action;
    if (begins) tell(engine, episode, TG_BEGAN, now_ns);
    else if (stricter || (int64_t)(now_ns - episode->told) > (int64_t)AGAIN) tell(engine, episode, TG_STILL, now_ns);
}

void tg_sweep(struct tg_engine *engine, uint64_t now_ns)
{
    for (uint32_t i = 0; i < SWEPT; i++) {
        struct tg_episode *episode = &engine->episodes[engine->sweep++ & (TG_EPISODES - 1)];
        if (episode->event.key == 0 || (int64_t)(now_ns - episode->last) <= (int64_t)QUIET) continue;
        tell(engine, episode, TG_ENDED, now_ns);
        episode->event.key = 0;
    }
}

int tg_event_read(const struct tg_segment *segment, uint32_t row, uint64_t sequence, struct tg_event *out)
{
    if (row >= segment->rows || segment->records == 0) return 0;
    if ((int64_t)(sequence - __atomic_load_n(&segment->row_heads[row].written, __ATOMIC_ACQUIRE)) > 0) return 0;
    const struct tg_event *from = &segment->events[(size_t)row * segment->records + (sequence & (segment->records - 1))];
    if (__atomic_load_n(&from->sequence, __ATOMIC_ACQUIRE) != sequence) return -1;
    memcpy(out, from, sizeof *out);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&from->sequence, __ATOMIC_RELAXED) != sequence) return -1;
    if (out->client_size > sizeof out->client) out->client_size = sizeof out->client;
    if (out->topic_size > sizeof out->topic) out->topic_size = sizeof out->topic;
    if (out->username_size > sizeof out->username) out->username_size = sizeof out->username;
    return 1;
}
