/* The memory that limits are kept in: of the plugin's own, which ends with the broker, or a segment that a control plane has
 * made. There it takes a row, and holds a lock on it (of the open file description, so it ends with the broker however
 * that ends); whoever takes the row next clears what was left in it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin.h"

#define LEAST_SLOTS 1024u
#define RECORDS 512u            /* as a worker's, gateway/policy_host.py */
#define MOST_FILE ((off_t)1 << 30)
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

/* CRC-32 of the boot's identifier, as engine/memory.py has it. */
static uint32_t boot(void)
{
    uint8_t text[64];
    int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t size = read(fd, text, sizeof text);
    close(fd);
    uint32_t crc = UINT32_MAX;
    for (ssize_t i = 0; i < size; i++) {
        crc ^= text[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static bool fail(char error[TG_ERROR], const char *text)
{
    snprintf(error, TG_ERROR, "%s", text);
    return false;
}

bool tgm_private_memory(struct memory *memory, uint32_t limits, uint64_t buckets, char error[TG_ERROR])
{
    uint32_t slots = LEAST_SLOTS;
    while (slots < 2 * limits) slots *= 2;
    if (slots > TG_MAX_SLOTS) slots = TG_MAX_SLOTS;
    uint64_t secret[2];
    if (getrandom(secret, sizeof secret, 0) != sizeof secret) return fail(error, "the system gives no random numbers");
    size_t bytes = tg_segment_bytes(1, slots, RECORDS, buckets, 0);
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        snprintf(error, TG_ERROR, "no memory for %llu buckets (%zu MiB); lower plugin_opt_buckets", (unsigned long long)buckets,
                 bytes >> 20);
        return false;
    }
    tg_segment_create(base, 1, slots, RECORDS, buckets, 0, boot(), secret);
    *memory = (struct memory){.base = base, .bytes = bytes, .fd = -1};
    if (tg_segment_attach(&memory->segment, base, bytes, boot(), error)) return true;
    tgm_release(memory);
    return false;
}

void tgm_release(struct memory *memory)
{
    if (memory->base != NULL) munmap(memory->base, memory->bytes);
    if (memory->fd >= 0) close(memory->fd);
    *memory = (struct memory){.fd = -1};
}

uint8_t *tgm_read_file(const char *path, size_t *bytes, char error[TG_ERROR])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not stop the broker */
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        bool forbidden = errno == EACCES;
        snprintf(error, TG_ERROR, "cannot be read: %s%s", strerror(errno), forbidden ? "; let the broker's user read it" : "");
        if (fd >= 0) close(fd);
        return NULL;
    }
    uint8_t *data = NULL;
    size_t size = 0;
    if (!S_ISREG(status.st_mode)) fail(error, "not a file");
    else if (status.st_size > MOST_FILE) fail(error, "too large to be a compiled policy");
    else if ((data = malloc((size_t)status.st_size + 1)) == NULL) fail(error, "no memory to read it");
    while (data != NULL) {
        ssize_t got = read(fd, data + size, (size_t)status.st_size + 1 - size);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0 && size > 0) break;
        if (got <= 0 || (size += (size_t)got) > (size_t)status.st_size) {
            fail(error, got < 0 ? strerror(errno) : got == 0 ? "empty" : "it grew while it was read; try again");
            free(data);
            data = NULL;
        }
    }
    close(fd);
    *bytes = size;
    return data;
}
