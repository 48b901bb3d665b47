// SPDX-License-Identifier: MIT
/*
 * The kernel's names that the functions below use, over C11 atomics and POSIX
 * threads. With KVM_MTRR_STEPS every operation on a shared object goes through
 * step_begin() and step_end(), which the harness defines.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

typedef uint64_t u64;
typedef u64 gfn_t;
struct kvm;

#define BIT_ULL(n)		(1ULL << (n))
#define GENMASK_ULL(h, l)	((~0ULL >> (63 - (h))) & (~0ULL << (l)))
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define max(a, b)		((a) > (b) ? (a) : (b))
#define WARN_ON_ONCE(c)		((c) ? (abort(), true) : false)

static inline unsigned int fls64(u64 x)
{
	return x ? 64 - __builtin_clzll(x) : 0;
}

/* A ring of nodes, whose head is no element. */
struct list_head {
	struct list_head *next, *prev;
};

#define LIST_HEAD(name)	struct list_head name = { &(name), &(name) }
#define list_entry(node, type, member) \
	((type *)((char *)(node) - offsetof(type, member)))
#define list_first_entry(head, type, member) \
	list_entry((head)->next, type, member)
#define list_for_each_entry(each, head, member) \
	for (each = list_entry((head)->next, __typeof__(*each), member); \
	     &each->member != (head); \
	     each = list_entry(each->member.next, __typeof__(*each), member))
#define list_for_each_entry_safe(each, after, head, member) \
	for (each = list_entry((head)->next, __typeof__(*each), member), \
	     after = list_entry(each->member.next, __typeof__(*each), member); \
	     &each->member != (head); \
	     each = after, \
	     after = list_entry(each->member.next, __typeof__(*each), member))

static inline void INIT_LIST_HEAD(struct list_head *head)
{
	head->next = head->prev = head;
}

static inline bool list_empty(const struct list_head *head)
{
	return head->next == head;
}

/* At the head's end; before an element, if that is what is given. */
static inline void list_add_tail(struct list_head *node, struct list_head *head)
{
	node->next = head;
	node->prev = head->prev;
	head->prev->next = node;
	head->prev = node;
}

static inline void list_del(struct list_head *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
}

#define GFP_KERNEL_ACCOUNT	0

typedef struct {
	int counter;
} atomic_t;

static _Thread_local bool user_waited;

/* Asleep, not yielding: on few CPUs whoever is waited for must get one. */
static inline void user_pause(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000 }, NULL);
}

static inline void cpu_relax(void)
{
#ifdef KVM_MTRR_STEPS
	user_pause();
#else
	sched_yield();
#endif
	user_waited = true;
}

/* A thread has given its CPU away in cpu_relax(). */
#define cond_resched()		((void)0)

#ifndef KVM_MTRR_STEPS

/* What widens the window before a flag is stored: for tests only. */
#ifdef KVM_MTRR_WINDOW
static inline void user_window(void)
{
	struct timespec pause = { .tv_nsec = KVM_MTRR_WINDOW };

	nanosleep(&pause, NULL);
}
#else
static inline void user_window(void)
{
}
#endif

typedef pthread_mutex_t spinlock_t;

#define spin_lock_init(l)	pthread_mutex_init(l, NULL)
#define spin_lock(l)		pthread_mutex_lock(l)
#define spin_unlock(l)		pthread_mutex_unlock(l)

#define READ_ONCE(x)		__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v) \
	(user_window(), __atomic_store_n(&(x), v, __ATOMIC_RELAXED))
#define smp_load_acquire(p)	__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define smp_store_mb(x, v)	__atomic_store_n(&(x), v, __ATOMIC_SEQ_CST)
#define smp_store_release(p, v) \
	(user_window(), __atomic_store_n(p, v, __ATOMIC_RELEASE))

#define user_cond_load(p, cond, order) ({			\
	__typeof__(*(p)) VAL;					\
								\
	for (;;) {						\
		VAL = __atomic_load_n(p, order);		\
		if (cond)					\
			break;					\
		cpu_relax();					\
	}							\
	VAL;							\
})
#define smp_cond_load_acquire(p, cond) user_cond_load(p, cond, __ATOMIC_ACQUIRE)

#define user_cmpxchg(p, old, new, order) ({			\
	__typeof__(*(p)) was_ = (old);				\
								\
	__atomic_compare_exchange_n(p, &was_, new, false, order,\
				    __ATOMIC_RELAXED);		\
	was_;							\
})
#define cmpxchg(p, o, n)		user_cmpxchg(p, o, n, __ATOMIC_SEQ_CST)
#define cmpxchg_acquire(p, o, n)	user_cmpxchg(p, o, n, __ATOMIC_ACQUIRE)
#define cmpxchg_release(p, o, n)	user_cmpxchg(p, o, n, __ATOMIC_RELEASE)
#define cmpxchg_relaxed(p, o, n)	user_cmpxchg(p, o, n, __ATOMIC_RELAXED)

