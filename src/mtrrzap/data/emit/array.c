/*
 * A block of gfns whose size is a power of two and whose start is a multiple
 * of its size, as an MTRR describes it: bits 57:6 are the start, bits 5:0 the
 * order of the size. No entry is 0: all ranges below 1 MiB share one.
 */
#define KVM_MTRR_ZAP_ENTRIES	16
struct kvm_mtrr_zap_array {
	u64 entries[KVM_MTRR_ZAP_ENTRIES];
};

static_assert(sizeof(struct kvm_mtrr_zap_array) == 128);

#define KVM_MTRR_ZAP_ORDER	GENMASK_ULL(5, 0)
#define KVM_MTRR_ZAP_TOP	BIT_ULL(52)

/* The smallest block around a range: more may be zapped, never less. */
static u64 kvm_mtrr_zap_pack(gfn_t start, gfn_t end)
{
	unsigned int order;

	if (end > KVM_MTRR_ZAP_TOP)
		end = KVM_MTRR_ZAP_TOP;
	order = fls64(start ^ (end - 1));
	return (start >> order << order) << 6 | order;
}

static struct kvm_mtrr_zap_range kvm_mtrr_zap_unpack(u64 entry)
{
	gfn_t start = entry >> 6;

	return (struct kvm_mtrr_zap_range){
		.start = start,
		.end = start + BIT_ULL(entry & KVM_MTRR_ZAP_ORDER),
	};
}

static bool kvm_mtrr_zap_covers(u64 entry, u64 other)
{
	struct kvm_mtrr_zap_range outer = kvm_mtrr_zap_unpack(entry);
	struct kvm_mtrr_zap_range inner = kvm_mtrr_zap_unpack(other);

	return outer.start <= inner.start && inner.end <= outer.end;
}

/*
 * Queue a range, sorted by start; false: an entry covers it already. All fixed
 * MTRRs share one entry. If the other 15 are taken, purge the array and queue
 * everything, so that other vCPUs see it.
 */
static bool kvm_mtrr_zap_array_add(struct kvm_mtrr_zap_array *array,
				   gfn_t start, gfn_t end)
{
	const u64 fixed = kvm_mtrr_zap_pack(0, 0x100);
	u64 entry = end <= 0x100 ? fixed : kvm_mtrr_zap_pack(start, end);
	unsigned int i, others = entry != fixed;

	for (i = 0; i < ARRAY_SIZE(array->entries) && array->entries[i]; i++) {
		if (kvm_mtrr_zap_covers(array->entries[i], entry))
			return false;
		others += array->entries[i] != fixed;
	}

	if (others == ARRAY_SIZE(array->entries)) {
		memset(array, 0, sizeof(*array));
		array->entries[0] = kvm_mtrr_zap_pack(0, KVM_MTRR_ZAP_TOP);
		return true;
	}

	for (; i && array->entries[i - 1] > entry; i--)
		array->entries[i] = array->entries[i - 1];
	array->entries[i] = entry;
	return true;
}

/* Empty the array into a batch, neighbours merged; return its ranges. */
static int kvm_mtrr_zap_array_take(struct kvm_mtrr_zap_array *array,
				   struct kvm_mtrr_zap_range *batch)
{
	unsigned int i;
	int nr = 0;

	for (i = 0; i < ARRAY_SIZE(array->entries) && array->entries[i]; i++) {
		struct kvm_mtrr_zap_range range;

		range = kvm_mtrr_zap_unpack(array->entries[i]);
		if (nr && range.start <= batch[nr - 1].end)
			batch[nr - 1].end = max(batch[nr - 1].end, range.end);
		else
			batch[nr++] = range;
	}
	memset(array, 0, sizeof(*array));
	return nr;
}

static bool kvm_mtrr_zap_array_empty(const struct kvm_mtrr_zap_array *array)
{
	return !array->entries[0];
}
