/* What this broker can do. Only what 2.0.11 has is linked; the rest is looked for when the plugin is loaded. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "plugin.h"

/* Constants that 2.0's headers lack (2.1's mosquitto/defs.h). */
#define QUOTA_EXCEEDED (-6)
#define PLUGIN_IGNORE 32
#define CONNECTION_RATE_EXCEEDED 159
#define BANNED 138

/* Only 2.1 has it. */
extern int mosquitto_plugin_set_info(mosquitto_plugin_id_t *identifier, const char *name, const char *version)
    __attribute__((weak));

void tgm_find_broker(struct broker *broker)
{
    broker->is_2_1 = mosquitto_plugin_set_info != NULL;
    /* To 2.0, which knows no QUOTA_EXCEEDED, that is an error upon which it closes the connection. */
    broker->refuse_message = broker->is_2_1 ? QUOTA_EXCEEDED : MOSQ_ERR_ACL_DENIED;
    /* 2.0 closes without a CONNACK for whatever is not MOSQ_ERR_AUTH. */
    broker->refuse_connect = broker->is_2_1 ? CONNECTION_RATE_EXCEEDED : MOSQ_ERR_AUTH;
    broker->refuse_banned = broker->is_2_1 ? BANNED : MOSQ_ERR_AUTH;
    broker->no_opinion = broker->is_2_1 ? PLUGIN_IGNORE : MOSQ_ERR_PLUGIN_DEFER;
}

void tgm_log(int level, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    mosquitto_log_printf(level, "tidegate: %s", line);
}

void tgm_write_text(char *to, size_t room, const char *from, size_t size)
{
    size_t n = size < room - 1 ? size : room - 1;
    while (n > 0 && n < size && ((uint8_t)from[n] & 0xc0) == 0x80) n--; /* between characters */
    memcpy(to, from, n);
    to[n] = 0;
    /* The broker has seen to it, but before 2.0.16 not for names from certificates. */
    if (mosquitto_validate_utf8(to, (int)n) == MOSQ_ERR_SUCCESS) return;
    for (size_t i = 0; i < n; i++)
        if (to[i] < ' ' || to[i] > '~') to[i] = '?';
}

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t tgm_now(void) { return read_clock(CLOCK_MONOTONIC); }
uint64_t tgm_coarse_now(void) { return read_clock(CLOCK_MONOTONIC_COARSE); }
