/* The engine: which limits match, what they cost, who must wait. No I/O, no clock, no allocation per decision.
 *
 * In reading order:
 *   hash.h     keyed hashes: nobody outside can choose where his budgets land
 *   gcra.h     what a message costs and how long it must wait: the arithmetic of a rate
 *   table.c    budgets in shared memory, changed by one compare-and-swap
 *   budget.c   one charge: the key's bucket, or the crowd's when there are too many keys
 *   window.c   messages in flight: a slot taken when one is forwarded, given back when it is acknowledged
 *   turn.c     who waits for a budget or a window, in which process: so that none is served before the others
 *   segment.c  the shared memory: its parts, and what is believed of them
 *   policy.c   the compiled policy: copied, checked, its topics made a tree
 *   subject.c  what a client is: classes, captures, and the limits that can meet it
 *   match.c    which limits a message meets: its topic walked down a tree
 *   decide.c   one message: charge all or none, say the strictest verdict
 *   habit.c    the usual case of it: the same client, topic and limits as before
 *   engine.c   one process's engine
 *   events.c   who came under a limit and when: transitions, not messages
 *
 * Times are nanoseconds of one clock that all processes share (CLOCK_MONOTONIC), or ticks of TG_TICKS to the
 * nanosecond. Strings are validated by the caller; every number in shared memory may have any value.
 */
#ifndef TIDEGATE_ENGINE_H
#define TIDEGATE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TG_LAYOUT 4u            /* of segment and compiled policy: one number, they change together */
#define TG_EVENTS 7u            /* policy.model.Event */
#define TG_SHARES 7u            /* behind the events' trees of topics, that of $share/NAME/FILTER */
#define TG_ROOTS 8u
#define TG_ACTIONS 7u           /* policy.model.Action */
#define TG_PRIORITIES 4u        /* policy.model.Priority */
#define TG_ITSELF 1u            /* no key of a budget or window, which are hashes */
#define TG_NONE UINT32_MAX      /* no class, no limit, no node */
#define TG_MAX_LIMITS 10000u
#define TG_MAX_CLASSES 256u
#define TG_MAX_SLOTS 65534u     /* a tag has 16 bits for slot + 1; 0 is an empty word, 65535 a word of our own use */
#define TG_OWN_SLOT 65534u
#define TG_MAX_BUDGETS 8u       /* of one limit for one client: 4 rates, 4 bandwidths */
#define TG_MAX_LEVELS 128u      /* of a topic filter in a policy: the depth of the tree */
#define TG_MAX_CAPTURES 16u
#define TG_MAX_COMPONENTS 64u
#define TG_MAX_KEYS 8u          /* components of one limit's `per` */
#define TG_ERROR 160            /* bytes of the text that says why something was refused */

enum { TG_PASS, TG_OBSERVE, TG_DELAY, TG_DROP, TG_REJECT, TG_DISCONNECT, TG_BAN };
enum { TG_PUBLISH, TG_CONNECT, TG_SUBSCRIBE, TG_DELIVER, TG_WILL, TG_PACKET, TG_AUTH_FAILURE };
enum { TG_ALL, TG_CLIENT, TG_USERNAME, TG_IP, TG_LISTENER, TG_CLASS, TG_CAPTURE, TG_TOPIC };
enum { TG_IF_CLIENT, TG_IF_USERNAME, TG_IF_CIDR, TG_IF_LISTENER, TG_IF_CN, TG_IF_SAN, TG_IF_VERSION, TG_IF_CLEAN,
       TG_IF_BRIDGE, TG_CONDITIONS };

/* ---- The compiled policy: flat, little-endian, 8-aligned. engine/format.py writes it. ---- */

struct tg_range { uint32_t first, count; };

struct tg_head {
    char magic[8];              /* "TGPOLICY" */
    uint32_t layout;
    uint32_t bytes;             /* of the whole */
    uint64_t checksum;          /* FNV-1a over all behind this field */
    uint32_t limits, classes, groups, conditions, values, components, choices, budgets, nodes, edges, bans, numbers, text;
    uint32_t roots[TG_ROOTS];   /* by event, and TG_SHARES: the topic tree's root, TG_NONE without topics */
    uint32_t pad;
    uint64_t horizon;           /* ticks: the furthest that a theoretical arrival time can lie ahead */
};

