from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"

cdef extern from "native/engine.h":
    struct tg_class:
        pass
    struct tg_condition:
        pass
    struct tg_value:
        pass
    struct tg_component:
        pass
    struct tg_node:
        pass
    struct tg_edge:
        pass
    struct tg_ban:
        pass
    enum: TG_ERROR
    enum: TG_NONE
    enum: TG_MAX_CLASSES
    enum: TG_TALLIES

    struct tg_range:
        uint32_t first
        uint32_t count
    struct tg_head:
        uint32_t limits
    struct tg_limit:
        tg_range name
        tg_range rate
        tg_range bandwidth
        uint32_t slot
    struct tg_choice:
        tg_range budgets
    struct tg_budget:
        uint64_t identity
        uint64_t multiplier
        uint32_t shift
        uint32_t of_bytes
        uint64_t burst
        uint64_t largest
    struct tg_scale:
        uint32_t of[4]
    struct tg_slot:
        uint64_t identity
    struct tg_word:
        uint64_t tag
        uint64_t tat
    struct tg_event:
        uint64_t sequence
        uint64_t now
        uint64_t key
        uint32_t slot
        uint32_t count
        uint8_t kind
        uint8_t action
        uint8_t crowd
        uint8_t family
        uint8_t client_size
        uint8_t topic_size
        uint8_t username_size
        uint8_t address[16]
        char client[64]
        char username[48]
        char topic[80]
    struct tg_row_head:
        uint64_t written
        uint64_t lost
    struct tg_segment_head:
        uint32_t boot
        uint32_t scalings
    struct tg_segment:
        size_t bytes
        uint32_t rows
        uint32_t slots
        uint32_t records
        uint64_t words
        uint64_t policy_room
        uint64_t secret[2]
        tg_scale *scales
        tg_slot *slot
        uint64_t *tallies
        tg_row_head *row_heads
        tg_word *table
        uint64_t windows
    struct tg_policy:
        const tg_head *head
        const tg_limit *limits
        const tg_choice *choices
        const tg_budget *budgets
        const char *text
    struct tg_table:
        tg_word *words
        uint64_t mask
        uint64_t horizon
        uint32_t nonce
    struct tg_taken:
        uint64_t tag
        uint32_t place
    struct tg_engine:
        tg_segment segment
        tg_table table
        tg_policy policy
        tg_taken *taken
        uint32_t taken_count
        bint taken_shared
        uint64_t to_wake
    struct tg_who:
        const char *client
        const char *username
        const char *listener
        const char *cn
        const char *san
        uint32_t client_size
        uint32_t username_size
        uint32_t listener_size
        uint64_t nonce
        uint8_t address[16]
        uint8_t family
        uint8_t version
        bint has_username
        bint clean_start
        bint bridge
    struct tg_subject:
        uint64_t source
        uint64_t first_class
        uint8_t priority
        uint8_t exempt
        uint8_t exempt_there
    struct tg_profile:
        uint32_t entries
        uint32_t of[8]
    struct tg_message:
        const char *topic
        size_t topic_size
        uint64_t packet
        uint64_t payload
        uint32_t behind
        uint8_t event
        uint8_t qos
        uint8_t retain
        bint wild
        bint again
        bint held
        bint quiet
        bint ask
        uint64_t turn
        uint32_t owed
    struct tg_verdict:
        uint32_t action
        uint32_t limit
        uint32_t slot
        uint32_t matched
        bint crowd
        bint by_size
        bint by_window
        bint conflates
        uint8_t then
        uint64_t wait
        uint64_t queue
        uint64_t max_delay
        uint32_t extra
    struct tg_cost:
        uint64_t ticks
        uint64_t burst
        uint64_t largest
    struct tg_key:
        uint64_t tag
        uint64_t hash
    struct tg_quota:
        tg_cost limit
        tg_cost source
    struct tg_plan:
        tg_key key
        tg_cost cost
        const tg_quota *quota
        uint64_t identity
        uint32_t index
    struct tg_charge:
        const tg_table *table
        const tg_plan *plan
        tg_slot *slot
        uint32_t slot_number
        bint commit
        uint64_t secret
        uint64_t source
        uint64_t vicinity
        uint64_t now
    struct tg_charge_done:
        tg_word *where
        uint64_t *word
        uint64_t tag
        uint64_t ticks

    size_t tg_segment_bytes(uint32_t rows, uint32_t slots, uint32_t records, uint64_t words, uint64_t policy_room) nogil
    void tg_segment_create(void *base, uint32_t rows, uint32_t slots, uint32_t records, uint64_t words,
                           uint64_t policy_room, uint32_t boot, const uint64_t *secret)
    bint tg_segment_attach(tg_segment *segment, void *base, size_t bytes, uint32_t boot, char *error)
    uint32_t tg_segment_claim(tg_segment *segment, uint64_t identity)
    bint tg_segment_publish(tg_segment *segment, const void *policy, size_t bytes)
    uint64_t tg_segment_generation(const tg_segment *segment)
    size_t tg_segment_policy(const tg_segment *segment, void *out)

    tg_key tg_key_make(uint32_t slot, uint64_t hash)
    bint tg_charge_budget(const tg_charge *charge, uint64_t *wait, tg_charge_done *done, c_bool *crowd)
    tg_quota tg_quota_of(const tg_budget *budget, uint64_t words, uint32_t limits)
    void tg_census(const tg_segment *segment, uint64_t now_ns, const uint64_t *burst_by_slot, uint32_t slots,
                   uint64_t *live, uint64_t *over)

    bint tg_engine_init(tg_engine *engine, const tg_segment *segment, uint32_t row, uint32_t nonce)
    bint tg_engine_load(tg_engine *engine, const void *blob, size_t size, char *error)
    void tg_engine_free(tg_engine *engine)
    size_t tg_subject_bytes(const tg_policy *policy)
    size_t tg_profile_room(const tg_policy *policy)
    size_t tg_resolve(const tg_policy *policy, const uint64_t *secret, const tg_who *who, tg_subject *subject,
                      tg_profile *profile, uint32_t *classes, uint32_t *class_count)
    void tg_decide(tg_engine *engine, const tg_subject *subject, const tg_profile *profile, const tg_who *who,
                   const tg_message *message, uint64_t now_ns, tg_verdict *verdict)
    uint32_t tg_matching(tg_engine *engine, const tg_subject *subject, const tg_profile *profile, const tg_message *message, uint32_t *out)
    void tg_segment_forget(tg_segment *segment, uint32_t slot)
    void tg_count(const tg_engine *engine, uint32_t slot, uint32_t action)
    void tg_late(tg_engine *engine, const tg_subject *subject, const tg_who *who, const tg_message *message,
                 const tg_verdict *verdict, uint32_t action, uint64_t now_ns)
    void tg_read_filter(tg_message *message)
    uint32_t tg_will_delay(tg_engine *engine, const tg_subject *subject, const tg_profile *profile,
                           const tg_message *message)
    bint tg_delays(const tg_policy *policy, const tg_subject *subject, const tg_profile *profile, uint32_t event)
    uint64_t tg_least_window(const tg_engine *engine, const tg_subject *subject, const tg_profile *profile,
                             uint32_t event)
    uint64_t tg_window_free(tg_engine *engine, uint32_t place)
    uint64_t tg_window_count(const tg_segment *segment, uint64_t place)
    void tg_window_sweep(tg_engine *engine)
    bint tg_turn_wait(tg_engine *engine, uint64_t key, uint32_t waiting)
    int64_t tg_turn_lead(const tg_engine *engine, uint64_t key)
    void tg_turn_served(tg_engine *engine, uint64_t key)
    void tg_turn_level(tg_engine *engine, uint64_t key)
    uint64_t tg_turn_others(const tg_engine *engine, uint64_t key)
    void tg_segment_recover(tg_segment *segment, uint32_t row)
    void tg_sweep(tg_engine *engine, uint64_t now_ns)
    int tg_event_read(const tg_segment *segment, uint32_t row, uint64_t sequence, tg_event *out)

