/**
 * What a training would find in its text and take of this machine. Reads the text and writes nothing. Does not know how
 * the text is trained on.
 */
import { join } from 'node:path'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { type CorpusStats, openCorpus } from '../data/corpus.ts'
import { type CorpusWarning, corpusWarnings } from '../data/corpus-warnings.ts'
import { previewCorpus } from '../data/prepare-corpus.ts'
import type { PrepareProgress } from '../data/prepare-progress.ts'
import { pathExists } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import type { TrainingPlan } from '../training/training-plan.ts'
import { settle } from './private-text.ts'
import { requireNoLimit } from './spend-training.ts'
import type { TrainRequest } from './train-expert.ts'
import { planOf } from './train-plan.ts'
import { trainingDirs } from './training-folder.ts'
import { amountOf, noTextGiven, ownTokensRead } from './training-text.ts'

export interface TrainingPreview {
  readonly name: string
  /** Whether an earlier run has prepared the text, which this training then continues on. */
  readonly isBegun: boolean
  readonly steps: number
  readonly stats: CorpusStats
  readonly warnings: readonly CorpusWarning[]
  readonly plan: TrainingPlan
}

/** @throws InputError as `prepareText`, unless a begun training was begun on another text. */
export async function previewTraining(
  model: PublicModel,
  trainingRoot: string,
  asked: TrainRequest,
  signal: AbortSignal,
  onProgress: (progress: PrepareProgress) => void,
): Promise<TrainingPreview> {
  const dirs = trainingDirs(trainingRoot, asked.name)
  const request = await settle(dirs, asked)
  const plan = await planOf(model.config, dirs, request)
  if (request.privacy === undefined) await requireNoLimit(trainingRoot, request.name)
  const isBegun = await pathExists(join(dirs.corpus, 'corpus.json'))
  const stats = isBegun ? await statsOf(dirs.corpus, model) : await found()
  // A private training is not told to read all of its text: more steps need more noise.
  const tokens = request.privacy === undefined ? ownTokensRead(request) : stats.train.tokens
  const warnings = corpusWarnings(stats, { steps: request.steps, tokens })
  return { name: request.name, isBegun, steps: request.steps, stats, warnings, plan }

  function found(): Promise<CorpusStats> {
    if (request.paths.length === 0) throw noTextGiven(request.name)
    const { paths, column } = request
    const { tokenizer } = model
    const minTrainTokens = limit('trainTokens')
    return previewCorpus({
      paths,
      column,
      tokenizer,
      minTrainTokens,
      ...amountOf(request),
      signal,
      onProgress,
    })
  }
}

async function statsOf(dir: string, { tokenizer }: PublicModel): Promise<CorpusStats> {
  const corpus = await openCorpus(dir, tokenizer)
  await corpus.close()
  return corpus.stats
}