/* Of a limit: counted per client, so that nobody shares a budget or window with another; of what it delays, only the
 * newest of each topic is kept; no filter of a subscription that begins with a wildcard. */
enum { TG_OWN = 1, TG_CONFLATE = 2, TG_NO_WILD = 4, TG_FLAGS = 7 };

struct tg_limit {
    uint64_t identity;          /* of (name, event, per): a budget of the same identity survives a reload */
    uint32_t slot;              /* its place in the segment, kept over reloads */
    uint32_t who;               /* group of conditions */
    struct tg_range name;       /* in text */
    struct tg_range in, out;    /* numbers: classes of which one, of which none */
    struct tg_range per;        /* numbers: components */
    struct tg_range rate, bandwidth, concurrent; /* choices, the strictest first, the default last */
    struct tg_range size;       /* likewise: bytes; of a subscription, the levels of its filter */
    struct tg_range extra;      /* likewise: the largest QoS of a subscription; milliseconds that a will is held back */
    uint8_t event, qos, retain, topics; /* qos: a bit for each; topics: only where the tree says so */
    uint8_t actions[2][4];      /* of version 3.x (or none yet) and 5, by QoS */
    uint8_t then[2][4];
    uint32_t flags;
    uint64_t max_delay;         /* ns */
    uint32_t ban;               /* how long its bans last; TG_NONE: it bans nobody */
    uint32_t pad;
};

struct tg_class {
    uint64_t identity;          /* of its name: what `per = "class"` counts by */
    uint32_t all_of;
    struct tg_range any_of;
    uint8_t priority, exempt, pad[2];
};
struct tg_condition { uint32_t kind; struct tg_range values; };
struct tg_value { struct tg_range text; uint32_t bits, number; uint8_t address[16]; };
struct tg_component { uint32_t kind, a, b; };  /* IP: bits of v4, v6; TOPIC: levels; CAPTURE: its number, and what stands for its name in any policy */
struct tg_choice { uint32_t class; struct tg_range budgets; uint32_t pad; uint64_t number; };
struct tg_budget {
    uint64_t identity;          /* of (limit's identity, kind, index) */
    uint64_t multiplier;        /* ticks for n units: n * multiplier >> shift, rounded up to a whole even number */
    uint32_t shift;
    uint32_t of_bytes;          /* 1: bandwidth */
    uint64_t burst;             /* ticks */
    uint64_t largest;           /* ticks: burst + largest is the furthest that any choice of the limit takes this budget */
};
struct tg_node { uint32_t plus; struct tg_range here, below; }; /* numbers: limit << 1 | 1 if by except_topic */
struct tg_edge { uint32_t parent, child; struct tg_range text; };
struct tg_ban { uint64_t first, longest; double factor; }; /* ns; each next one is so many times as long */

/* ---- The segment: what all processes share. ---- */

#define TG_TALLIES 8u           /* counters of one limit in one row */
enum { TG_TALLY_PASSED, TG_TALLY_CROWDED = 7 }; /* between them: one for each action above TG_PASS */

struct tg_word { uint64_t tag, tat; };  /* one budget; 16-aligned */

struct tg_slot {                /* what the segment has for one limit; 192 bytes */
    uint64_t identity;
    uint64_t crowd[TG_MAX_BUDGETS]; /* the last resort of keys without a bucket of their own */
    uint64_t quota[TG_MAX_BUDGETS]; /* what making buckets has used of the limit's share of the table */
    uint64_t pad[7];
};

struct tg_scale { uint32_t of[TG_PRIORITIES]; }; /* 65536 is 1.0; multiplies the rate of one limit */

