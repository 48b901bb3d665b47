/*
 * sketch: the v2 discussion of 24 May 2023. A bool, set and cleared under the list's lock.
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
	atomic {
		if
		:: zapping -> goto leave
		:: else
		fi
	};
	atomic { zapping = 1 };
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
	atomic { zapping = 0 };
	atomic { UNLOCK; RETURN };
leave:
	atomic { UNLOCK };
	atomic { !zapping -> RETURN };
end_done:
	false
}
