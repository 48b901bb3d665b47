/*
 * Length ascending, then start descending: long ranges are taken late and have
 * more time to be found duplicated.
 */
static bool kvm_mtrr_zap_list_before(struct kvm_mtrr_zap_entry *entry,
				     gfn_t start, gfn_t end)
{
	if (entry->end - entry->start != end - start)
		return entry->end - entry->start < end - start;
	return entry->start > start;
}

/* Queue a range in order; false: the same range is queued already. */
static bool kvm_mtrr_zap_list_add(struct list_head *list,
				  struct list_head *spare,
				  gfn_t start, gfn_t end)
{
	struct list_head *after = list;
	struct kvm_mtrr_zap_entry *entry;

	list_for_each_entry(entry, list, node) {
		if (entry->start == start && entry->end == end)
			return false;
		if (!kvm_mtrr_zap_list_before(entry, start, end)) {
			after = &entry->node;
			break;
		}
	}

	if (WARN_ON_ONCE(list_empty(spare)))
		return false;
	entry = list_first_entry(spare, struct kvm_mtrr_zap_entry, node);
	list_del(&entry->node);
	entry->start = start;
	entry->end = end;
	list_add_tail(&entry->node, after);
	return true;
}

/* Take the first range off; false: nothing is queued. */
static bool kvm_mtrr_zap_list_pop(struct list_head *list,
				  struct kvm_mtrr_zap_range *range)
{
	struct kvm_mtrr_zap_entry *entry;

	if (list_empty(list))
		return false;
	entry = list_first_entry(list, struct kvm_mtrr_zap_entry, node);
	list_del(&entry->node);
	range->start = entry->start;
	range->end = entry->end;
	kfree(entry);
	return true;
}

static void kvm_mtrr_zap_list_clear(struct list_head *list)
{
	kvm_mtrr_zap_free(list);
}
