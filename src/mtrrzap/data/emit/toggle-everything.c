/* CR0.CD was toggled: the types of all memory may have changed. */
void kvm_mtrr_cr0_cd_changed(struct kvm_vcpu *vcpu)
{
	struct kvm_mtrr_zap_range range = { 0, END };

	WHETHER
	ENTRY(vcpu->kvm, &range, 1);
}