struct tg_event {               /* 256 bytes */
    uint64_t sequence;          /* 1 for the first of the row; written last */
    uint64_t now;
    uint64_t key;               /* tells one budget from another; no meaning beyond */
    uint32_t slot;
    uint32_t count;             /* messages over the limit since the last event of this key */
    uint8_t kind, action, crowd, family, client_size, topic_size, username_size, pad;
    uint8_t address[16];
    char client[64], username[48], topic[80];
};
enum { TG_BEGAN = 1, TG_STILL, TG_ENDED };

struct tg_row_head { uint64_t written, lost, pad[6]; };

#define TG_TURNS 4096u          /* of one row, a power of two */

struct tg_turn {                /* what one process says of one budget or window that its clients wait for */
    uint64_t key;
    uint32_t waiting;           /* addresses; 0: nobody, whatever the key */
    uint32_t served;            /* rounds of all that wait, in 1/65536; compared by signed difference */
};

#define TG_SEGMENT_MAGIC "TIDEGATE"
struct tg_segment_head {        /* the first page */
    char magic[8];
    uint32_t layout, boot;      /* boot: of /proc/sys/kernel/random/boot_id; a monotonic clock ends with its boot */
    uint64_t bytes;
    uint32_t rows, slots, records;
    uint32_t scalings;          /* counts the changes of scale factors, for those who wait: what is in the way may be gone */
    uint64_t words;             /* buckets, a power of two */
    uint64_t policy_room;       /* bytes for each of two compiled policies */
    uint64_t secret[2];
    uint64_t generation;        /* 0: no policy yet; the policy lies in half generation & 1 */
};

struct tg_segment {             /* private to a process: where the parts are, copied from a head that was checked */
    uint8_t *base;
    size_t bytes;
    uint32_t rows, slots, records;
    uint64_t words, policy_room, secret[2];
    struct tg_scale *scales;    /* by slot; close together, as each message reads some of them */
    struct tg_slot *slot;
    uint64_t *tallies;          /* rows * TG_TALLIES * slots: what is counted of all limits at once lies together */
    struct tg_row_head *row_heads;
    struct tg_event *events;    /* rows * records */
    struct tg_turn *turns;      /* rows * TG_TURNS */
    uint64_t *window_tags;      /* windows: which key has this place; 0: none */
    uint32_t *window_shares;    /* windows * rows: how many of a window's messages in flight are of which row */
    uint64_t windows;           /* a power of two; 0 without rows */
    struct tg_word *table;
    uint8_t *policies;
};

size_t tg_segment_bytes(uint32_t rows, uint32_t slots, uint32_t records, uint64_t words, uint64_t policy_room);
void tg_segment_create(void *base, uint32_t rows, uint32_t slots, uint32_t records, uint64_t words,
                       uint64_t policy_room, uint32_t boot, const uint64_t secret[2]);
bool tg_segment_attach(struct tg_segment *segment, void *base, size_t bytes, uint32_t boot, char error[TG_ERROR]);
/* The place of a rate that belongs to no policy: its own, or a free one; TG_NONE when all are taken. */
uint32_t tg_segment_claim(struct tg_segment *segment, uint64_t identity);
bool tg_segment_publish(struct tg_segment *segment, const void *policy, size_t bytes);
uint64_t tg_segment_generation(const struct tg_segment *segment);
/* Copies the policy of the present generation to `out` (policy_room bytes): its size, 0 when it cannot be one. */
size_t tg_segment_policy(const struct tg_segment *segment, void *out);
/* Zeroes all that a place has kept of a limit, before another one gets it; its scale factors become 1. */
void tg_segment_forget(struct tg_segment *segment, uint32_t slot);

/* ---- Buckets. ---- */

struct tg_cost { uint64_t ticks, burst, largest; }; /* of one charge to one budget */
struct tg_key { uint64_t tag, hash; };
enum { TG_CHARGED, TG_OVER, TG_ABSENT, TG_FULL };

struct tg_table {
    struct tg_word *words;
    uint64_t mask, horizon;
    uint32_t nonce;
    bool alone;                 /* no other process and no other thread ever sees it */
};

