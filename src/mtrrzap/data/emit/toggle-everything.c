/* CR0.CD was toggled: the types of all memory may have changed. */
void kvm_mtrr_cr0_cd_changed(struct kvm_vcpu *vcpu)
{
	struct kvm_mtrr_zap_range range = { 0, gpa_to_gfn(~0ULL) };

	WHETHER
	ENTRY(vcpu->kvm, &range, 1);
}
