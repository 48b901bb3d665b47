/*
 * review: the array of the review of 25 August 2023, under the sketch's bool.
 *
 * All vCPUs ask for everything, so the array holds one entry or none.
 */
#include "ghost.pml"

bit zapping;

active [N] proctype vcpu()
{
	byte r;
again:
	atomic { !held -> held = 1; CALL };
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