struct tg_key tg_key_make(uint32_t slot, uint64_t hash);
void tg_prefetch(const struct tg_table *table, struct tg_key key);
/* Charges the bucket of `key` if there is one. TG_OVER: `wait` ticks from now it would pass. */
int tg_charge(const struct tg_table *table, struct tg_key key, struct tg_cost cost, uint64_t now, bool commit,
              uint64_t *wait, struct tg_word **where);
/* The same, making the bucket if it is absent; TG_FULL when there is no room. */
int tg_charge_new(const struct tg_table *table, struct tg_key key, struct tg_cost cost, uint64_t now, bool commit,
                  uint64_t *wait, struct tg_word **where);
void tg_undo(struct tg_word *where, uint64_t tag, uint64_t ticks);
/* A budget of one word that has no key of its own. */
int tg_charge_word(uint64_t *word, struct tg_cost cost, uint64_t now, bool commit, uint64_t *wait);
struct tg_quota { struct tg_cost limit, source; }; /* what making one bucket costs */

struct tg_plan {                /* what is to be charged to one budget */
    struct tg_key key;
    struct tg_cost cost;
    const struct tg_quota *quota;
    uint64_t identity;          /* of the budget */
    uint32_t index;             /* of the budget's words in its slot: rates in the first half, bandwidths behind */
};

struct tg_charge {              /* one charge to one budget of a limit, for a client */
    const struct tg_table *table;
    const struct tg_plan *plan;
    struct tg_slot *slot;
    uint32_t slot_number;
    bool commit;                /* false: only ask */
    uint64_t secret, source, vicinity;
    uint64_t now;
};
struct tg_charge_done { struct tg_word *where; uint64_t *word; uint64_t tag, ticks; };

/* Charges the key's bucket, else its crowd's (`crowd` is set then): whether it passes, or the `wait` in ticks. */
bool tg_charge_budget(const struct tg_charge *charge, uint64_t *wait, struct tg_charge_done *done, bool *crowd);
void tg_take_back(const struct tg_charge_done *done, uint32_t from, uint32_t to);
struct tg_quota tg_quota_of(const struct tg_budget *budget, uint64_t words, uint32_t limits);

/* Adds to `live` and `over` (words: one for each slot) the buckets in use and those that would refuse now. */
void tg_census(const struct tg_segment *segment, uint64_t now_ns, const uint64_t *burst_by_slot, uint32_t slots,
               uint64_t *live, uint64_t *over);

/* ---- Messages in flight, and turns. ---- */

struct tg_taken { uint64_t tag; uint32_t place; }; /* one slot of a window */

/* ---- Policy, subjects, decisions. ---- */

struct tg_price {               /* what one message costs a budget of messages that is not scaled; 0, 0 for another budget */
    uint64_t ticks, allowed;    /* it passes where the budget is no further ahead of now than this (gcra.h) */
};

struct tg_policy {              /* one generation, private to a process */
    uint8_t *blob;
    const struct tg_head *head;
    const struct tg_limit *limits;
    const struct tg_class *classes;
    const struct tg_range *groups;
    const struct tg_condition *conditions;
    const struct tg_value *values;
    const struct tg_component *components;
    const struct tg_choice *choices;
    const struct tg_budget *budgets;
    const struct tg_node *nodes;
    const struct tg_edge *edges;
    const struct tg_ban *bans;
    const uint32_t *numbers;
    const char *text;
    uint32_t *edge_table;       /* edge + 1, open addressing */
    uint32_t edge_mask;
    uint32_t depth;             /* levels of the tree */
    uint32_t most_budgets;      /* that can be charged for one message */
    struct tg_quota *quotas;    /* by budget */
    struct tg_price *prices;    /* by budget */
    bool by_topic;              /* some limit counts by topics */
};

/* Whether a limit counts by what a client calls itself. */
bool tg_by_name(const struct tg_policy *policy, const struct tg_limit *limit);
bool tg_policy_load(struct tg_policy *policy, const void *blob, size_t bytes, uint32_t slots, uint64_t words,
                    char error[TG_ERROR]);
void tg_policy_free(struct tg_policy *policy);

