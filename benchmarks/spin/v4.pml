/*
 * v4: patch 9 as posted on 14 July 2023. The list's lock is released before zapping is cleared.
 *
 * The loop's test stands twice, before the first round and after each, as Python compiles it: a
 * vCPU that looks again is in another place than one that looks for the first time.
 */
#include "ghost.pml"

bit zapping;

active [N] proctype vcpu()
{
	byte r;
again:
	atomic { CALL };				/* kmalloc() works */
	atomic { LOCK };
	atomic { queued = 1 };
	atomic { UNLOCK };
	atomic {
		if
		:: !zapping -> zapping = 1; goto drain
		:: else -> goto wait
		fi
	};
drain:
	atomic { LOCK };
	atomic {
		if
		:: queued -> queued = 0; goto zap
		:: else -> goto nothing
		fi
	};
zap:
	atomic { UNLOCK };
	zap_begin();
	zap_end();
	atomic { LOCK };
	atomic {
		if
		:: queued -> queued = 0; goto zap
		:: else -> goto nothing
		fi
	};
nothing:
	atomic { UNLOCK };
	atomic { zapping = 0; RETURN };
wait:
	atomic { !zapping -> RETURN };
end_done:
	false
}
