/* Not the kernel's: only the places that the patch looks for. */
void kvm_post_set_cr0(struct kvm_vcpu *vcpu, unsigned long old_cr0, unsigned long cr0)
{
	if (((cr0 ^ old_cr0) & X86_CR0_CD) &&
	    kvm_mmu_honors_guest_mtrrs(vcpu->kvm) &&
	    !kvm_check_has_quirk(vcpu->kvm, KVM_X86_QUIRK_CD_NW_CLEARED))
		kvm_zap_gfn_range(vcpu->kvm, 0, ~0ULL);
}

int kvm_arch_init_vm(struct kvm *kvm, unsigned long type)
{
	atomic_set(&kvm->arch.noncoherent_dma_count, 0);
	return 0;
}
