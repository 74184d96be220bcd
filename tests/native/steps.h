/* Forced into the engine's sources (cc -include): each atomic operation is a step, before which another may go on. */
#ifndef TIDEGATE_STEPS_H
#define TIDEGATE_STEPS_H

void tg_step(void);

#define __atomic_load_n(...) (tg_step(), __atomic_load_n(__VA_ARGS__))
#define __atomic_store_n(...) (tg_step(), __atomic_store_n(__VA_ARGS__))
#define __atomic_compare_exchange_n(...) (tg_step(), __atomic_compare_exchange_n(__VA_ARGS__))

#endif
