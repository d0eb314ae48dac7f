/* aiobridge/c_api.h: the C ABI of the runtime (aiobridge._core), for headers and for plain C
 *
 * The runtime publishes one table of functions in a capsule, as datetime and numpy do. Every extension in
 * the process, built by whatever tool and compiler, goes through it and so shares one inbox and one wake
 * for each loop.
 *
 * What keeps old modules working with new runtimes:
 *  - the major number is in the capsule's name; `struct_size` is first in the table and in every struct;
 *    members are only ever appended, and a slot never changes its meaning;
 *  - codes are fixed-width integers, and a receiver tolerates codes it does not know;
 *  - nothing of C++ crosses: no exception, no std:: type, no atomics, no object layout.
 *
 * Words used for each entry:
 *  - "any thread": without the GIL, never blocks, never runs Python, never throws; a GIL held is harmless;
 *  - "GIL": the calling thread is attached to the interpreter and holds the GIL;
 *  - after the loop was closed, the interpreter exited or the process forked, every "any thread" entry still
 *    answers (`closed`), for ever.
 */
#ifndef AIOBRIDGE_C_API_H
#define AIOBRIDGE_C_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AIOBRIDGE_ABI_MAJOR 1
#define AIOBRIDGE_ABI_MINOR 0
#define AIOBRIDGE_CAPSULE_ATTRIBUTE "abi_v1" /* attribute of aiobridge._core */
#define AIOBRIDGE_CAPSULE_NAME "aiobridge._core.abi_v1"

typedef struct _object aiobridge_pyobject;              /* PyObject, without Python.h */
typedef struct aiobridge_operation aiobridge_operation; /* one result, later */
typedef struct aiobridge_stream aiobridge_stream;       /* many events, later */
typedef struct aiobridge_callback aiobridge_callback;   /* a Python callable that native threads hold */

/* The fate of one item, told to its producer. */
enum {
    AIOBRIDGE_ACCEPTED = 0,       /* will be delivered, evicted, merged or undelivered: exactly once */
    AIOBRIDGE_EVICTED_OLDEST = 1, /* accepted; the oldest item made room */
    AIOBRIDGE_MERGED = 2,         /* accepted; now part of an item that waits */
    AIOBRIDGE_DROPPED = 3,        /* refused by policy */
    AIOBRIDGE_FULL = 4,           /* refused: no room */
    AIOBRIDGE_CLOSED = 5,         /* refused: nobody will ever take it; ask the close reason */
    AIOBRIDGE_TIMED_OUT = 6,      /* refused: no room within the timeout */
    AIOBRIDGE_WOULD_DEADLOCK = 7, /* refused: waiting on this thread would wait for itself */
    AIOBRIDGE_NO_MEMORY = 8,      /* refused */
    AIOBRIDGE_ALREADY_SET = 9     /* misuse: the promise had a result or an error before */
};
typedef uint32_t aiobridge_fate;

/* Why an operation or a stream takes nothing more. */
enum {
    AIOBRIDGE_OPEN = 0,
    AIOBRIDGE_FINISHED = 1,        /* fulfilled, or closed by its writer */
    AIOBRIDGE_FAILED = 2,          /* failed by its producer */
    AIOBRIDGE_CONSUMER_CLOSED = 3, /* aclose(), or `async with` was left */
    AIOBRIDGE_ABANDONED = 4,       /* the last Python reference was dropped */
    AIOBRIDGE_CANCELLED = 5,
    AIOBRIDGE_SCOPE_EXIT = 6,
    AIOBRIDGE_LOOP_CLOSED = 7,
    AIOBRIDGE_INTERPRETER_EXIT = 8,
    AIOBRIDGE_FORKED = 9 /* the handle was inherited by a child process */
};
typedef uint32_t aiobridge_reason;

/* What a bounded stream does with an item when it is full. */
enum {
    AIOBRIDGE_REFUSE = 0,      /* the item is refused: full */
    AIOBRIDGE_DROP_OLDEST = 1, /* the oldest item is evicted */
    AIOBRIDGE_DROP_NEWEST = 2, /* the item is refused: dropped */
    AIOBRIDGE_BLOCK = 3,       /* push waits for room, at most for the timeout */
    AIOBRIDGE_CONFLATE = 4,    /* the item is merged into the newest one */
    AIOBRIDGE_ERROR = 5,       /* the item is refused: full, and the stream ends with an error */
    AIOBRIDGE_UNBOUNDED = 6    /* never full; the capacity is only what it starts with */
};
typedef uint32_t aiobridge_overflow;

