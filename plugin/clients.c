/* Who is connected. A client is found by the broker's pointer to it; its classes and the limits that can meet it are found
 * when it is first seen, and again at its first event after a reload. Clients of the same classes share one profile, so
 * that ten thousand of them are not ten thousand lists of limits.
 *
 * The broker says when a connection ends. Should it not, the pointer comes back with another client, which CONNECT tells, or
 * other texts: the broker's own copies of identifier and user name are compared. Another plugin may change them as well. */
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

#define LEAST_CHAINS 64u
#define COMMON_NAME 13          /* OpenSSL's NID_commonName */

/* Of the broker's OpenSSL, if it has one. */
extern void *X509_get_subject_name(const void *certificate) __attribute__((weak));
extern int X509_NAME_get_index_by_NID(const void *name, int nid, int last) __attribute__((weak));
extern void *X509_NAME_get_entry(const void *name, int at) __attribute__((weak));
extern void *X509_NAME_ENTRY_get_data(const void *entry) __attribute__((weak));
extern int ASN1_STRING_to_UTF8(unsigned char **out, const void *text) __attribute__((weak));
extern void X509_free(void *certificate) __attribute__((weak));
extern void CRYPTO_free(void *memory, const char *file, int line) __attribute__((weak));

/* The certificate's common name in UTF-8, to be given to CRYPTO_free; its size, -1 when there is none. */
static int common_name(const struct mosquitto *broker, unsigned char **name)
{
    if (X509_get_subject_name == NULL || X509_NAME_get_index_by_NID == NULL || X509_NAME_get_entry == NULL
        || X509_NAME_ENTRY_get_data == NULL || ASN1_STRING_to_UTF8 == NULL || X509_free == NULL || CRYPTO_free == NULL)
        return -1;
    void *certificate = mosquitto_client_certificate(broker);
    if (certificate == NULL) return -1;
    int size = -1;
    void *subject = X509_get_subject_name(certificate);
    int at = subject == NULL ? -1 : X509_NAME_get_index_by_NID(subject, COMMON_NAME, -1);
    if (at >= 0) size = ASN1_STRING_to_UTF8(name, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    X509_free(certificate);
    return size;
}

static uint32_t chain_of(const struct clients *clients, const struct mosquitto *broker)
{
    uint64_t mixed = (uint64_t)(uintptr_t)broker * 0x9e3779b97f4a7c15u;
    return (uint32_t)(mixed >> 32) & clients->mask;
}

static bool grow(struct clients *clients)
{
    uint32_t chains = clients->mask == 0 ? LEAST_CHAINS : 2 * (clients->mask + 1);
    struct client **old = clients->chains, **new = calloc(chains, sizeof *new);
    if (new == NULL) return clients->mask != 0; /* longer chains are slower, no more */
    uint32_t old_chains = clients->mask == 0 ? 0 : clients->mask + 1;
    clients->chains = new;
    clients->mask = chains - 1;
    for (uint32_t i = 0; i < old_chains; i++) {
        while (old[i] != NULL) {
            struct client *client = old[i], **chain = &new[chain_of(clients, client->broker)];
            old[i] = client->next;
            client->next = *chain;
            *chain = client;
        }
    }
    free(old);
    return true;
}

static void release_profile(struct plugin *plugin, struct profile *profile)
{
    if (profile == NULL || --profile->users > 0) return;
    struct profile **link = &plugin->profiles[profile->hash & (TGM_PROFILE_CHAINS - 1)];
    while (*link != profile) link = &(*link)->next;
    *link = profile->next;
    free(profile);
}

static struct profile *share_profile(struct plugin *plugin, const struct tg_profile *found, uint64_t hash, size_t bytes)
{
    struct profile **chain = &plugin->profiles[hash & (TGM_PROFILE_CHAINS - 1)];
    for (struct profile *profile = *chain; profile != NULL; profile = profile->next) {
        if (profile->hash == hash && profile->bytes == bytes && memcmp(profile->profile, found, bytes) == 0) {
            profile->users++;
            return profile;
        }
    }
    struct profile *profile = malloc(sizeof *profile + bytes);
    if (profile == NULL) return NULL;
    *profile = (struct profile){*chain, hash, bytes, 1, (struct tg_profile *)(void *)(profile + 1)};
    memcpy(profile->profile, found, bytes);
    *chain = profile;
    return profile;
}

bool tgm_resolve(struct plugin *plugin, struct client *client)
{
    const struct tg_policy *policy = &plugin->engine.policy;
    uint32_t classes[TG_MAX_CLASSES], count;
    struct profile *former = client->profile;
    client->profile = NULL;
    client->generation = 0;
    release_profile(plugin, former);
    if (plugin->room == NULL) return false;
    struct tg_subject *subject = realloc(client->subject, tg_subject_bytes(policy));
    if (subject == NULL) return false;
    client->subject = subject;
    size_t bytes = tg_resolve(policy, plugin->memory.segment.secret, &client->who, subject, plugin->room, classes, &count);
    client->profile = share_profile(plugin, plugin->room, subject->profile, bytes);
    if (client->profile == NULL) return false;
    client->generation = plugin->loads;
    return true;
}

static void copy(char **at, const char **text, uint32_t *size, const void *from, size_t bytes)
{
    if (bytes > 0) memcpy(*at, from, bytes);
    *text = *at;
    *size = (uint32_t)bytes;
    *at += bytes;
}

static struct client *make_client(struct plugin *plugin, const struct mosquitto *broker)
{
    const char *id = mosquitto_client_id(broker), *username = mosquitto_client_username(broker);
    const char *address = mosquitto_client_address(broker);
    unsigned char *cn = NULL;
    int cn_size = common_name(broker, &cn);
    size_t id_size = id == NULL ? 0 : strlen(id), username_size = username == NULL ? 0 : strlen(username);
    const size_t line = _Alignof(struct client);
    size_t bytes = sizeof(struct client) + id_size + username_size + (cn_size > 0 ? (size_t)cn_size : 0) + 1;
    struct client *client = aligned_alloc(line, (bytes + line - 1) & ~(line - 1));
    if (client != NULL) {
        memset(client, 0, sizeof *client);
        char *at = (char *)(client + 1);
        struct tg_who *who = &client->who;
        client->broker = broker;
        client->id = id;
        client->username = username;
        copy(&at, &who->client, &who->client_size, id, id_size);
        copy(&at, &who->username, &who->username_size, username, username_size);
        who->has_username = username != NULL;
        if (cn_size >= 0) copy(&at, &who->cn, &who->cn_size, cn, (size_t)cn_size);
        who->listener = ""; /* the broker does not say by which it came */
        who->nonce = (uint64_t)(uintptr_t)broker;
        if (address != NULL && !tgm_read_address(address, &who->family, who->address)) who->family = 0;
        who->version = (uint8_t)mosquitto_client_protocol_version(broker);
        who->clean_start = mosquitto_client_clean_session(broker);
        client->from_gateway = address != NULL && tgm_is_gateway(&plugin->options, address);
    }
    if (cn != NULL) CRYPTO_free(cn, "", 0);
    return client;
}

void tgm_free_places(struct plugin *plugin, struct client *client)
{
    for (uint32_t i = 0; i < client->place_count; i++) tg_window_free(&plugin->engine, client->places[i]);
    free(client->places);
    client->places = NULL;
    client->place_count = 0;
}

static void free_client(struct plugin *plugin, struct client *client)
{
    if (client->doomed) {
        struct client **link = &plugin->clients.doomed;
        while (*link != client) link = &(*link)->next_doomed;
        *link = client->next_doomed;
    }
    tgm_free_places(plugin, client);
    if (plugin->leaving == client) plugin->leaving = NULL;
    release_profile(plugin, client->profile);
    free(client->subject);
    free(client);
    plugin->clients.count--;
}

void tgm_forget(struct plugin *plugin, const struct mosquitto *broker)
{
    if (plugin->clients.mask == 0) return;
    struct client **link = &plugin->clients.chains[chain_of(&plugin->clients, broker)];
    while (*link != NULL && (*link)->broker != broker) link = &(*link)->next;
    struct client *client = *link;
    if (client == NULL) return;
    *link = client->next;
    free_client(plugin, client);
}

void tgm_forget_all(struct plugin *plugin)
{
    for (uint32_t i = 0; plugin->clients.mask != 0 && i <= plugin->clients.mask; i++) {
        while (plugin->clients.chains[i] != NULL) {
            struct client *client = plugin->clients.chains[i];
            plugin->clients.chains[i] = client->next;
            free_client(plugin, client);
        }
    }
    free(plugin->clients.chains);
    plugin->clients = (struct clients){.chains = NULL};
}

struct client *tgm_known(const struct plugin *plugin, const struct mosquitto *broker)
{
    const struct clients *clients = &plugin->clients;
    struct client *client = clients->mask == 0 ? NULL : clients->chains[chain_of(clients, broker)];
    while (client != NULL && client->broker != broker) client = client->next;
    return client;
}

struct client *tgm_new_client(struct plugin *plugin, const struct mosquitto *broker)
{
    struct clients *clients = &plugin->clients;
    tgm_forget(plugin, broker);
    if (clients->count >= clients->mask && !grow(clients)) return NULL;
    struct client *client = make_client(plugin, broker);
    if (client == NULL) return NULL;
    struct client **chain = &clients->chains[chain_of(clients, broker)];
    client->next = *chain;
    *chain = client;
    clients->count++;
    return tgm_resolve(plugin, client) ? client : NULL;
}

/* A plugin has given it another user name, or identifier: it stays what it was as a connection. */
static struct client *rename_client(struct plugin *plugin, struct client *client)
{
    const struct mosquitto *broker = client->broker;
    struct client former = *client;
    client->places = NULL;
    client->place_count = 0;
    struct client *renamed = tgm_new_client(plugin, broker), *known = tgm_known(plugin, broker);
    if (known == NULL) {
        tgm_free_places(plugin, &former);
        return NULL;
    }
    known->places = former.places;
    known->place_count = former.place_count;
    known->announced = former.announced;
    known->accepted = former.accepted;
    return renamed;
}

struct client *tgm_client(struct plugin *plugin, const struct mosquitto *broker)
{
    struct client *client = tgm_known(plugin, broker);
    if (client == NULL || client->leaving) return tgm_new_client(plugin, broker);
    if (client->id != mosquitto_client_id(broker) || client->username != mosquitto_client_username(broker))
        return rename_client(plugin, client);
    return client->generation == plugin->loads || tgm_resolve(plugin, client) ? client : NULL;
}