struct tg_who {                 /* what is known of a client, proven once the broker has accepted it */
    const char *client, *username, *listener, *cn, *san;
    uint32_t client_size, username_size, listener_size, cn_size, san_size;
    uint64_t nonce;             /* stands for a client identifier that is empty */
    uint8_t address[16];        /* IPv4 in the first four bytes */
    uint8_t family;             /* 4, 6, 0: a Unix socket */
    uint8_t version;            /* 0: it has said nothing yet; only address and listener are known */
    bool has_username, clean_start, bridge;
};

struct tg_subject {             /* tg_subject_bytes(policy) in all */
    uint64_t source, vicinity;  /* of its address: by itself, and with its neighbours */
    uint64_t first_class;       /* identity of the class that gives the priority; 0: none */
    uint64_t profile;           /* hash of the profile */
    uint64_t identity;          /* hash of all that keys and costs depend on */
    uint8_t priority, exempt, family, version;
    uint8_t exempt_there;       /* whatever it calls itself: by its address and listener alone */
    uint8_t pad[3];
    uint64_t components[];      /* hashes, by component of the policy */
};

struct tg_piece { const char *at; uint32_t size; }; /* of a text that a client has; NULL: none */

/* What classes capture of a client that may be in them, whatever it would say of its version and session and by whichever
 * listener it came: by the number of the capture. */
void tg_possible_captures(const struct tg_policy *policy, const struct tg_who *who, struct tg_piece captures[TG_MAX_CAPTURES]);
/* The hash of the network of so many bits that a client is in. */
uint64_t tg_hash_network(const uint64_t secret[2], const struct tg_who *who, uint32_t bits);

struct tg_entry {               /* one limit that can meet a client, with the numbers of its classes */
    uint16_t limit, slot;       /* below TG_MAX_LIMITS and TG_MAX_SLOTS */
    uint32_t extra;             /* TG_NONE: none */
    struct tg_range per;        /* as in the limit, which a message that passes need not look at */
    struct tg_range rate, bandwidth;
    uint64_t size, concurrent;  /* UINT64_MAX: none */
};

struct tg_profile {             /* the same for all clients of the same classes: kept once */
    uint32_t entries;
    uint32_t of[TG_EVENTS + 1]; /* by event: where its entries begin */
    uint32_t always[TG_EVENTS + 1]; /* by event: where its entries without topics begin among `free` */
    /* then: uint32_t entry_of[limits] (entry + 1), uint32_t free[limits], struct tg_entry[entries], 8-aligned */
};

/* Where the entries of a profile begin, in bytes. */
static inline size_t tg_entries_at(const struct tg_policy *policy)
{
    return (sizeof(struct tg_profile) + 2 * (size_t)policy->head->limits * sizeof(uint32_t) + 7) & ~(size_t)7;
}

static inline const struct tg_entry *tg_entries(const struct tg_policy *policy, const struct tg_profile *profile)
{
    return (const void *)((const uint8_t *)profile + tg_entries_at(policy));
}

size_t tg_subject_bytes(const struct tg_policy *policy);
size_t tg_profile_room(const struct tg_policy *policy);
/* Fills both; returns the bytes of the profile that are in use. */
size_t tg_resolve(const struct tg_policy *policy, const uint64_t secret[2], const struct tg_who *who,
                  struct tg_subject *subject, struct tg_profile *profile, uint32_t *classes, uint32_t *class_count);

struct tg_message {
    const char *topic;          /* of a subscription, its filter as it was sent */
    size_t topic_size;
    uint64_t packet, payload;   /* bytes; payload of a subscription: the levels of its filter */
    uint32_t behind;            /* bytes of $share/NAME/ that the filter of a subscription begins with */
    uint8_t event, qos, retain; /* qos of a CONNECT: 0 at accept, 1 when it has been read (policy/stages.py) */
    bool wild;                  /* a filter that begins with a wildcard */
    /* TG_PUBLISH: it may be with the receiver already, so it is never dropped or rejected, only delayed. TG_DELIVER: it must
     * not be dropped, however large. TG_SUBSCRIBE: it is subscribed to already, and takes no place in windows. */
    bool again;
    bool held;                  /* was delayed before: that is counted already */
    bool quiet;                 /* what limits that observe say to it is not counted */
    bool ask;                   /* charge nothing */
    uint64_t turn;              /* what it has waited for, and its turn has come; 0: it has just arrived */
    /* What this connection has in windows that others share, and they cannot use before it has said something: exchanges
     * of QoS 2 for which it has yet to send PUBREL; of TG_DELIVER, all that it has yet to acknowledge. */
    uint32_t owed;
    uint32_t habit;             /* where its sender's last message was found: tg_verdict; 0: nobody knows */
};

