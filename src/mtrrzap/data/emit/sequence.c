/* Numbers may wrap around: only their distance means anything. */
static bool kvm_mtrr_seq_reached(unsigned long at, unsigned long number)
{
	return (long)(at - number) >= 0;
}

/* Called with the lock that protects the sequence. */
static void kvm_mtrr_seq_advance(unsigned long *seq)
{
	++*seq;
}
