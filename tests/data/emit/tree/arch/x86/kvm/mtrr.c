/* Not the kernel's: only the places that the patch looks for. */
static void another(int a)
{
	a = 1;
}

static void update_mtrr(struct kvm_vcpu *vcpu, u32 msr)
{
	struct kvm_mtrr *mtrr_state = &vcpu->arch.mtrr_state;
	gfn_t start, end;

	if (!mtrr_is_enabled(mtrr_state) && msr != MSR_MTRRdefType)
		return;
	start = end = 0;
	kvm_zap_gfn_range(vcpu->kvm, gpa_to_gfn(start), gpa_to_gfn(end));
}

static bool var_mtrr_range_is_valid(struct kvm_mtrr_range *range)
{
	return range;
}

static void last(void)
{
}
