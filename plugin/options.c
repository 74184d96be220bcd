/* plugin_opt_... of mosquitto.conf, and addresses as the broker writes them. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

#define BUCKETS ((uint64_t)1 << 18)     /* gateway.buckets by default */
#define LEAST_BUCKETS ((uint64_t)1 << 10)
#define MOST_BUCKETS ((uint64_t)1 << 28)
#define SYS_INTERVAL 10u                /* Mosquitto's own by default */

static const uint8_t IPV4_IN_IPV6[12] = {[10] = 0xff, [11] = 0xff};

bool tgm_read_address(const char *text, uint8_t *family, uint8_t address[16])
{
    char plain[INET6_ADDRSTRLEN];
    size_t size = strcspn(text, "%"); /* an interface may follow */
    memset(address, 0, 16);
    if (size >= sizeof plain) return false;
    memcpy(plain, text, size);
    plain[size] = 0;
    if (inet_pton(AF_INET, plain, address) == 1) {
        *family = 4;
    } else if (inet_pton(AF_INET6, plain, address) == 1) {
        *family = 6;
        if (memcmp(address, IPV4_IN_IPV6, sizeof IPV4_IN_IPV6) == 0) {
            memmove(address, address + 12, 4);
            memset(address + 4, 0, 12);
            *family = 4;
        }
    } else {
        return false;
    }
    return true;
}

static bool within(const struct gateway *gateway, uint8_t family, const uint8_t address[16])
{
    if (gateway->family != family) return false;
    unsigned bits = gateway->bits;
    for (unsigned i = 0; bits > 0; i++) {
        uint8_t mask = bits >= 8 ? 0xff : (uint8_t)(0xff << (8 - bits));
        if ((gateway->address[i] ^ address[i]) & mask) return false;
        bits -= bits < 8 ? bits : 8;
    }
    return true;
}

bool tgm_is_gateway(const struct options *options, const char *address)
{
    uint8_t family = 0, bytes[16];
    if (options->gateway_count == 0) return false;
    bool is_ip = tgm_read_address(address, &family, bytes);
    for (unsigned i = 0; i < options->gateway_count; i++) {
        const struct gateway *gateway = &options->gateways[i];
        if (gateway->socket != NULL ? strcmp(gateway->socket, address) == 0 : is_ip && within(gateway, family, bytes)) return true;
    }
    return false;
}

static bool read_number(const char *text, uint64_t most, uint64_t *number)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != 0 || errno != 0 || value > most) return false;
    *number = value;
    return true;
}

static bool read_network(const char *text, struct gateway *gateway)
{
    char address[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t size = slash == NULL ? strlen(text) : (size_t)(slash - text);
    uint64_t bits;
    if (size >= sizeof address) return false;
    memcpy(address, text, size);
    address[size] = 0;
    if (!tgm_read_address(address, &gateway->family, gateway->address)) return false;
    bits = gateway->family == 4 ? 32 : 128;
    if (slash != NULL && !read_number(slash + 1, bits, &bits)) return false;
    gateway->bits = (uint8_t)bits;
    return true;
}

static bool read_gateway(struct options *options, const char *text)
{
    if (options->gateway_count == TGM_MOST_GATEWAYS) {
        tgm_log(MOSQ_LOG_ERR, "more than %u plugin_opt_gateway; name a network instead of its addresses", TGM_MOST_GATEWAYS);
        return false;
    }
    struct gateway *gateway = &options->gateways[options->gateway_count++];
    memset(gateway, 0, sizeof *gateway);
    if (text[0] == '/') gateway->socket = text;
    else if (!read_network(text, gateway)) {
        tgm_log(MOSQ_LOG_ERR, "plugin_opt_gateway %s: write an address, a network such as 10.0.0.0/24, or the path of the "
                "Unix socket that the gateway connects to", text);
        return false;
    }
    return true;
}

static bool read_answers(const char *key, const char *text, enum answers *answers)
{
    if (strcmp(text, "open") == 0) *answers = TGM_OPEN;
    else if (strcmp(text, "others") == 0) *answers = TGM_OTHERS;
    else {
        tgm_log(MOSQ_LOG_ERR, "plugin_opt_%s %s: write \"others\" when a file or another plugin decides, \"open\" when nothing "
                "does", key, text);
        return false;
    }
    return true;
}

static bool read_option(struct options *options, const char *key, const char *value)
{
    uint64_t number;
    if (strcmp(key, "policy") == 0) options->policy = value;
    else if (strcmp(key, "segment") == 0) options->segment = value;
    else if (strcmp(key, "gateway") == 0) return read_gateway(options, value);
    else if (strcmp(key, "authentication") == 0) return read_answers(key, value, &options->authentication);
    else if (strcmp(key, "authorisation") == 0) return read_answers(key, value, &options->authorisation);
    else if (strcmp(key, "buckets") == 0) {
        if (!read_number(value, MOST_BUCKETS, &number) || number < LEAST_BUCKETS) {
            tgm_log(MOSQ_LOG_ERR, "plugin_opt_buckets %s: write a number from %llu to %llu", value,
                    (unsigned long long)LEAST_BUCKETS, (unsigned long long)MOST_BUCKETS);
            return false;
        }
        while (options->buckets < number) options->buckets *= 2;
        while (options->buckets / 2 >= number) options->buckets /= 2;
    } else if (strcmp(key, "sys_interval") == 0) {
        if (!read_number(value, 65535, &number)) {
            tgm_log(MOSQ_LOG_ERR, "plugin_opt_sys_interval %s: write seconds, 0 to publish nothing below $SYS", value);
            return false;
        }
        options->sys_interval = (uint32_t)number;
    } else {
        tgm_log(MOSQ_LOG_ERR, "plugin_opt_%s: no such option; there are policy, segment, gateway, authentication, authorisation, "
                "buckets, sys_interval", key);
        return false;
    }
    return true;
}

/* Of two lines, one would be ignored. */
static bool is_twice(const struct mosquitto_opt *given, int at)
{
    for (int i = 0; i < at; i++)
        if (strcmp(given[i].key, given[at].key) == 0 && strcmp(given[at].key, "gateway") != 0) {
            tgm_log(MOSQ_LOG_ERR, "plugin_opt_%s is there twice; keep one of the lines", given[at].key);
            return true;
        }
    return false;
}

bool tgm_read_options(struct options *options, const struct mosquitto_opt *given, int count)
{
    *options = (struct options){.buckets = BUCKETS, .sys_interval = SYS_INTERVAL};
    for (int i = 0; i < count; i++)
        if (is_twice(given, i) || !read_option(options, given[i].key, given[i].value)) return false;
    if (options->policy == NULL && options->segment == NULL) {
        tgm_log(MOSQ_LOG_ERR, "no limits: write plugin_opt_policy FILE (made by tidegate policy compile), or "
                "plugin_opt_segment PATH of a gateway that runs");
        return false;
    }
    if (options->policy != NULL && options->segment != NULL) {
        tgm_log(MOSQ_LOG_ERR, "both plugin_opt_policy and plugin_opt_segment: keep one of them");
        return false;
    }
    return true;
}
