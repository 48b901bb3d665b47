/* Operations that are functions: one step each, whatever they do inside. */
#define step_gfn(x)	((u64)((x) > BIT_ULL(52) ? BIT_ULL(52) : (x)))

#define step_added(object, start, end, call) ({			\
	bool new_;						\
								\
	step_begin();						\
	new_ = (call);						\
	step_end(object, "add %" PRIu64 " %" PRIu64 " = %d",	\
		 step_gfn(start), step_gfn(end), new_);		\
	new_;							\
})
#define kvm_mtrr_zap_list_add(list, spare, start, end)		\
	step_added(list, start, end,				\
		   (kvm_mtrr_zap_list_add)(list, spare, start, end))
#define kvm_mtrr_zap_array_add(array, start, end)		\
	step_added(array, start, end,				\
		   (kvm_mtrr_zap_array_add)(array, start, end))

#define kvm_mtrr_zap_list_pop(list, range) ({			\
	bool some_;						\
								\
	step_begin();						\
	some_ = (kvm_mtrr_zap_list_pop)(list, range);		\
	if (some_)						\
		step_end(list, "pop_first = %" PRIu64 " %" PRIu64,\
			 step_gfn((range)->start),		\
			 step_gfn((range)->end));		\
	else							\
		step_end(list, "pop_first = none");		\
	some_;							\
})
#define kvm_mtrr_zap_list_clear(list) do {			\
	step_begin();						\
	(kvm_mtrr_zap_list_clear)(list);			\
	step_end(list, "clear");				\
} while (0)

#define kvm_mtrr_zap_array_take(array, batch) ({		\
	char text_[16 * 42] = "";				\
	int nr_;						\
								\
	step_begin();						\
	nr_ = (kvm_mtrr_zap_array_take)(array, batch);		\
	for (int i_ = 0, at_ = 0; i_ < nr_; i_++)		\
		at_ += sprintf(text_ + at_, " %" PRIu64 " %" PRIu64,\
			       (batch)[i_].start, (batch)[i_].end);\
	step_end(array, "take =%s", text_);			\
	nr_;							\
})
#define kvm_mtrr_zap_array_empty(array) ({			\
	bool empty_;						\
								\
	step_begin();						\
	empty_ = (kvm_mtrr_zap_array_empty)(array);		\
	step_end(array, "is_empty = %d", empty_);		\
	empty_;							\
})

#define kvm_mtrr_seq_advance(seq) do {				\
	step_begin();						\
	(kvm_mtrr_seq_advance)(seq);				\
	step_end(seq, "advance");				\
} while (0)
#define kvm_mtrr_zap_relax(times) do {				\
	step_begin();						\
	(kvm_mtrr_zap_relax)(0);				\
	step_end("cpu", "relax %d", (int)(times));		\
} while (0)
