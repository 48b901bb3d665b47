
/*
 * The harness: threads that ask for random ranges, and a judge that knows nothing
 * of the protocol. A request is lost if it returns although for one of its frames
 * no zap that began after the request has ended. All times are ticks of one
 * logical clock.
 */
#define ATOMS	64		/* pieces of the guest's memory */
#define ATOM	BIT_ULL(14)	/* frames of a piece: 64 MiB */

struct counts {
	u64 requests, zaps, shared, waited, lost, failed;
};

static struct kvm the_vm;
static _Atomic u64 ticks = 1;
static _Atomic u64 zapped_since[ATOMS];	/* latest begin among the zaps that ended */
static long requests_each = 1000;
static int one_in_fails;
static long zap_ns;			/* what a zap takes, asleep */
static bool everything;			/* what each request is for */
static _Thread_local struct counts mine;
static _Thread_local u64 seed;

static u64 next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void *kmalloc(size_t size, int flags)
{
	(void)flags;
	if (one_in_fails && next_random() % one_in_fails == 0) {
		mine.failed++;
		return NULL;
	}
	return malloc(size);
}

static void kvm_zap_gfn_range(struct kvm *kvm, gfn_t start, gfn_t end)
{
	u64 began = atomic_fetch_add(&ticks, 1);

	(void)kvm;
	mine.zaps++;
	if (zap_ns)
		nanosleep(&(struct timespec){ .tv_nsec = zap_ns }, NULL);
	for (u64 i = 0; i < ATOMS; i++) {
		u64 last = atomic_load(&zapped_since[i]);

		if (start > i * ATOM || end < (i + 1) * ATOM)
			continue;
		while (last < began &&
		       !atomic_compare_exchange_weak(&zapped_since[i], &last, began))
			;
	}
}

/* Everything, the fixed area's piece, or an aligned block of pieces. */
static struct kvm_mtrr_zap_range random_range(void)
{
	u64 kind = next_random() % 4, order, first;

	if (everything || kind == 0)
		return (struct kvm_mtrr_zap_range){ 0, BIT_ULL(52) };
	order = next_random() % 5;
	first = next_random() % (ATOMS >> order) << order;
	return (struct kvm_mtrr_zap_range){ first * ATOM,
					(first + BIT_ULL(order)) * ATOM };
}

static void request(void)
{
	struct kvm_mtrr_zap_range ranges[3];
	int nr = everything || next_random() % 8 ? 1 : 1 + next_random() % 3;
	u64 asked, before = mine.zaps;
	bool lost = false;

	for (int i = 0; i < nr; i++)
		ranges[i] = random_range();
	user_waited = false;
	asked = atomic_fetch_add(&ticks, 1);
	PROTOCOL(&the_vm, ranges, nr);
	for (u64 i = 0; i < ATOMS; i++)
		for (int j = 0; j < nr; j++)
			if (ranges[j].start <= i * ATOM && (i + 1) * ATOM <= ranges[j].end)
				lost |= atomic_load(&zapped_since[i]) < asked;
	mine.requests++;
	mine.shared += mine.zaps == before;
	mine.waited += user_waited;
	mine.lost += lost;
}

static void *thread(void *argument)
{
	struct counts *counts = argument;

	seed = 0x9e3779b97f4a7c15ULL * (counts->requests + 1);
	for (long i = 0; i < requests_each; i++)
		request();
	*counts = mine;
	return NULL;
}

/* usage: THREADS REQUESTS [ONE_IN_FAILS [SEED [ZAP_NS [EVERYTHING]]]] */
int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 4;
	u64 first = argc > 4 ? strtoull(argv[4], NULL, 0) : 0;
	struct timespec begin, end;
	struct counts sum = { 0 };
	struct counts *counts;
	pthread_t *ids;

	requests_each = argc > 2 ? atol(argv[2]) : requests_each;
	one_in_fails = argc > 3 ? atoi(argv[3]) : 0;
	zap_ns = argc > 5 ? atol(argv[5]) : 0;
	everything = argc > 6 && atoi(argv[6]);
	if (threads < 1 || requests_each < 1 || one_in_fails < 0 ||
	    zap_ns < 0 || zap_ns > 999999999)
		return 2;
	counts = calloc(threads, sizeof(*counts));
	ids = calloc(threads, sizeof(*ids));
	if (!counts || !ids)
		return 2;
	INIT(&the_vm);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 0; i < threads; i++) {
		counts[i].requests = first + i;
		if (pthread_create(&ids[i], NULL, thread, &counts[i])) {
			perror("pthread_create");
			return 2;
		}
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
		sum.requests += counts[i].requests;
		sum.zaps += counts[i].zaps;
		sum.shared += counts[i].shared;
		sum.waited += counts[i].waited;
		sum.lost += counts[i].lost;
		sum.failed += counts[i].failed;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("{\"threads\": %d, \"requests\": %" PRIu64 ", \"zaps\": %" PRIu64
	       ", \"shared\": %" PRIu64 ", \"waited\": %" PRIu64
	       ", \"lost\": %" PRIu64 ", \"failed_allocations\": %" PRIu64
	       ", \"seconds\": %.6f}\n", threads, sum.requests, sum.zaps, sum.shared,
	       sum.waited, sum.lost, sum.failed,
	       end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9);
	free(counts);
	free(ids);
	return sum.lost != 0;
}
