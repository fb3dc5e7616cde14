/**
 * What a training will take: its plan, from the request, the memory of this machine and an earlier run's checkpoint.
 * Reads no weights.
 */

import { defaultMemoryBudget } from '../lib/memory.ts'
import { factorName, PAIR_EXPERT } from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import { checkRank } from '../model/low-rank.ts'
import { planTraining, type TrainingPlan } from '../training/training-plan.ts'
import { checkpointFile } from './checkpoint-file.ts'
import { TRAIN_DEFAULTS } from './train-defaults.ts'
import type { TrainRequest } from './train-expert.ts'
import type { TrainingDirs } from './training-folder.ts'

/**
 * The plan of a training. A training that was begun keeps the rank of its checkpoint, unless the request names one.
 * @throws InputError `usage` for a rank that does not fit the model; `out-of-memory` if nothing fits the memory.
 */
export async function planOf(
  config: ModelConfig,
  dirs: TrainingDirs,
  { rank, memory, accumulate, privacy }: Pick<TrainRequest, 'rank' | 'memory' | 'accumulate' | 'privacy'>,
): Promise<TrainingPlan> {
  checkRank(config, rank ?? 0)
  const { B, T } = TRAIN_DEFAULTS
  return planTraining(config, {
    rank: rank ?? (await begunRank(config, dirs)) ?? (privacy && TRAIN_DEFAULTS.privateRank),
    B,
    T,
    accumulate,
    isPrivate: privacy !== undefined,
    budget: memory ?? defaultMemoryBudget(),
  })
}

/** Rank of the expert in the training's checkpoint; undefined if there is no checkpoint. */
async function begunRank({ hiddenSize }: ModelConfig, dirs: TrainingDirs): Promise<number | undefined> {
  const saved = await checkpointFile(dirs.checkpoint).load()
  return saved && (saved.lengths.get(factorName(0, PAIR_EXPERT, 'gate_proj', 'A')) ?? 0) / hiddenSize
}
