/* The plugin: the engine inside Mosquitto, decided by the same policy as the gateway's.
 *
 * In reading order:
 *   broker.c    what this broker can do: one binary serves 2.0 and 2.1
 *   options.c   plugin_opt_... of mosquitto.conf
 *   memory.c    the memory that limits are kept in: of its own, or a control plane's
 *   loading.c   policies: read, made fit for what a plugin can do, replaced
 *   following.c a control plane's segment: attached, followed, lost
 *   clients.c   who is connected: classes and limits of each, found once
 *   deciding.c  what is asked of the engine, and what its verdict is to the broker
 *   bans.c      who is kept out, and until when
 *   events.c    the broker's calls
 *   report.c    metrics below $SYS, and one line of log for each change
 *   plugin.c    beginning and end
 *
 * Mosquitto has one thread, so nothing here locks. Nothing is allocated for a message and no file is touched by one: memory is
 * taken when a client comes or a policy is loaded, files are looked at by TICK and RELOAD.
 */
#ifndef TIDEGATE_PLUGIN_H
#define TIDEGATE_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#include "engine.h"

/* ---- What this broker can do ---- */

struct broker {
    bool is_2_1;                /* or newer */
    int refuse_message;         /* of MESSAGE: QoS 0 discarded, v3 acknowledged, v5 told so; the connection stays */
    int refuse_connect;         /* of BASIC_AUTH: too many, too fast */
    int refuse_banned;
    int no_opinion;             /* of ACL_CHECK and BASIC_AUTH: others decide */
};

