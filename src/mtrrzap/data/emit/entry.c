struct kvm_mtrr_zap_entry {
	struct list_head node;
	gfn_t start;
	gfn_t end;
};

/* Allocate an entry for a range that is about to be queued. */
static bool kvm_mtrr_zap_alloc(struct list_head *spare)
{
	struct kvm_mtrr_zap_entry *entry;

	entry = kmalloc(sizeof(*entry), GFP_KERNEL_ACCOUNT);
	if (!entry)
		return false;
	list_add_tail(&entry->node, spare);
	return true;
}

/* Free what was allocated and not queued: duplicates. */
static void kvm_mtrr_zap_free(struct list_head *spare)
{
	struct kvm_mtrr_zap_entry *entry, *next;

	list_for_each_entry_safe(entry, next, spare, node) {
		list_del(&entry->node);
		kfree(entry);
	}
}
