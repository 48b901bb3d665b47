/* Not the kernel's: only the places that the patch looks for. */
void kvm_vcpu_mtrr_init(struct kvm_vcpu *vcpu);
