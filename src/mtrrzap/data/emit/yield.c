/*
 * Between two looks at what another vCPU will change: the one that zaps may
 * need this CPU, because it gives its own away in a long walk. All that wait
 * here hold no lock, and may sleep: so must the callers of kvm_zap_gfn_range().
 */
static void kvm_mtrr_zap_yield(void)
{
	cpu_relax();
	cond_resched();
}
