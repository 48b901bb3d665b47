/*
 * What every model here shares: the sizes, the lock, and the ghost state of "no lost zap".
 *
 * Every vCPU asks for the same range, everything, so one bit says whether a range is queued and one
 * bit a vCPU whether its call is still without its zap. zappers[i] has the bit of every vCPU whose
 * zap, now in flight, began after call i.
 *
 * One atomic is one operation of the protocol. What the protocol decides by itself afterwards
 * belongs to the same atomic, and so do the call (with its first operation) and the return (with
 * its last): the same granularity as the Python checker's.
 */
#ifndef N
#define N 2		/* vCPUs */
#endif
#ifndef R
#define R 1		/* requests of each */
#endif

bit held;
bit queued;
bit outstanding[N];
byte zappers[N];
hidden byte k;

#define ME	(1 << _pid)

#define CALL	outstanding[_pid] = 1; zappers[_pid] = 0
#define LOCK	!held -> held = 1
#define UNLOCK	held = 0

#define RETURN \
	assert(!outstanding[_pid]); \
	outstanding[_pid] = 0; \
	zappers[_pid] = 0; \
	r++; \
	if \
	:: r < R -> goto again \
	:: else -> goto end_done \
	fi

inline zap_begin()
{
	d_step {
		k = 0;
		do
		:: k < N ->
			if
			:: outstanding[k] -> zappers[k] = zappers[k] | ME
			:: else
			fi;
			k++
		:: else -> break
		od;
		k = 0
	}
}

inline zap_end()
{
	d_step {
		k = 0;
		do
		:: k < N ->
			if
			:: zappers[k] & ME -> outstanding[k] = 0; zappers[k] = 0
			:: else
			fi;
			k++
		:: else -> break
		od;
		k = 0
	}
}
