/* Mosquitto as the plugin sees it, told what happens by lines of its standard input; every word but the first is hexadecimal
 * text ("-" for none) or a decimal number. Answers begin with the same letter, what the plugin does meanwhile comes before:
 * K identifier (a kick), Z filter (a subscription that is lost by it), L text (a line of log), $ topic value.
 *
 *   I (KEY VALUE)...            the plugin begins           C n ID USER ADDRESS version  a CONNECT
 *   T                           TICK                        P n TOPIC qos retain bytes   a PUBLISH
 *   R                           RELOAD                      S n FILTER                   a SUBSCRIBE
 *   N ns                        so much time passes         W n TOPIC qos retain bytes   the end of a client with a will
 *   E n taken                   the end of a client         X                            the plugin ends
 *   G                           time passes to the next step of the coarse clock
 *   V n TOPIC qos retain bytes  whether it may publish      D n                          its end, but it is not freed
 *   U n USER                    another plugin gives it this user name
 *   B n                         whether it, which is connected, may be
 *   O n                         2.1: it, or another with its memory, has been accepted
 *
 * taken: whether its identifier has been taken from it before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#define CLIENTS 64
#define CALLBACKS 8
#define CONNECT_2_1 11
#define STEP_NS 4000000          /* of the coarse clock, where the kernel counts 250 times a second */

struct mosquitto { char *id, *username, *address; int version; char *filter; };

static struct mosquitto *clients[CLIENTS];
static struct callback { MOSQ_FUNC_generic_callback call; void *userdata; } callbacks[33][CALLBACKS];
static long long now_ns = 1000000000000;
static void *userdata;

int fake_clock_gettime(clockid_t clock, struct timespec *now)
{
    long long read = clock == CLOCK_MONOTONIC_COARSE ? now_ns - now_ns % STEP_NS : now_ns;
    *now = (struct timespec){read / 1000000000, read % 1000000000};
    return 0;
}

static char *unhex(const char *text)
{
    if (text == NULL || strcmp(text, "-") == 0) return NULL;
    size_t size = strlen(text) / 2;
    char *out = malloc(size + 1);
    for (size_t i = 0; i < size; i++) {
        unsigned byte;
        sscanf(text + 2 * i, "%2x", &byte);
        out[i] = (char)byte;
    }
    out[size] = 0;
    return out;
}

static void print_hex(const char *text)
{
    putchar(' ');
    for (; *text; text++) printf("%02x", (unsigned char)*text);
}

int mosquitto_callback_register(mosquitto_plugin_id_t *identifier, int event, MOSQ_FUNC_generic_callback call, const void *data,
                                void *user)
{
    (void)identifier, (void)data;
    for (int i = 0; i < CALLBACKS; i++) {
        if (callbacks[event][i].call == call) return MOSQ_ERR_ALREADY_EXISTS;
        if (callbacks[event][i].call != NULL) continue;
        callbacks[event][i] = (struct callback){call, user};
        return MOSQ_ERR_SUCCESS;
    }
    return MOSQ_ERR_NOMEM;
}

int mosquitto_callback_unregister(mosquitto_plugin_id_t *identifier, int event, MOSQ_FUNC_generic_callback call, const void *data)
{
    (void)identifier, (void)data;
    for (int i = 0; i < CALLBACKS; i++) {
        if (callbacks[event][i].call != call) continue;
        memmove(&callbacks[event][i], &callbacks[event][i + 1], (CALLBACKS - 1 - (size_t)i) * sizeof(struct callback));
        callbacks[event][CALLBACKS - 1].call = NULL;
        return MOSQ_ERR_SUCCESS;
    }
    return MOSQ_ERR_NOT_FOUND;
}

void mosquitto_log_printf(int level, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    (void)level;
    putchar('L');
    print_hex(line);
    putchar('\n');
}

#ifdef WITH_2_1
int mosquitto_plugin_set_info(mosquitto_plugin_id_t *identifier, const char *name, const char *version)
{
    (void)identifier, (void)name, (void)version;
    return MOSQ_ERR_SUCCESS;
}
#endif

const char *mosquitto_client_address(const struct mosquitto *client) { return client->address; }
int mosquitto_validate_utf8(const char *text, int size)
{
    for (int i = 0; i < size; i++)
        if (text[i] < ' ' || text[i] > '~') return MOSQ_ERR_MALFORMED_UTF8; /* this one knows ASCII */
    return MOSQ_ERR_SUCCESS;
}

bool mosquitto_client_clean_session(const struct mosquitto *client) { (void)client; return true; }
const char *mosquitto_client_id(const struct mosquitto *client) { return client->id; }
void *mosquitto_client_certificate(const struct mosquitto *client) { (void)client; return NULL; }
int mosquitto_client_protocol_version(const struct mosquitto *client) { return client->version; }
const char *mosquitto_client_username(const struct mosquitto *client) { return client->username; }

int mosquitto_broker_publish_copy(const char *client, const char *topic, int size, const void *payload, int qos, bool retain,
                                  mosquitto_property *properties)
{
    (void)client, (void)qos, (void)retain, (void)properties;
    putchar('$');
    print_hex(topic);
    printf(" %.*s\n", size, (const char *)payload);
    return MOSQ_ERR_SUCCESS;
}

/* The first answer that is not to DEFER or IGNORE; -1 when nobody asked. */
static int call(int event, void *data)
{
    int outcome = -1;
    for (int i = 0; i < CALLBACKS && callbacks[event][i].call != NULL; i++) {
        outcome = callbacks[event][i].call(event, data, callbacks[event][i].userdata);
        if (outcome != MOSQ_ERR_PLUGIN_DEFER && outcome != 32) break;
    }
    return outcome;
}