cdef extern from "native/gcra.h":
    enum: TG_UNSCALED
    enum: TG_LEAST_SCALE

    tg_cost tg_cost_of(const tg_budget *budget, uint64_t units, uint32_t scale)
    uint64_t tg_ticks(uint64_t ns)

cdef extern from "native/hash.h":
    uint64_t tg_siphash(const uint64_t *secret, const void *data, size_t size)


cdef class Segment:
    cdef tg_segment c
    cdef uint8_t[::1] view

cdef class Engine:
    cdef tg_engine c
    cdef readonly Segment segment
    cdef readonly int generation
    cdef uint32_t count
    cdef readonly list names
    cdef dict profiles
    cdef size_t profile_bytes
    cdef tg_verdict verdict
    cdef tg_message message
    cdef bytes delayed

    cdef int _decide(
        self, Subject subject, int event, bytes data, Py_ssize_t at, Py_ssize_t end, int qos, bint retain,
        uint64_t packet, uint64_t payload, bint again, uint64_t now_ns, uint64_t turn, bint held, uint32_t owed, bint ask,
        bint quiet
    ) except -1
    cdef void _forget(self) noexcept
    cdef const tg_profile *_profile(self, Subject subject, int event) except? NULL
    cpdef bint meets(self, Subject subject, int event) except -1
    cpdef bint delays(self, Subject subject, int event=*) except -1
    cpdef uint64_t window(self, Subject subject, int event) except? 0
    cpdef int tally(self, unsigned int slot, unsigned int action) except -1
    cpdef int resolve(self, Subject subject) except -1
    cpdef bint is_exempt(self, Subject subject, bint proven) except -1
    cpdef int decide(
        self, Subject subject, bytes data, Py_ssize_t at, Py_ssize_t end, int qos, bint retain, uint64_t packet,
        uint64_t payload, bint again, double now, uint64_t turn=*, bint held=*, uint32_t owed=*,
        bint ask=*
    ) except -1
    cpdef int decide_connect(
        self, Subject subject, bint late, uint64_t packet, double now, uint64_t turn=*, bint held=*, bint ask=*,
        bint quiet=*
    ) except -1
    cpdef int decide_failure(self, Subject subject, double now) except -1
    cpdef int decide_subscribe(
        self, Subject subject, bytes topic_filter, double now, uint64_t turn=*, bint held=*, bint ask=*, bint has=*
    ) except -1
    cpdef int decide_deliver(
        self, Subject subject, bytes data, Py_ssize_t at, Py_ssize_t end, int qos, bint retain, uint64_t packet,
        uint64_t payload, double now, uint64_t turn=*, bint held=*, uint32_t owed=*, bint ask=*, bint kept=*
    ) except -1
    cpdef int decide_will(
        self, Subject subject, bytes topic, int qos, bint retain, uint64_t packet, uint64_t payload, double now,
        uint64_t turn=*, bint held=*, bint ask=*
    ) except -1
    cpdef double will_delay(self, Subject subject, bytes topic, int qos, bint retain) except? -1
    cpdef int decide_packet(
        self, Subject subject, uint64_t packet, double now, uint64_t turn=*, bint held=*, bint ask=*
    ) except -1
    cpdef object taken(self)
    cpdef uint64_t free(self, uint32_t place) except? 0
    cpdef uint64_t rows_to_wake(self) except? 0
    cpdef bint wait_for(self, uint64_t key, uint32_t addresses) except -1
    cpdef double lead(self, uint64_t key) except? -1
    cpdef void served(self, uint64_t key) except *
    cpdef void level(self, uint64_t key) except *

cdef class Subject:
    cdef tg_who who
    cdef bytes client_id
    cdef bytes username
    cdef bytes listener
    cdef tg_subject *subject
    cdef bytes profile
    cdef int generation
    cdef readonly tuple classes

cdef class Meter:
    cdef Segment segment
    cdef tg_table table
    cdef tg_budget budget
    cdef tg_quota quota
    cdef uint32_t slot