/* Fails now and then, where the harness asks for that. */
static void *kmalloc(size_t size, int flags) __attribute__((unused));
#define kfree(p)		free(p)

#else /* KVM_MTRR_STEPS */

static void step_begin(void);
/* Says that the operation cannot be done now; returns when it may be tried again. */
static void step_blocked(void);
static void step_end(const void *object, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static bool step_may_alloc(void);
static void *step_memory(size_t size);

typedef struct {
	bool held;
} spinlock_t;

static inline void spin_lock_init(spinlock_t *lock)
{
	lock->held = false;
}

static inline void spin_lock(spinlock_t *lock)
{
	step_begin();
	while (lock->held)
		step_blocked();
	lock->held = true;
	step_end(lock, "lock");
}

static inline void spin_unlock(spinlock_t *lock)
{
	step_begin();
	lock->held = false;
	step_end(lock, "unlock");
}

#define step_load(p, order) ({					\
	__typeof__(p) at_ = (p);				\
	__typeof__(*at_) now_;					\
								\
	step_begin();						\
	now_ = *at_;						\
	step_end(at_, "load " order " = %ld", (long)now_);	\
	now_;							\
})
#define step_store(p, v, order) do {				\
	__typeof__(p) at_ = (p);				\
								\
	step_begin();						\
	*at_ = (v);						\
	step_end(at_, "store " order " %ld", (long)*at_);	\
} while (0)
#define step_cond_load(p, cond, order) ({			\
	__typeof__(p) at_ = (p);				\
	__typeof__(*at_) VAL;					\
								\
	step_begin();						\
	while (VAL = *at_, !(cond))				\
		step_blocked();					\
	step_end(at_, "wait " order " = %ld", (long)VAL);	\
	VAL;							\
})
#define step_cmpxchg(p, old, new, order) ({			\
	__typeof__(p) at_ = (p);				\
	__typeof__(*at_) was_;					\
								\
	step_begin();						\
	was_ = *at_;						\
	if (was_ == (old))					\
		*at_ = (new);					\
	step_end(at_, "cmpxchg " order " %ld %ld = %ld",	\
		 (long)(old), (long)(new), (long)was_);		\
	was_;							\
})

#define READ_ONCE(x)			step_load(&(x), "relaxed")
#define WRITE_ONCE(x, v)		step_store(&(x), v, "relaxed")
#define smp_load_acquire(p)		step_load(p, "acquire")
#define smp_store_release(p, v)		step_store(p, v, "release")
#define smp_store_mb(x, v)		step_store(&(x), v, "full")
#define smp_cond_load_acquire(p, cond)	step_cond_load(p, cond, "acquire")
#define cmpxchg(p, o, n)		step_cmpxchg(p, o, n, "full")
#define cmpxchg_acquire(p, o, n)	step_cmpxchg(p, o, n, "acquire")
#define cmpxchg_release(p, o, n)	step_cmpxchg(p, o, n, "release")
#define cmpxchg_relaxed(p, o, n)	step_cmpxchg(p, o, n, "relaxed")

static inline void *kmalloc(size_t size, int flags)
{
	bool may;

	(void)flags;
	step_begin();
	may = step_may_alloc();
	step_end("memory", "alloc = %d", may);
	return may ? step_memory(size) : NULL;
}

/* All memory of a run is given back at its end. */
#define kfree(p)		((void)(p))

#endif

#define atomic_read(v)			READ_ONCE((v)->counter)
#define atomic_read_acquire(v)		smp_load_acquire(&(v)->counter)
#define atomic_set(v, n)		WRITE_ONCE((v)->counter, n)
#define atomic_set_release(v, n)	smp_store_release(&(v)->counter, n)
#define atomic_cond_read_acquire(v, c)	smp_cond_load_acquire(&(v)->counter, c)
#define atomic_cmpxchg(v, o, n)		cmpxchg(&(v)->counter, o, n)
#define atomic_cmpxchg_acquire(v, o, n)	cmpxchg_acquire(&(v)->counter, o, n)
#define atomic_cmpxchg_release(v, o, n)	cmpxchg_release(&(v)->counter, o, n)
#define atomic_cmpxchg_relaxed(v, o, n)	cmpxchg_relaxed(&(v)->counter, o, n)

static void kvm_zap_gfn_range(struct kvm *kvm, gfn_t start, gfn_t end);