struct tg_verdict {
    uint32_t action;
    uint32_t limit;             /* the one that decided; TG_NONE when the action is TG_PASS */
    uint32_t slot;              /* its place in the segment; when it passes, that of the limit that conflates */
    uint32_t matched;
    bool crowd;                 /* it decided by a crowd's budget */
    bool by_size;               /* no wait will help */
    bool by_window;             /* the limit waits for acknowledgements: nobody knows how long */
    bool conflates;             /* of a delay, or of what was only asked: the newest of its topic is enough */
    uint8_t then;               /* of a delay: what happens after max_delay */
    uint64_t wait;              /* ns until all budgets that refused would pass */
    uint64_t queue;             /* of a delay: what it waits for; TG_ITSELF: for what its sender has yet to do */
    uint64_t max_delay;         /* ns */
    uint64_t whose;             /* the key that was over the limit */
    uint32_t extra;             /* of a subscription: the largest QoS that it may have; TG_NONE: any */
    uint32_t habit;             /* where the next of this sender may be found, for tg_message and tg_expect; 0: nowhere */
};

struct tg_episode {             /* a key that is over a limit; `event` is what will be told next of it */
    struct tg_event event;
    uint64_t last, told;
};
#define TG_EPISODES 8192u
#define TG_MADE 4096u            /* sources told apart among those that windows are made for, a power of two */
#define TG_CACHED_LEVELS 8u

struct tg_match { uint32_t limit, entry; };

#define TG_SEEN 1024u            /* topics remembered: what a gateway's clients publish to again and again */
#define TG_SEEN_MATCHES 15u

struct tg_seen {                /* what met a topic lately; found by a hash that nobody outside can aim at */
    uint64_t key;
    uint32_t count, pad;
    struct tg_match matches[TG_SEEN_MATCHES];
};

#define TG_HABITS 2048u
#define TG_HABIT_WAYS 4u         /* places that one can be in */
#define TG_HABIT_STEPS 16u       /* limits, and budgets, of what is remembered */

/* One budget to charge. What is remembered of a client has been out of the caches since its last message, so it is small: a
 * line for the limits, and one for every four budgets. What all clients share (the budgets themselves) is referred to. */
struct tg_step {
    uint64_t tag;
    uint32_t word, budget;      /* indices: of the table, of the policy */
};

struct tg_habit {               /* a client's messages on one topic, as the last of them passed */
    uint64_t key;
    uint64_t budgets;           /* how many steps each limit has: four bits each, the first lowest */
    uint32_t size;              /* the smallest that its limits allow, as far as it can be told; larger ones are decided in full */
    uint32_t scalings;
    uint8_t matched, steps, priority;
    bool scaled;                /* some limit's factor is not 1 */
    uint16_t slots[TG_HABIT_STEPS]; /* of the limits that it meets */
    struct tg_step step[TG_HABIT_STEPS] __attribute__((aligned(64)));
} __attribute__((aligned(64)));

struct tg_levels {              /* a topic cut at its slashes, as far as the tree goes; then one more for all the rest */
    uint32_t count;
    uint32_t size[TG_MAX_LEVELS];
    const char *at[TG_MAX_LEVELS];
    uint64_t hash[TG_MAX_LEVELS];
};

