/* restart.c - see restart.h. */
#include "supervise/restart.h"

static bool wanted(const struct keeper_conf *c, const struct restart *r, int exit_code, bool stopped)
{
	if (stopped)
		return false;
	switch ((enum restart_policy)c->restart) {
	case RESTART_ALWAYS:
	case RESTART_UNLESS_STOPPED:
		return true;
	case RESTART_ON_FAILURE:
		return exit_code != 0 && (c->restart_max == 0 || r->count < c->restart_max);
	case RESTART_NO:
		break;
	}
	return false;
}

int restart_next(const struct keeper_conf *c, struct restart *r, int exit_code, int64_t ran_ns, bool stopped)
{
	if (!wanted(c, r, exit_code, stopped))
		return -1;
	if (r->delay_ms == 0 || ran_ns >= RESTART_RESET_NS)
		r->delay_ms = RESTART_FIRST_MS;
	else if (r->delay_ms < RESTART_LAST_MS)
		r->delay_ms = r->delay_ms * 2 > RESTART_LAST_MS ? RESTART_LAST_MS : r->delay_ms * 2;
	r->count++;
	return (int)r->delay_ms;
}