static bool allowed(int outcome)
{
    return outcome == -1 || outcome == MOSQ_ERR_SUCCESS || outcome == MOSQ_ERR_PLUGIN_DEFER || outcome == 32;
}

/* 2.0.19 and later, and Debian's 2.0.11, ask then whether what a session has subscribed to is still allowed. */
int mosquitto_kick_client_by_clientid(const char *id, bool with_will)
{
    (void)with_will;
    putchar('K');
    print_hex(id);
    putchar('\n');
    for (int i = 0; i < CLIENTS; i++) {
        struct mosquitto *client = clients[i];
        if (client == NULL || client->id == NULL || strcmp(client->id, id) != 0 || client->filter == NULL) continue;
        struct mosquitto_evt_acl_check event = {.client = client, .topic = client->filter, .access = MOSQ_ACL_SUBSCRIBE};
        if (allowed(call(MOSQ_EVT_ACL_CHECK, &event))) continue;
        putchar('Z');
        print_hex(client->filter);
        putchar('\n');
    }
    return MOSQ_ERR_SUCCESS;
}

static void free_client(int number)
{
    struct mosquitto *client = clients[number];
    if (client == NULL) return;
    free(client->id);
    free(client->username);
    free(client->address);
    free(client->filter);
    free(client);
    clients[number] = NULL;
}

static char *words[64];

static int number(int word) { return words[word] == NULL ? 0 : atoi(words[word]); }

static void ask_of(char letter, int n)
{
    struct mosquitto_evt_basic_auth event = {.client = clients[n], .username = clients[n]->username};
    printf("%c %d\n", letter, call(MOSQ_EVT_BASIC_AUTH, &event));
}

static void connect_client(int n)
{
    free_client(n);
    clients[n] = calloc(1, sizeof **clients);
    *clients[n] = (struct mosquitto){unhex(words[2]), unhex(words[3]), unhex(words[4]), number(5), NULL};
    ask_of('C', n);
}

static void rename_user(int n)
{
    char *former = clients[n]->username;
    clients[n]->username = unhex(words[2]);
    free(former);
    puts("U");
}

static void publish(int n)
{
    char *topic = unhex(words[2]);
    struct mosquitto_evt_message event = {.client = clients[n], .topic = topic, .qos = (uint8_t)number(3), .retain = number(4),
                                          .payloadlen = (uint32_t)number(5)};
    printf("P %d\n", call(MOSQ_EVT_MESSAGE, &event));
    free(topic);
}

static void check(char letter, int n, int access)
{
    char *topic = unhex(words[2]);
    struct mosquitto_evt_acl_check event = {.client = clients[n], .topic = topic, .access = access, .qos = (uint8_t)number(3),
                                            .retain = number(4), .payloadlen = (uint32_t)number(5)};
    int outcome = call(MOSQ_EVT_ACL_CHECK, &event);
    printf("%c %d\n", letter, outcome);
    if (access == MOSQ_ACL_SUBSCRIBE && allowed(outcome)) {
        free(clients[n]->filter);
        clients[n]->filter = topic;
    } else {
        free(topic);
    }
}

static void end(int n, bool taken)
{
    if (taken) {
        free(clients[n]->id);
        clients[n]->id = NULL;
    }
    struct mosquitto_evt_disconnect event = {.client = clients[n]};
    call(MOSQ_EVT_DISCONNECT, &event);
}

static void begin(void)
{
    struct mosquitto_opt options[16];
    int count = 0;
    while (words[1 + 2 * count] != NULL) {
        options[count] = (struct mosquitto_opt){unhex(words[1 + 2 * count]), unhex(words[2 + 2 * count])};
        count++;
    }
    userdata = NULL;
    /* The broker keeps its options as long as the plugin: so do we, and for good. */
    printf("I %d\n", mosquitto_plugin_init(NULL, &userdata, options, count));
}

int main(void)
{
    static char line[1 << 20];
    while (fgets(line, sizeof line, stdin) != NULL) {
        int count = 0;
        memset(words, 0, sizeof words);
        for (char *word = strtok(line, " \n"); word != NULL && count < 63; word = strtok(NULL, " \n")) words[count++] = word;
        int n = number(1) % CLIENTS;
        switch (line[0]) {
        case 'I': begin(); break;
        case 'T': { struct mosquitto_evt_tick event = {0}; call(MOSQ_EVT_TICK, &event); puts("T"); break; }
        case 'R': { struct mosquitto_evt_reload event = {0}; call(MOSQ_EVT_RELOAD, &event); puts("R"); break; }
        case 'G': now_ns += STEP_NS - now_ns % STEP_NS; puts("G"); break;
        case 'N': now_ns += atoll(words[1]); puts("N"); break;
        case 'C': connect_client(n); break;
        case 'P': publish(n); break;
        case 'S': check('S', n, MOSQ_ACL_SUBSCRIBE); break;
        case 'W': end(n, false); check('W', n, MOSQ_ACL_WRITE); free_client(n); break;
        case 'B': ask_of('B', n); break;
        case 'V': check('V', n, MOSQ_ACL_WRITE); break;
        case 'U': rename_user(n); break;
        case 'D': end(n, false); puts("D"); break;
        case 'O': { struct mosquitto_evt_disconnect event = {.client = clients[n]}; call(CONNECT_2_1, &event); puts("O"); break; }
        case 'E': end(n, number(2)); free_client(n); puts("E"); break;
        case 'X':
            if (userdata != NULL) mosquitto_plugin_cleanup(userdata, NULL, 0);
            userdata = NULL;
            for (int i = 0; i < CLIENTS; i++) free_client(i);
            for (int event = 0; event < 33; event++)
                if (callbacks[event][0].call != NULL) return 2; /* something was left registered */
            puts("X");
            break;
        default: return 1;
        }
        fflush(stdout);
    }
    return 0;
}
