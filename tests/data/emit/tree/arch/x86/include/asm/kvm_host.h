/* Not the kernel's: only the places that the patch looks for. */
struct kvm_arch {
	int before;
	atomic_t noncoherent_dma_count;
	int after;
};