/* Flags of a type. */
enum {
    AIOBRIDGE_TYPE_TRIVIAL = 1u, /* move is memcpy, destroy does nothing */
    AIOBRIDGE_TYPE_ERROR = 2u    /* completes with an error: converted by `error` of the converter */
};
/* How to handle a payload. Static: it outlives every operation and stream that uses it. All functions are
 * nothrow and run on any thread. */
typedef struct aiobridge_type {
    uint32_t struct_size;
    uint32_t flags;
    uint64_t size, align;               /* bytes */
    void (*move)(void *to, void *from); /* constructs at `to`, destroys `from` */
    void (*destroy)(void *payload);
} aiobridge_type;

/* How to turn a payload into Python. Static. GIL, on the consumer's thread, outside every lock. `payload` may
 * be moved from; it is destroyed by the caller. */
typedef struct aiobridge_converter {
    uint32_t struct_size;
    uint32_t flags;
    aiobridge_pyobject *(*value)(void *payload); /* a new reference; or NULL with a Python error set */
    void (*error)(void *payload);                /* sets a Python error */
    /* Of a trivial type that numpy knows, else NULL. A new array of so many records, whose memory the runtime fills;
     * or NULL with a Python error set. */
    aiobridge_pyobject *(*array)(uint64_t count, void **data);
} aiobridge_converter;

/* A function of the user's. `run` and `destroy` are called on the hook thread, one after another, without
 * the GIL and outside every lock of the runtime: `run` at most once, then `destroy` exactly once. */
typedef struct aiobridge_hook {
    uint32_t struct_size;
    uint32_t flags;
    void (*run)(void *context, aiobridge_reason reason);
    void (*destroy)(void *context);
    void *context;
} aiobridge_hook;

/* The same, for items: `run` is called once for each, which the runtime destroys afterwards. */
typedef struct aiobridge_item_hook {
    uint32_t struct_size;
    uint32_t flags;
    void (*run)(void *context, void *item);
    void (*destroy)(void *context);
    void *context;
} aiobridge_item_hook;

/* A blocking call for the pool, embedded in the caller's own object. Exactly one of `run` and `drop` is called,
 * on a pool thread without the GIL (or, at exit, `drop` on another thread); it frees the object. */
typedef struct aiobridge_job {
    uint32_t struct_size;
    uint32_t flags;
    struct aiobridge_job *next;     /* the runtime's while the job is queued */
    aiobridge_operation *operation; /* a cancelled one is dropped instead of run */
    void (*run)(struct aiobridge_job *job);
    void (*drop)(struct aiobridge_job *job);
} aiobridge_job;

/* Where an object was made, for error messages. The strings are static. */
typedef struct aiobridge_site {
    const char *file, *function;
    uint32_t line;
} aiobridge_site;

typedef struct aiobridge_operation_options {
    uint32_t struct_size;
    uint32_t flags;
    uint64_t size, align; /* of the largest payload, value or error */
    aiobridge_site site;
} aiobridge_operation_options;

typedef struct aiobridge_stream_options {
    uint32_t struct_size;
    aiobridge_overflow overflow;
    uint64_t capacity; /* items, at least 1 */
    const aiobridge_type *type;
    aiobridge_site site;
    uint64_t timeout;                       /* `block`: nanoseconds; UINT64_MAX: until there is room or the end */
    uint64_t high_watermark, low_watermark; /* items; 0: the capacity, and half of the high one */
    /* `conflate`: nothrow, any thread, under a lock of the runtime's, so it must not call the runtime. Leaves `from` to
     * be destroyed. The first argument is merge_function. */
    void (*merge)(void (*merge_function)(void), void *into, void *from);
    void (*merge_function)(void);
} aiobridge_stream_options;

/* What gil_acquire found. */
typedef struct aiobridge_gil_state {
    void *gate; /* NULL: the thread held the GIL before */
    void *token;
} aiobridge_gil_state;