struct tg_engine {
    struct tg_segment segment;
    struct tg_table table;
    struct tg_policy policy;
    uint32_t row;
    uint32_t epoch;
    uint8_t *scratch;           /* what the next seven are parts of */
    uint32_t *stamps;           /* by limit: the epoch in which the tree named it */
    uint32_t *excepted;
    struct tg_match *matches;
    struct tg_charge_done *done; /* charges of the present message, at most matches * TG_MAX_BUDGETS */
    struct tg_taken *taken;     /* slots of windows that it has taken */
    uint32_t taken_count;
    bool taken_shared;          /* of windows that others may share */
    uint64_t *hashes;           /* by match: of the key */
    struct tg_plan *plans;      /* of all matches, one after the other */
    struct tg_episode *episodes;
    uint32_t sweep;
    uint64_t *tallies;          /* of this process's row; NULL for one that only asks */
    struct tg_levels levels;    /* of the present topic */
    struct tg_seen *seen;
    void *habit_room;           /* where the next lie, at the beginning of a line */
    struct tg_habit *habits;
    uint64_t *habit_keys;       /* by habit: its key; 0: there is none */
    uint64_t *habit_seen;       /* likewise: who was there without having one */
    uint32_t habit_turn;        /* whose place is taken next */
    /* Hashes of the present topic by its first levels, [0] of all of it: several limits count by the same. */
    uint64_t topic_hash[TG_CACHED_LEVELS];
    uint32_t topic_known;       /* a bit for each that has been computed */
    struct tg_turn *turns;      /* of this process's row; NULL for one that only asks */
    uint32_t queues;            /* of them in use */
    uint32_t *own_shares;       /* by window: this row's, as nobody else can have changed it */
    uint16_t *window_source;    /* by window that this process has made: whose, as an index of made; 0: none */
    uint32_t *made;             /* by a hash of the source: windows in use that were made for it */
    uint64_t to_wake;           /* a bit for each row (modulo 64) that waits for what has been given back */
    uint64_t swept;             /* windows: where the next sweep begins */
};

/* Of one kind, by slot; nobody else writes them. */
static inline uint64_t *tg_tallies(const struct tg_engine *engine, uint32_t what)
{
    return engine->tallies + (size_t)what * engine->segment.slots;
}

