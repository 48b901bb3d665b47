static void kvm_mtrr_zap_relax(unsigned int times)
{
	while (times--)
		cpu_relax();
}