/* Why a call has no result: the callable raised (`fate` is accepted, and the texts are set), or it was not called. The
 * texts are UTF-8 and live as long as the call of `error`. */
typedef struct aiobridge_call_error {
    uint32_t struct_size;
    aiobridge_fate fate;
    aiobridge_reason reason; /* with fate `closed` */
    uint32_t reserved;
    const char *type, *message, *traceback;
} aiobridge_call_error;

/* How to make a call, and what to do with its result. Static. `payload` holds the arguments. */
typedef struct aiobridge_call_type {
    uint32_t struct_size;
    uint32_t flags; /* AIOBRIDGE_CALL_WAITED */
    const aiobridge_type *payload;
    aiobridge_pyobject *(*arguments)(void *payload); /* GIL. A new tuple, or NULL with a Python error set */
    /* GIL. Takes what the callable returned; -1 with a Python error set. NULL: nobody wants it. */
    int32_t (*value)(void *payload, aiobridge_pyobject *result);
    /* Any thread. At most one of `value` (that succeeds) and `error` is called, and one is unless `value` is NULL.
     * NULL: the loop's exception handler is told. */
    void (*error)(void *payload, const aiobridge_call_error *);
} aiobridge_call_type;
enum { AIOBRIDGE_CALL_WAITED = 1u }; /* the caller is going to wait for the result */

/* How many calls of a coroutine function may run at a time, and what happens to those that wait. */
typedef struct aiobridge_limit {
    uint32_t struct_size;
    aiobridge_overflow overflow; /* not `conflate` */
    uint64_t running, waiting;   /* calls, at least 1 */
    uint64_t timeout;            /* as aiobridge_stream_options */
} aiobridge_limit;

