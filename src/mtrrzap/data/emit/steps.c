
/*
 * The test build. With no arguments standard input decides who steps:
 *
 *	start VCPUS		a VM that nobody has used
 *	call VCPU START END …	the vCPU's next call: nothing happens yet
 *	step VCPU CHOICE	its next operation; CHOICE 1: an allocation fails
 *
 * Each step prints what was done, or "blocked"; a call that returns prints
 * "return VCPU". With THREADS REQUESTS SEED threads run freely, and the log says
 * in which order their operations took place.
 */
#define MAX_VCPUS	8
#define MAX_RANGES	8
#define STACK		(256 * 1024)

struct vcpu {
	ucontext_t context;
	char *stack;
	struct kvm_mtrr_zap_range ranges[MAX_RANGES];
	int nr;
	bool running;
};

static struct kvm the_vm;
static struct vcpu vcpus[MAX_VCPUS];
static ucontext_t scheduler;
static int now;			/* the vCPU that steps */
static bool alloc_fails, was_blocked;
static bool freely;		/* threads, not the schedule, decide */
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local int me = -1;
static _Thread_local u64 seed;
static char memory[1 << 20];
static size_t used;

static int self(void)
{
	return freely ? me : now;
}

static u64 next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void step_begin(void)
{
	if (self() < 0)		/* nobody runs yet */
		return;
	if (!freely) {
		swapcontext(&vcpus[now].context, &scheduler);
		return;
	}
	while (next_random() % 2)
		sched_yield();
	pthread_mutex_lock(&order);
}

static void step_blocked(void)
{
	if (!freely) {
		was_blocked = true;
		swapcontext(&vcpus[now].context, &scheduler);
		return;
	}
	pthread_mutex_unlock(&order);
	user_pause();
	pthread_mutex_lock(&order);
}

static const char *object_name(const void *object)
{
#define NAME(field) \
	if (object == (const void *)&the_vm.arch.mtrr_zap.field) \
		return #field;
	NAMES
#undef NAME
	return object;		/* one that has no field is given by its name */
}

static void step_end(const void *object, const char *format, ...)
{
	va_list arguments;

	if (self() < 0)
		return;
	printf("%d %s ", self(), object_name(object));
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	if (freely)
		pthread_mutex_unlock(&order);
}

static bool step_may_alloc(void)
{
	return freely ? next_random() % 4 != 0 : !alloc_fails;
}

static void *step_memory(size_t size)
{
	void *found = memory + used;

	used += (size + 15) & ~(size_t)15;
	if (used > sizeof(memory))
		abort();
	return found;
}

static void kvm_zap_gfn_range(struct kvm *kvm, gfn_t start, gfn_t end)
{
	(void)kvm;
	step_begin();
	step_end("mmu", "zap_begin %" PRIu64 " %" PRIu64, step_gfn(start), step_gfn(end));
	step_begin();
	step_end("mmu", "zap_end %" PRIu64 " %" PRIu64, step_gfn(start), step_gfn(end));
}

static void coroutine(void)
{
	struct vcpu *vcpu = &vcpus[now];

	PROTOCOL(&the_vm, vcpu->ranges, vcpu->nr);
	vcpu->running = false;
	for (;;)
		swapcontext(&vcpu->context, &scheduler);
}

/* Let a vCPU go on to its next operation, or to the end of its call. */
static void resume(int vcpu)
{
	now = vcpu;
	swapcontext(&scheduler, &vcpus[vcpu].context);
	now = -1;
}

static void start(void)
{
	used = 0;
	now = -1;
	memset(&the_vm, 0, sizeof(the_vm));
	INIT(&the_vm);
	for (int i = 0; i < MAX_VCPUS; i++)
		vcpus[i].running = false;
}

static void call(int vcpu, char *words)
{
	struct vcpu *v = &vcpus[vcpu];
	u64 start, end;
	int length;

	v->nr = 0;
	while (sscanf(words, "%" SCNu64 " %" SCNu64 "%n", &start, &end, &length) == 2) {
		v->ranges[v->nr++] = (struct kvm_mtrr_zap_range){ start, end };
		words += length;
	}
	if (!v->stack)
		v->stack = malloc(STACK);
	getcontext(&v->context);
	v->context.uc_stack.ss_sp = v->stack;
	v->context.uc_stack.ss_size = STACK;
	v->context.uc_link = NULL;
	makecontext(&v->context, coroutine, 0);
	v->running = true;
	resume(vcpu);
}

static void step(int vcpu, int choice)
{
	if (!vcpus[vcpu].running) {
		printf("%d idle\n", vcpu);
		return;
	}
	alloc_fails = choice;
	was_blocked = false;
	resume(vcpu);
	if (was_blocked)
		printf("%d blocked\n", vcpu);
	if (!vcpus[vcpu].running)
		printf("return %d\n", vcpu);
}

static int scheduled(void)
{
	char line[1024];
	int vcpu, other;

	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "call %d%n", &vcpu, &other) == 1)
			call(vcpu, line + other);
		else if (sscanf(line, "step %d %d", &vcpu, &other) == 2)
			step(vcpu, other);
		else if (!strncmp(line, "start", 5))
			start();
		else
			return 2;
	}
	return 0;
}

struct job {
	int vcpu, requests;
	u64 seed;
};

static void *thread(void *argument)
{
	const struct job *job = argument;
	struct kvm_mtrr_zap_range ranges[2];

	me = job->vcpu;
	seed = job->seed;
	for (int i = 0; i < job->requests; i++) {
		int nr = 1 + next_random() % 2;

		pthread_mutex_lock(&order);
		printf("call %d", me);
		for (int j = 0; j < nr; j++) {
			u64 size = 1ULL << (next_random() % 12);

			ranges[j].start = next_random() % 32 * size;
			ranges[j].end = ranges[j].start + size;
			if (next_random() % 4 == 0)
				ranges[j] = (struct kvm_mtrr_zap_range){ 0, BIT_ULL(52) };
			printf(" %" PRIu64 " %" PRIu64, ranges[j].start, ranges[j].end);
		}
		putchar('\n');
		pthread_mutex_unlock(&order);
		PROTOCOL(&the_vm, ranges, nr);
		pthread_mutex_lock(&order);
		printf("return %d\n", me);
		pthread_mutex_unlock(&order);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct job jobs[MAX_VCPUS];
	pthread_t ids[MAX_VCPUS];
	int threads;

	start();
	if (argc < 4)
		return scheduled();
	threads = atoi(argv[1]);
	if (threads < 1 || threads > MAX_VCPUS)
		return 2;
	freely = true;
	for (int i = 0; i < threads; i++) {
		jobs[i] = (struct job){ i, atoi(argv[2]),
					0x9e3779b97f4a7c15ULL * (strtoull(argv[3], NULL, 0) * 8 + i + 1) };
		if (pthread_create(&ids[i], NULL, thread, &jobs[i]))
			return 2;
	}
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	return 0;
}