static inline void tg_one_more(uint64_t *tally)
{
    __atomic_store_n(tally, __atomic_load_n(tally, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

static inline void tg_tally(const struct tg_engine *engine, uint32_t slot, uint32_t what)
{
    if (engine->tallies != NULL) tg_one_more(&tg_tallies(engine, what)[slot]);
}

bool tg_engine_init(struct tg_engine *engine, const struct tg_segment *segment, uint32_t row, uint32_t nonce);
bool tg_engine_load(struct tg_engine *engine, const void *blob, size_t bytes, char error[TG_ERROR]);
void tg_engine_free(struct tg_engine *engine);

/* Fetches what is remembered there into the caches, for a message that is about to be decided. */
static inline void tg_expect(const struct tg_engine *engine, uint32_t habit)
{
    if (habit == 0) return;
    const uint8_t *at = (const uint8_t *)&engine->habits[habit - 1];
    for (size_t line = 0; line < sizeof *engine->habits; line += 64) __builtin_prefetch(at + line);
}

void tg_decide(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
               const struct tg_who *who, const struct tg_message *message, uint64_t now_ns, struct tg_verdict *verdict);
/* Completes a message that is a subscription by what its filter says. */
void tg_read_filter(struct tg_message *message);
/* To be called before anything else is asked of a message: the next two remember its hashes. */
static inline void tg_new_topic(struct tg_engine *engine) { engine->topic_known = 0; }
/* The entries of the limits that a message meets, in the policy's order, to engine->matches; how many. */
uint32_t tg_match(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
                  const struct tg_message *message);
/* The hash of the first `levels` of the message's topic; 0: of all of it. */
uint64_t tg_hash_topic(struct tg_engine *engine, const struct tg_message *message, uint32_t levels);
/* Habits. The key of the client's messages like this one; 0: of no use here. */
uint64_t tg_habit_key(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_message *message);
/* Charges the message by habit: the limits that it met, all of which it passed; 0: it is to be decided in full. */
uint32_t tg_by_habit(struct tg_engine *engine, uint64_t key, const struct tg_message *message, uint64_t now,
                     uint32_t *found);
void tg_forget_habits(struct tg_engine *engine);
/* After a message has passed everything in buckets of its own. `scalings`: what tg_scalings was before it was decided. */
void tg_keep_habit(struct tg_engine *engine, uint64_t key, const struct tg_subject *subject, const struct tg_entry *entries,
                   uint32_t matched, uint32_t charged, uint32_t scalings);
uint32_t tg_scalings(const struct tg_engine *engine);
/* How long a will is to be held back before anything is decided about it: ms. */
uint32_t tg_will_delay(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
                       const struct tg_message *message);
/* Whether a limit on `event` may delay what concerns a client. */
bool tg_delays(const struct tg_policy *policy, const struct tg_subject *subject, const struct tg_profile *profile,
               uint32_t event);
/* How many messages of one client can be in flight at once, whatever their topics: the smallest window that counts all of its
 * QoS 1 and 2 on `event`. 0: none does. What a scale factor takes from a window comes and goes, what it adds counts. */
uint64_t tg_least_window(const struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
                         uint32_t event);
/* Limits that match, without deciding: their indices to `out` (room for all limits), the number returned. */
uint32_t tg_matching(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
                     const struct tg_message *message, uint32_t *out);

/* What became of a message whose delay ended without it: counts and tells `action` for the limit of `verdict`. */
void tg_late(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_who *who,
             const struct tg_message *message, const struct tg_verdict *verdict, uint32_t action, uint64_t now_ns);

/* The same for one of which no verdict is left, of the limit at `slot`: it is counted, and not told. */
void tg_count(const struct tg_engine *engine, uint32_t slot, uint32_t action);

/* Windows. Takes a slot of the key's (else of its crowd's, which sets `crowd`) if fewer than `number` are taken. `tag` says
 * what to wait for when none is. Without `commit` it only asks. */
struct tg_window {
    uint32_t slot;
    uint64_t hash, source, vicinity, number;
};
bool tg_window_take(struct tg_engine *engine, const struct tg_window *window, bool commit, struct tg_taken *taken, bool *crowd);
uint64_t tg_window_tag(uint32_t slot, uint64_t hash);
/* Gives a slot back and notes who waits for it; the tag of its window. */
uint64_t tg_window_free(struct tg_engine *engine, uint32_t place);
/* Messages in flight in a window now: what it looks like to an outsider. */
uint64_t tg_window_count(const struct tg_segment *segment, uint64_t place);
/* Heals what damage has done to this row's shares; to be called some times a second. */
void tg_window_sweep(struct tg_engine *engine);

/* Turns. Says that so many addresses wait here for `key`: false when there is no place to say it. */
bool tg_turn_wait(struct tg_engine *engine, uint64_t key, uint32_t waiting);
bool tg_turn_waits(const struct tg_engine *engine, uint64_t key);
/* How many rounds, in 1/65536, this process is ahead of the one that has been served least; 0 when no other waits. */
int64_t tg_turn_lead(const struct tg_engine *engine, uint64_t key);
void tg_turn_served(struct tg_engine *engine, uint64_t key);
/* Goes on as if the others had been served as much: they were waited for and did not come. */
void tg_turn_level(struct tg_engine *engine, uint64_t key);
/* The other rows that wait for `key`: a bit for each, modulo 64. */
uint64_t tg_turn_others(const struct tg_engine *engine, uint64_t key);
/* Forgets what a process that has died had in flight and whom it had waiting. */
void tg_segment_recover(struct tg_segment *segment, uint32_t row);

void tg_note(struct tg_engine *engine, const struct tg_who *who, uint64_t source, const struct tg_message *message,
             uint32_t slot, uint64_t key, uint8_t action, bool crowd, uint64_t now_ns);
/* Ends what has been quiet; a worker calls it some times a second. */
void tg_sweep(struct tg_engine *engine, uint64_t now_ns);
/* Copies the event with this sequence number: 1 copied, 0 not written yet, -1 overwritten. */
int tg_event_read(const struct tg_segment *segment, uint32_t row, uint64_t sequence, struct tg_event *out);

#endif