void tgm_find_broker(struct broker *broker);
/* A line in Mosquitto's log; `level` is MOSQ_LOG_... */
void tgm_log(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What a client has called itself or a topic, or as much of it as has room before the final 0, for a line of log: whatever it
 * is, that stays one line of UTF-8. */
void tgm_write_text(char *to, size_t room, const char *from, size_t size);
uint64_t tgm_now(void);         /* ns of CLOCK_MONOTONIC, as all processes of a segment read it */
uint64_t tgm_coarse_now(void);  /* likewise, some ms behind, at a fifth of the price */

/* ---- Options ---- */

#define TGM_MOST_GATEWAYS 32u

struct gateway {                /* whose connections have been decided already */
    const char *socket;         /* path of a Unix socket; NULL: the network below */
    uint8_t family, bits, address[16];
};

enum answers { TGM_UNKNOWN, TGM_OPEN, TGM_OTHERS };

struct options {
    const char *policy, *segment;
    struct gateway gateways[TGM_MOST_GATEWAYS];
    unsigned gateway_count;
    enum answers authentication, authorisation; /* who answers when the plugin has nothing against it */
    uint64_t buckets;           /* a power of two */
    uint32_t sys_interval;      /* seconds; 0: nothing below $SYS */
};

/* False, and it is logged why, when they cannot be obeyed. Texts are those of `given`. */
bool tgm_read_options(struct options *options, const struct mosquitto_opt *given, int count);
/* The address as the broker writes it: false when it is none. IPv4 in IPv6 is IPv4. */
bool tgm_read_address(const char *text, uint8_t *family, uint8_t address[16]);
bool tgm_is_gateway(const struct options *options, const char *address);

/* ---- Memory and policies ---- */

struct memory {
    void *base;
    size_t bytes;
    int fd;                     /* of a shared segment, whose row is locked through it; -1: private */
    uint32_t row;
    uint64_t device, inode;     /* of the file that it is */
    struct tg_segment segment;
};

#define TGM_GUESTS 4u           /* rows at the end of a segment that are for plugins: engine/memory.py */
#define TGM_LOCKS ((off_t)1 << 62) /* the byte that is locked for row 0: far behind all that is there */

bool tgm_private_memory(struct memory *memory, uint32_t limits, uint64_t buckets, char error[TG_ERROR]);
bool tgm_attach(struct memory *memory, const char *path, char error[TG_ERROR]);
void tgm_release(struct memory *memory);
enum file_state { TGM_SAME, TGM_REPLACED, TGM_GONE, TGM_SHRUNK };
enum file_state tgm_look(const struct memory *memory, const char *path);
/* The whole of a policy file, to be freed; NULL and why. */
uint8_t *tgm_read_file(const char *path, size_t *bytes, char error[TG_ERROR]);

/* ---- Clients ---- */

struct profile {                /* the limits of clients of the same classes: kept once */
    struct profile *next;
    uint64_t hash;
    size_t bytes;
    uint32_t users;
    struct tg_profile *profile;
};

struct client {                 /* what every message needs comes first: one line of the cache */
    struct client *next;        /* of the same chain */
    const struct mosquitto *broker; /* who it is to the broker: the key */
    const char *id, *username;  /* the broker's own copies, compared only: another's, and this is not he any more */
    struct tg_subject *subject;
    struct profile *profile;
    uint32_t generation;        /* of the policy that both are of; 0: none */
    uint32_t habit;             /* where its last message was found by the engine */
    bool from_gateway;
    bool leaving;               /* its connection has ended: what the broker asks now is of its will */
    bool doomed;
    bool announced;             /* BASIC_AUTH came before it */
    bool accepted;              /* by the broker; known of 2.1 alone */
    bool refused;               /* by the plugin, when it connected */
    struct client *next_doomed; /* to be kicked */
    uint32_t *places;           /* of windows, which it keeps until it ends */
    uint32_t place_count;
    struct tg_who who;          /* texts are copies behind this struct */
} __attribute__((aligned(64)));

struct clients {
    struct client **chains;
    uint32_t mask, count;       /* mask: 0 before the first */
    struct client *doomed;
};

#define TGM_PROFILE_CHAINS 256u

#define TGM_BANS 11000u         /* as many as a gateway has, before it drops some: gateway/ban_book.py */
#define TGM_BAN_CHAINS 16384u   /* a power of two */

struct ban {                    /* in force, or ended and remembered */
    uint64_t who, limit;        /* hashes: of whom, and of the name of the limit that banned him */
    uint64_t until, forget;     /* ns */
    uint32_t level;             /* how many in a row this is */
    uint16_t shape, next;       /* next: of the same chain, + 1 */
};

struct shape {                  /* what of a client a ban looks at, whatever the policy */
    uint32_t count, bans;
    bool told;                  /* that it named nobody in particular: once */
    struct tg_component parts[TG_MAX_KEYS]; /* a of a capture: its number in the policy in force; TG_NONE: it has none */
};

struct bans {
    uint64_t secret[2];
    struct shape *shapes;
    uint32_t shape_count, count;
    uint16_t *shape_of;         /* by limit of the policy in force that bans */
    uint16_t chains[TGM_BAN_CHAINS]; /* by whom: the first + 1 */
    struct ban list[TGM_BANS];
};

struct plugin {
    struct plugin *next;        /* of another plugin line */
    mosquitto_plugin_id_t *identifier;
    struct broker broker;
    struct options options;
    struct memory memory;
    struct tg_engine engine;
    uint64_t generation;        /* of a shared segment: the one that was looked at last */
    uint8_t *blob;              /* the policy in force, as it was compiled */
    size_t blob_bytes;
    uint64_t next_look;         /* at the segment's file */
    uint32_t loads;             /* policies loaded; clients compare theirs */
    uint32_t events;            /* a bit for each that has limits */
    uint64_t *identities;       /* of a segment of its own: whose each slot is; 0: nobody's */
    struct tg_profile *room;    /* for one that is being found */
    struct profile *profiles[TGM_PROFILE_CHAINS];
    struct clients clients;
    struct client *leaving;     /* the last whose connection has ended, until TICK */
    const struct mosquitto *newcomer; /* of the last CONNECT, until TICK; compared only */
    uint32_t registered;        /* a bit for each of the broker's events */
    uint32_t last_words;        /* likewise: those of which the plugin says the last word as well */
    bool begun;                 /* what is registered now comes behind other plugins */
    bool kicking;
    bool settled;               /* it does so behind all others */
    bool reloading;             /* from RELOAD to TICK the broker asks again about clients that it has */
    uint64_t reloaded;          /* when that began */
    const struct mosquitto *asked; /* of BASIC_AUTH, if the broker has called for nothing since; compared only */
    uint64_t now, coarse;       /* when the clock was read last for a message, in this loop of the broker; 0: not in this one */
    uint64_t next_chore, next_report;
    uint32_t report_at;         /* limits before it are in the present report */
    uint64_t event_read;
    uint64_t *told;             /* by slot and action: sums at the last report */
    uint64_t kicked, kicked_told;
    uint32_t clients_told, loads_told;
    char trouble[TG_ERROR];     /* what was logged last of a segment or file that cannot be used */
    struct bans bans;           /* large: pages of it that nobody needs are never there */
};

bool tgm_begin(struct plugin *plugin);      /* the first policy; false, and it is logged why */
void tgm_reload(struct plugin *plugin);     /* SIGHUP: the former policy stays if the new one cannot be used */
void tgm_follow(struct plugin *plugin);     /* TICK: a new generation, a new segment */
void tgm_end(struct plugin *plugin);
/* Into the memory that the plugin has, and into other memory, which becomes the plugin's. The former policy stays on error. */
bool tgm_load(struct plugin *plugin, const uint8_t *blob, size_t bytes, char error[TG_ERROR]);
bool tgm_move(struct plugin *plugin, struct memory *memory, const uint8_t *blob, size_t bytes, char error[TG_ERROR]);
/* After a policy has taken another's place: the broker is asked for what it needs. */
void tgm_apply(struct plugin *plugin);
bool tgm_begin_shared(struct plugin *plugin, char error[TG_ERROR]);

/* The client, its limits found; NULL when there is no memory for it. */
struct client *tgm_client(struct plugin *plugin, const struct mosquitto *broker);
/* A client that has just sent CONNECT, whatever was known by this pointer before. */
struct client *tgm_new_client(struct plugin *plugin, const struct mosquitto *broker);
/* The one that is known by this pointer, as it was when it was seen last; NULL when none is. */
struct client *tgm_known(const struct plugin *plugin, const struct mosquitto *broker);
bool tgm_resolve(struct plugin *plugin, struct client *client);
void tgm_forget(struct plugin *plugin, const struct mosquitto *broker);
void tgm_forget_all(struct plugin *plugin);
void tgm_free_places(struct plugin *plugin, struct client *client);

/* ---- Decisions: what the callback returns ---- */

int tgm_decide_publish(struct plugin *plugin, struct client *client, const struct mosquitto_evt_message *message);
int tgm_decide_connect(struct plugin *plugin, struct client *client);
int tgm_decide_subscribe(struct plugin *plugin, struct client *client, const char *filter);
int tgm_decide_will(struct plugin *plugin, struct client *client, const struct mosquitto_evt_acl_check *will);
/* The broker has refused it. */
void tgm_decide_failure(struct plugin *plugin, struct client *client);

/* Goes by the shapes of the policy that has just been loaded; false when there is no memory. */
bool tgm_shape_bans(struct plugin *plugin, uint64_t now);
void tgm_ban(struct plugin *plugin, const struct client *client, uint32_t limit, uint64_t now);
bool tgm_is_banned(struct plugin *plugin, const struct client *client, uint64_t now);

/* ---- Calls ---- */

int tgm_on_event(int event, void *data, void *userdata);
bool tgm_register(struct plugin *plugin);
void tgm_unregister_all(struct plugin *plugin);
/* Whether the broker can be asked for all that the policy needs; logs what it cannot. */
bool tgm_can_enforce(const struct plugin *plugin, int level);

void tgm_report(struct plugin *plugin, uint64_t now);
void tgm_tell_transitions(struct plugin *plugin);

#endif
