/**
 * Derives the expert that `flexmesh publish` publishes, if that is another one than `train` calibrated and scored:
 * reduced to a rank, trained elsewhere, or without its router statistics. Calibrates and scores it as it is published.
 * The training itself is not changed. Knows nothing about packages.
 */
import type { ScratchWeights } from '../checkpoint/scratch-weights.ts'
import { InputError } from '../lib/errors.ts'
import { FACTORS, FFN_PROJECTIONS } from '../lib/tensor-names.ts'
import { checkRank, lowRankOf } from '../model/low-rank.ts'
import { expertRank } from '../model/params.ts'
import { calibrate } from './calibrate.ts'
import { ownHeldOut, publicHeldOut } from './held-out.ts'
import type { OwnerWorkplace } from './owner-jobs.ts'
import type { Derivation } from './pack-training.ts'
import { type PublishRequest, statisticsChoice, type TrainedExpert } from './release.ts'
import { publicStatistics } from './statistics.ts'
import { loadConstantRows, loadTrained, needsCalibration, trainingDirs } from './training-folder.ts'

export type DeriveProgress =
  /** Weight matrices reduced so far, and in total. */
  { readonly stage: 'cut'; readonly done: number; readonly total: number } | { readonly stage: 'calibrate' }

/** What is derived, and how. */
export type DeriveRequest = Pick<PublishRequest, 'name' | 'rank' | 'statistics'>

/**
 * The expert that is published.
 * @param scratch receives the factors of an expert that is reduced to a rank
 * @returns `derivation` undefined for an expert as `train` released it.
 * @throws InputError `not-found` before the training has finished; `usage` for a rank that does not fit the model or is
 * not below the expert's own; the signal's reason.
 */
export async function derive(
  workplace: OwnerWorkplace,
  { name, rank, statistics }: DeriveRequest,
  scratch: ScratchWeights,
  signal: AbortSignal,
  report: (progress: DeriveProgress) => void,
): Promise<{ readonly trained: TrainedExpert; readonly derivation: Derivation | undefined }> {
  const { publicModel, training } = workplace
  if (rank !== undefined) checkRank(publicModel.config, rank)
  const trained = await loadTrained(publicModel, training, name)
  // Without statistics, nodes route the expert by its rows.
  const withStatistics = statisticsChoice(statistics, trained.result) !== 'none'
  if (rank === undefined && !(await needsCalibration(training, name, withStatistics))) {
    return { trained, derivation: undefined }
  }
  const cut = rank === undefined ? undefined : await cutTo(workplace, trained, rank, scratch, signal, report)
  report({ stage: 'calibrate' })
  const { expert } = cut ?? trained
  const published = withStatistics ? expert : { ...expert, statistics: undefined }
  const derived = await recalibrate(workplace, { expert: published, result: trained.result }, signal)
  const { own, public: shared, calibration } = derived.result
  return {
    trained: derived,
    derivation: {
      ...(cut && { energyKept: cut.energyKept }),
      ...(own && { own }),
      ...(shared && { public: shared }),
      ...(calibration && { calibration }),
    },
  }
}

/** The expert reduced to `rank`, and the share of the squared norm of its difference that it keeps. */
async function cutTo(
  { engine, publicModel }: OwnerWorkplace,
  { expert, result }: TrainedExpert,
  rank: number,
  scratch: ScratchWeights,
  signal: AbortSignal,
  report: (progress: DeriveProgress) => void,
) {
  const before = expertRank(expert)
  if (before !== 0 && rank >= before) {
    throw new InputError(
      'usage',
      `${result.name} was trained at rank ${before}; leave out --rank to publish it at that rank, or give a lower one`,
    )
  }
  const total = FFN_PROJECTIONS.length * publicModel.config.numHiddenLayers
  let factors = 0
  report({ stage: 'cut', done: 0, total })
  return lowRankOf(engine, expert, publicModel.weights, rank, signal, async (factor) => {
    const weight = await scratch.add(factor)
    report({ stage: 'cut', done: Math.floor(++factors / FACTORS.length), total })
    return weight
  })
}

/** Calibrate an expert and score it. */
async function recalibrate(
  { engine, publicModel, training }: OwnerWorkplace,
  trained: TrainedExpert,
  signal: AbortSignal,
): Promise<TrainedExpert> {
  const { calibration: _, ...result } = trained.result
  const { name } = result
  const own = await ownHeldOut(publicModel, training, name)
  const texts = {
    ...(own.length === 0 ? {} : { own }),
    public: await publicHeldOut(publicModel, training, signal),
  }
  const { expert, calibration, score } = await calibrate(
    {
      engine,
      model: publicModel,
      constantRows: await loadConstantRows(trainingDirs(training, name), publicModel.config),
      publicStatistics: () => publicStatistics(publicModel, training, signal),
      texts,
      signal,
    },
    trained.expert,
  )
  return {
    expert,
    result: {
      ...result,
      ...score,
      ...(calibration && { calibration }),
    },
  }
}
