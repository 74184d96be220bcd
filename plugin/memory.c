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
    madvise(base, bytes, MADV_HUGEPAGE); /* a message may need ten buckets, each in another page; no matter if there are none */
    tg_segment_create(base, 1, slots, RECORDS, buckets, 0, boot(), secret);
    *memory = (struct memory){.base = base, .bytes = bytes, .fd = -1};
    if (tg_segment_attach(&memory->segment, base, bytes, boot(), error)) return true;
    tgm_release(memory);
    return false;
}

/* A file that a stranger may change could be taken away from under the broker at any time. */
static bool is_ours(const struct stat *status)
{
    if (status->st_uid == 0 || status->st_uid == geteuid()) return true;
    gid_t groups[256];
    int count = getgroups(256, groups);
    bool shared = status->st_gid == getegid();
    for (int i = 0; i < count; i++) shared |= status->st_gid == groups[i];
    return shared;
}

static bool claim_row(struct memory *memory)
{
    uint32_t rows = memory->segment.rows;
    for (uint32_t row = rows; row > 0 && rows >= TGM_GUESTS && row > rows - TGM_GUESTS; row--) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = TGM_LOCKS + (off_t)row - 1, .l_len = 1};
        if (fcntl(memory->fd, F_OFD_SETLK, &lock) != 0) continue;
        memory->row = row - 1;
        tg_segment_recover(&memory->segment, memory->row); /* of whoever had it before */
        return true;
    }
    return false;
}

bool tgm_attach(struct memory *memory, const char *path, char error[TG_ERROR])
{
    struct stat status;
    *memory = (struct memory){.fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    if (memory->fd < 0 || fstat(memory->fd, &status) != 0) {
        snprintf(error, TG_ERROR, "cannot be opened: %s%s", strerror(errno), errno == EACCES ? "; let the broker's user read and "
                 "write it" : errno == ENOENT ? "; start the gateway first, with gateway.segment" : "");
        tgm_release(memory);
        return false;
    }
    bool good = S_ISREG(status.st_mode) || fail(error, "not a file");
    good = good && (!(status.st_mode & S_IWOTH) || fail(error, "anybody may write it, and so end the broker; chmod o-w"));
    good = good && (is_ours(&status) || fail(error, "belongs to another user, with whom the broker shares no group"));
    good = good && (status.st_size > 0 || fail(error, "empty"));
    if (good) {
        memory->bytes = (size_t)status.st_size;
        memory->device = status.st_dev;
        memory->inode = status.st_ino;
        void *base = mmap(NULL, memory->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
        good = base != MAP_FAILED || fail(error, strerror(errno));
        if (good) memory->base = base;
    }
    good = good && tg_segment_attach(&memory->segment, memory->base, memory->bytes, boot(), error);
    good = good && (claim_row(memory) || fail(error, "has no row for a plugin, or others have them all"));
    if (!good) tgm_release(memory);
    return good;
}

enum file_state tgm_look(const struct memory *memory, const char *path)
{
    struct stat status;
    if (fstat(memory->fd, &status) != 0 || (size_t)status.st_size < memory->bytes) return TGM_SHRUNK;
    if (stat(path, &status) != 0) return TGM_GONE;
    return (uint64_t)status.st_dev == memory->device && (uint64_t)status.st_ino == memory->inode ? TGM_SAME : TGM_REPLACED;
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