typedef struct aiobridge_api {
    uint32_t struct_size;
    uint32_t abi_major, abi_minor;
    const char *version; /* of the runtime, "0.1.0" */

    /* Operations: one result, later. A new operation is held by one promise and one consumer (its future). */
    aiobridge_operation *(*operation_create)(const aiobridge_operation_options *); /* any thread; NULL: no memory */
    void (*promise_retain)(aiobridge_operation *);                                 /* any thread */
    void (*promise_release)(aiobridge_operation *);   /* any thread; the last one unfulfilled breaks the promise */
    void (*future_retain)(aiobridge_operation *);     /* any thread */
    void (*future_release)(aiobridge_operation *);    /* any thread; the last one abandons the operation */
    void (*operation_retain)(aiobridge_operation *);  /* any thread; neither promise nor consumer: to ask it things */
    void (*operation_release)(aiobridge_operation *); /* any thread */
    /* Any thread. Moves `payload` in if the fate is `accepted`, else leaves it alone. */
    aiobridge_fate (*operation_complete)(aiobridge_operation *, const aiobridge_type *, void *payload);
    /* Any thread. A reason that is none for which a consumer cancels counts as `cancelled`. */
    void (*operation_cancel)(aiobridge_operation *, aiobridge_reason);
    aiobridge_reason (*operation_reason)(const aiobridge_operation *); /* any thread */
    /* Any thread. The hook runs once when the operation is cancelled, soon if it has been, never if it was
     * completed. -1: the hook thread cannot be started or no memory (the hook is then still the caller's). */
    int32_t (*operation_on_cancel)(aiobridge_operation *, const aiobridge_hook *);
    /* GIL. The operation's Future: a new reference, the same object each time; NULL with a Python error set. */
    aiobridge_pyobject *(*operation_future)(aiobridge_operation *, const aiobridge_converter *);

    /* Streams: many events, later. A new stream is held by one writer and one consumer. */
    /* Any thread. -1: no memory, -2: capacity is 0 or too large, -3: policy not known here, -4: `conflate` without
     * merge, -5: not 0 < low < high <= capacity. */
    int32_t (*stream_create)(const aiobridge_stream_options *, aiobridge_stream **);
    void (*writer_retain)(aiobridge_stream *); /* any thread */
    /* Any thread. The last one closes the stream; with `broken` not 0 what is buffered is followed by
     * BrokenStreamError. */
    void (*writer_release)(aiobridge_stream *, int32_t broken);
    void (*consumer_retain)(aiobridge_stream *);  /* any thread */
    void (*consumer_release)(aiobridge_stream *); /* any thread; the last one abandons the stream */
    /* Any thread; with policy `block` it may wait, and gives up the GIL meanwhile if its caller holds it. Moves `item`
     * in if the fate is accepted, evicted_oldest or merged, else leaves it alone. With evicted_oldest the evicted item
     * was moved to `evicted` (room for one), and is the caller's to destroy. */
    aiobridge_fate (*stream_push)(aiobridge_stream *, void *item, void *evicted);
    /* Any thread. Copies the first ones of `count` items, side by side, as far as there is room; none if the stream's
     * type is not trivial. Returns how many; stream_push tells what becomes of the next one. */
    uint64_t (*stream_push_some)(aiobridge_stream *, const void *items, uint64_t count);
    int32_t (*stream_close)(aiobridge_stream *); /* any thread; 0 if this call closed it */
    /* Any thread. As close, and what is buffered is followed by the error, which is moved in if the answer is 0.
     * The error is at most 16 bytes, aligned to 8. */
    int32_t (*stream_fail)(aiobridge_stream *, const aiobridge_type *, void *error);
    /* Any thread. As fail, but what is buffered is not delivered any more. Without an error (NULL, NULL) the stream
     * ends with BrokenStreamError. */
    int32_t (*stream_abort)(aiobridge_stream *, const aiobridge_type *, void *error);
    aiobridge_reason (*stream_reason)(const aiobridge_stream *);            /* any thread */
    int32_t (*stream_on_close)(aiobridge_stream *, const aiobridge_hook *); /* as operation_on_cancel */
    int32_t (*stream_ready)(const aiobridge_stream *); /* any thread; 0 from the high watermark to the low one */
    /* As stream_on_close; runs once, as soon as the stream is ready (reason `open`) or closed. */
    int32_t (*stream_on_ready)(aiobridge_stream *, const aiobridge_hook *);
    /* As stream_on_close; called with each item that was accepted and will not be delivered. -2: it has one. */
    int32_t (*stream_on_undelivered)(aiobridge_stream *, const aiobridge_item_hook *);
    /* GIL, on the thread of a running loop. The stream's Stream: a new reference, the same object each time. */
    aiobridge_pyobject *(*stream_object)(aiobridge_stream *, const aiobridge_converter *);

    /* Callbacks: a Python callable, called on the loop that ran where the callback was made. */
    /* GIL, on the thread of a running loop. NULL with a Python error set. */
    aiobridge_callback *(*callback_create)(aiobridge_pyobject *callable);
    void (*callback_retain)(aiobridge_callback *);  /* any thread */
    void (*callback_release)(aiobridge_callback *); /* any thread; the last one lets go of the callable, on its loop */
    /* Any thread. Moves `payload` in if the fate is accepted or evicted_oldest, else leaves it alone. With a limit
     * whose policy is `block` it may wait, as stream_push. */
    aiobridge_fate (*callback_call)(aiobridge_callback *, const aiobridge_call_type *, void *payload);
    aiobridge_reason (*callback_reason)(const aiobridge_callback *); /* any thread */
    /* Any thread, before the first call. -2: a count is 0, -3: policy not known here, -6: it has a limit, or was
     * called. */
    int32_t (*callback_limit)(aiobridge_callback *, const aiobridge_limit *);

    /* The GIL for a thread of anyone's. -1: the interpreter exits. What is acquired is released by the same thread. */
    int32_t (*gil_acquire)(aiobridge_gil_state *);
    void (*gil_release)(const aiobridge_gil_state *);

    /* The pool. Any thread. -1: no worker can be started; the job is then still the caller's. */
    int32_t (*pool_submit)(aiobridge_job *);

    /* Any thread. An error that has no other owner: copied, and given to a loop's exception handler in the next drain
     * of any loop, or at exit to the logger "aiobridge". */
    void (*report)(const char *message);
} aiobridge_api;

/* Of the table of ABI 1.0; a later one may be larger. */
#define AIOBRIDGE_API_SIZE_1_0 (offsetof(aiobridge_api, report) + sizeof(void (*)(const char *)))

#ifdef __cplusplus
}
#endif
#endif
