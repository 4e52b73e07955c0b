#include "believed.h"

static uint64_t least(uint64_t one, uint64_t other) { return one < other ? one : other; }

static int64_t within(int64_t value, int64_t low, int64_t high) { return value < low ? low : value > high ? high : value; }

uint64_t believed_moment(uint64_t said_ns, uint64_t now_ns, uint64_t bound_ns) {
    return said_ns > now_ns && said_ns - now_ns > bound_ns ? 0 : said_ns;
}

/* What is too much at once is believed later, as time passes. */
static uint64_t believe_busy(struct believed_busy *before, uint64_t said_ns, uint64_t now_ns) {
    if (before->at_ns == 0) {
        *before = (struct believed_busy){.busy_ns = said_ns, .credit_ns = BELIEVED_CREDIT_NS_MAX, .at_ns = now_ns};
        return said_ns;
    }
    uint64_t passed_ns = now_ns > before->at_ns ? now_ns - before->at_ns : 0;
    before->at_ns = now_ns;
    before->credit_ns = least(before->credit_ns + least(passed_ns, BELIEVED_CREDIT_NS_MAX), BELIEVED_CREDIT_NS_MAX);
    uint64_t more_ns = said_ns > before->busy_ns ? least(said_ns - before->busy_ns, before->credit_ns) : 0;
    before->credit_ns -= more_ns;
    before->busy_ns += more_ns;
    before->grown_ns = more_ns;
    return before->busy_ns;
}

static uint64_t worked_until(const uint64_t *words, uint64_t now_ns) {
    uint64_t since_ns = words[BELIEVED_WORD(running_since_ns)];
    uint64_t passed_ns = now_ns > since_ns ? now_ns - since_ns : 0;
    return words[BELIEVED_WORD(busy_ns)] + least(passed_ns, words[BELIEVED_WORD(running_estimate_ns)]);
}

struct throttle_peer believed_peer(struct believed *before, const uint64_t *words, const struct egpu_member *member,
                                   uint64_t now_ns) {
    uint64_t busy_until_ns = believed_moment(words[BELIEVED_WORD(busy_until_ns)], now_ns, BELIEVED_BUSY_NS_MAX);
    uint64_t silent_ns = words[BELIEVED_WORD(in_flight_since_ns)] ? BELIEVED_SILENT_NS : 0;
    believe_busy(&before->worked, worked_until(words, now_ns), now_ns);
    return (struct throttle_peer){
        .limits = {member->core_quota, member->core_policy, member->priority},
        .wanting_until_ns = believed_moment(words[BELIEVED_WORD(wanting_until_ns)], now_ns, BELIEVED_SIGN_NS_MAX),
        .busy_until_ns = busy_until_ns,
        .unseen_until_ns = busy_until_ns + silent_ns,
        .hold_until_ns = believed_moment(words[BELIEVED_WORD(hold_until_ns)], now_ns, BELIEVED_SIGN_NS_MAX),
        .probe_until_ns = believed_moment(words[BELIEVED_WORD(probe_until_ns)], now_ns, BELIEVED_SIGN_NS_MAX),
        .busy_ns = believe_busy(&before->charged, words[BELIEVED_WORD(busy_ns)], now_ns),
        .tokens_ns = within((int64_t)words[BELIEVED_WORD(tokens_ns)], -(int64_t)THROTTLE_DEBT_NS_MAX,
                            (int64_t)THROTTLE_OWED_NS_MAX),
        /* Tokens of a moment that was not yet: nothing was earned since. */
        .tokens_at_ns = least(words[BELIEVED_WORD(tokens_at_ns)], now_ns),
    };
}
