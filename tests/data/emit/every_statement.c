void kvm_mtrr_zap_gfn_ranges(struct kvm *kvm,
			     const struct kvm_mtrr_zap_range *ranges,
			     int nr_ranges)
{
	struct kvm_mtrr_zap *z = &kvm->arch.mtrr_zap;
	struct kvm_mtrr_zap_range each;
	int inside, total, i;
	gfn_t start, end;

	inside = atomic_enter(&z->counter);
	total = 0;
	for (i = 0; i < nr_ranges; i++) {
		each = ranges[i];
		total += 2;
		start = each.start;
		end = each.end;
		if (inside == 0 && !smp_load_acquire(&z->flag)) {
			kvm_zap_gfn_range(kvm, start, end);
		} else if (READ_ONCE(z->plain) >= 3) {
			kvm_zap_gfn_range(kvm, each.start, each.end);
			break;
		} else {
			kvm_mtrr_twice(kvm, start, end);
		}
	}
	while (!kvm_mtrr_ready(kvm)) {
	}
	atomic_leave(&z->counter, (total - 1));
}
