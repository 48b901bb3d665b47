/* CR0.CD was toggled: zap what has another type now. */
void kvm_mtrr_cr0_cd_changed(struct kvm_vcpu *vcpu)
{
	struct kvm_mtrr_zap_range ranges[KVM_NR_VAR_MTRR + 1];
	struct kvm_mtrr *state = &vcpu->arch.mtrr_state;
	gfn_t start, end;
	int i, nr = 0;
	u8 type;

	WHETHER
	type = mtrr_is_enabled(state) ? mtrr_default_type(state) :
					mtrr_disabled_type(vcpu);
	/* CR0.CD = 1 is WB; without the quirk UC that ignores the PAT. */
	if (type != MTRR_TYPE_WRBACK ||
	    !kvm_check_has_quirk(vcpu->kvm, KVM_X86_QUIRK_CD_NW_CLEARED)) {
		ranges[0].start = 0;
		ranges[0].end = END;
		ENTRY(vcpu->kvm, ranges, 1);
		return;
	}
	if (!mtrr_is_enabled(state))
		return;

	for (i = 0; i < ARRAY_SIZE(state->fixed_ranges); i++) {
		if (state->fixed_ranges[i] == type)
			continue;
		ranges[nr].start = 0;
		ranges[nr++].end = gpa_to_gfn(BIT_ULL(20));
		break;
	}
	for (i = 0; i < KVM_NR_VAR_MTRR; i++) {
		if (!var_mtrr_range_is_valid(&state->var_ranges[i]) ||
		    (state->var_ranges[i].base & 0xff) == type)
			continue;
		var_mtrr_range(&state->var_ranges[i], &start, &end);
		ranges[nr].start = gpa_to_gfn(start);
		ranges[nr++].end = gpa_to_gfn(end);
	}
	ENTRY(vcpu->kvm, ranges, nr);
}
