/* Streams: an order over operations; the stream itself knows only its last one. */
#ifndef EGPU_SIM_STREAMS_H
#define EGPU_SIM_STREAMS_H

#include "internal.h"

#define SIM_STREAM_PRIORITY_LEAST 0
#define SIM_STREAM_PRIORITY_GREATEST (-5)
#define SIM_STREAM_MAGIC UINT64_C(0x6d61657274737321)
#define SIM_EVENT_MAGIC UINT64_C(0x746e657665737321)

struct sim_capture; /* graphs.h */
struct CUgraphNode_st;

/* The nodes the next captured operation comes after. */
struct sim_nodes {
    struct CUgraphNode_st **nodes;
    size_t count;
    size_t room;
};

struct sim_stream {
    uint64_t magic; /* 0 after destroy: the memory stays, a stale handle is told from a live one */
    struct sim_context *context;
    unsigned flags;
    int priority;
    uint64_t identity;
    struct sim_attributes *attributes; /* launch_attributes.c; NULL = none set */
    bool per_thread;
    struct sim_point tail;  /* its last operation */
    struct sim_point extra; /* an event it was told to wait for, not yet before an operation; under the lock */
    struct sim_capture *capture;
    struct sim_nodes after;
    struct sim_stream *next;
};

struct CUevent_st {
    uint64_t magic;
    struct sim_context *context;
    unsigned flags;
    bool recorded;
    struct sim_point point; /* what its stream had to do when it was recorded */
    uint64_t recorded_ns;   /* the time of the record call */
    uint64_t completed_ns;  /* 0 while not known */
    struct sim_capture *capture; /* recorded in a stream that captures */
    uint64_t capture_identity;
    struct sim_nodes after;
    struct sim_shared_event *shared; /* with other processes; NULL = with none */
    uint64_t shared_records; /* of those what is known here */
    struct CUevent_st *pending_next; /* recorded, and its time not known yet */
    struct CUevent_st **pending_link;
    struct CUevent_st *next; /* of its context; one that has outlived it stays there and is told from a live one */
    struct CUevent_st **link;
};

CUresult sim_context_make(int card, struct sim_context **made);
void sim_context_end(struct sim_context *context); /* waits for its work */
struct sim_stream *sim_stream_make(struct sim_context *context, unsigned flags, int priority);
/* sim_enter() for calls that name a stream. */
CUresult sim_enter_stream(enum sim_call call, CUstream handle, struct sim_stream **stream);
/* Under the lock: the stream's last operation with all it was told to wait for, in one point. */
struct sim_point sim_stream_settle(struct sim_stream *stream);
struct sim_point sim_join(int card, struct sim_point one, struct sim_point other); /* under the lock */
/* Adds a host function (function != NULL) or an operation outside capture. */
CUresult sim_submit_now(struct sim_stream *stream, const struct sim_operation *operation, struct sim_point *point);
void sim_lock_with_room(int card, enum sim_kind kind); /* takes the lock; may wait before */
void sim_events_resolve(void); /* under the lock: keeps times before the rings forget them */
void sim_event_forget(struct CUevent_st *event);
/* ipc_events.c, under the lock: tells the other processes of a record; learns of theirs; one process fewer knows it. */
void sim_event_publish(struct CUevent_st *event);
void sim_event_learn(struct CUevent_st *event);
void sim_event_leave(struct CUevent_st *event);

/* capture.c */
bool sim_capture_active(const struct sim_stream *stream);
CUresult sim_capture_add(struct sim_stream *stream, const struct sim_operation *operation);
CUresult sim_capture_refuse(struct sim_stream *stream, CUresult why); /* invalidates, answers `why` */
CUresult sim_capture_implicit(struct sim_stream *legacy); /* 906 when a blocking stream of the context captures */
CUresult sim_capture_refuse_context(const struct sim_context *context); /* 900 when any does */
CUresult sim_capture_record(struct sim_stream *stream, struct CUevent_st *event);
CUresult sim_capture_wait(struct sim_stream *stream, struct CUevent_st *event);
void sim_nodes_set(struct sim_nodes *nodes, struct CUgraphNode_st *node);
bool sim_nodes_add(struct sim_nodes *nodes, const struct sim_nodes *more);
void sim_nodes_clear(struct sim_nodes *nodes);

#endif
